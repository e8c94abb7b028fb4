"""Weights in a form that products with few rows are fast with: for layers that make one product a step.

A BLAS first copies both operands of a product into an order of its own. With 16 rows and a weight of 256x1024, that
takes longer than the product. OpenBLAS spares it where the three sizes together are at most `_SMALL` and its kernels
are made for AVX-512. So the weight is cut into blocks of columns, once, and each product of a block is that small
(measured on Zen 4, one thread, 16 rows: 48 GFLOP/s at once, 112 in blocks; 78 and 80 with kernels for AVX2).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np

from plugrad_numpy._parallel import scratch

Array = Any
_SMALL: Final = 1_000_000
"""Rows times columns times depth of a product that is made from the operands as they lie."""

_WIDTHS: Final = (64, 32, 16)
"""Columns of a block, the best first."""

_ROWS: Final = 8
"""So many rows a call are nearly as fast as more."""

_STRIP: Final = 32
"""Columns that are turned at a time: so many rows of the source stay in the first cache where their stride is a power of 2."""


class Packed:
    """A (depth, columns) matrix in blocks of columns, for products from the left.

    It holds until the next one of this name is made in the same thread.
    """

    def __init__(self, name: str, pieces: Sequence[Array], rows: int, scale: Array | None = None) -> None:
        """Copy a matrix.

        Args:
            name: of the memory.
            pieces: the matrix in parts of its depth, (..., columns) each, one below the other; of any strides, float32
                or float64, all the same.
            rows: of the products at most.
            scale: multiplies the columns, (columns,).
        """
        self.depth, columns = sum(len(p) for p in pieces), pieces[0].shape[1]
        fitting = (w for w in _WIDTHS if min(rows, _ROWS) * w * self.depth <= _SMALL)
        self._width = next(fitting, 0)
        self._count = columns // self._width if self._width else 0
        # A multiple of 8 where there is room, which kernels like, and which divides most numbers of rows.
        most = _SMALL // max(1, self._width * self.depth)
        self._rows = max(1, most // _ROWS * _ROWS or most)
        dtype = pieces[0].dtype
        memory = scratch(f"packed.{name}", (self.depth * columns,), dtype)
        split = self._count * self._width
        self._blocks = memory[: self.depth * split].reshape(self._count, self.depth, self._width)
        self._rest = memory[self.depth * split :].reshape(self.depth, columns - split)
        for (start, stop), piece in zip(
            pairwise(accumulate(map(len, pieces), initial=0)), pieces, strict=True
        ):
            for block, first in zip(self._blocks, range(0, split, max(1, self._width)), strict=True):
                for a in range(0, self._width, _STRIP):
                    b = min(a + _STRIP, self._width)
                    np.copyto(block[start:stop, a:b], piece[:, first + a : first + b])
            for a in range(split, columns, _STRIP):
                np.copyto(self._rest[start:stop, a - split : a - split + _STRIP], piece[:, a : a + _STRIP])
        if scale is not None:
            self._blocks *= scale[:split].reshape(self._count, 1, self._width)
            self._rest *= scale[split:]

    def product(self, x: Array, out: Array) -> None:
        """Write the product of ``x`` (rows, depth) with the matrix to ``out``, whose rows are contiguous."""
        length, split = len(x), self._count * self._width
        if split and length:
            # In one call where that can be: each takes and gives back the interpreter's lock, which others want too.
            step = min(length, self._rows)
            done = length - length % step
            self._stacked(x[:done], out[:done, :split], step)
            if done < length:
                self._stacked(x[done:], out[done:, :split], length - done)
        if split < out.shape[1]:
            np.matmul(x, self._rest, out=out[:, split:])

    def _stacked(self, x: Array, out: Array, step: int) -> None:
        groups = len(x) // step
        result = out.reshape(groups, step, self._count, self._width).transpose(0, 2, 1, 3)
        np.matmul(x.reshape(groups, 1, step, self.depth), self._blocks, out=result)


class Apart:
    """The same interface for a matrix that is not worth copying: a product for each piece."""

    def __init__(self, name: str, pieces: Sequence[Array], rows: int, scale: Array | None = None) -> None:
        """Keep the pieces, with arguments as `Packed` takes them."""
        del name, rows
        self._scale = scale
        bounds = pairwise(accumulate(map(len, pieces), initial=0))
        self._pieces = [(slice(*ab), p) for ab, p in zip(bounds, pieces, strict=True)]

    def product(self, x: Array, out: Array) -> None:
        """Write the product of ``x`` (rows, depth) with the matrix to ``out``."""
        for i, (columns, piece) in enumerate(self._pieces):
            if len(piece) == 1:
                found = x[:, columns] * piece
            elif len(x) == 1:
                found = np.matmul(x[:, columns], piece)
            else:
                # As a product of what is tall and thin, from the right, which takes half the time.
                found = np.matmul(piece.T, x[:, columns].T).T
            if i:
                out += found
            else:
                np.copyto(out, found)
        if self._scale is not None:
            out *= self._scale
