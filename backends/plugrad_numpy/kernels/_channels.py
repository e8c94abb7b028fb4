"""Statistics of channels, and what is scaled and shifted channel by channel, whatever the layout in memory.

An array (N, C, *S) is viewed in three axes, (a, b, w), so that each pass runs along long rows of memory:

- channels last, that is memory (N, *S, C): columns belong to channels. Where C is small, a row takes several
  positions, and each channel several columns.
- channels first, with few positions: a row is all of (C, *S), and a channel has a column for each position.
- channels first, with many positions: rows (n, c) belong to channels.

Blocks of the view stay in the cache. Sums over columns and along rows are products with ones. What is added up
over blocks is added in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from plugrad_numpy import _blas, _parallel
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._precision import given, is_low, widened
from plugrad_numpy.kernels._rows import ones
from plugrad_numpy.kernels._silent import silent

Array = Any

_LONG: Final = 256
"""Elements from which a row of memory pays for its scalar operand."""

_WIDE: Final = 2048
"""Elements that a row of small channels is widened to."""

_LARGE: Final = 1 << 15
"""Elements of an array from which that pays."""

_BYTES: Final = 1 << 21
"""Bytes of a block. Threads wait for the interpreter lock between the calls on smaller ones: a batch norm of 2^20
elements on two threads takes twice as long in blocks of 256 kB."""

_SHARED: Final = 1 << 20
"""Elements from which the work is shared among threads."""

_WORTH: Final = 1 << 17
"""Elements that a thread works through while another wakes up."""

_PILOT: Final = 32
"""Rows whose mean is subtracted before sums of squares are made, so that no digits cancel."""

Block = tuple[slice, slice]


def _parts(length: int, width: int) -> list[slice]:
    """``length`` rows of ``width`` elements, cut into a slice for each thread."""
    if length * width < _SHARED or _parallel.is_inside():
        return [slice(0, length)]
    return _parallel.pieces(length, -(-_WORTH // width))


class Channels:
    """How arrays of one shape and layout are viewed.

    Attributes:
        wide: the dtype that is computed in.
        together: whether there is one statistic over all of the batch, not one for each of its N.
        order: the axes of (N, C, *S) in the order of the view's memory.
        view_shape: the shape (a, b, w) of the view.
        rows: whether rows, not columns, belong to channels.
        columns: how columns divide: into several of each channel and the channels, in the order of memory.
        spread: the axis of ``columns`` that is not the channels.
    """

    def __init__(self, x: Array, *, together: bool) -> None:
        """View arrays like ``x``."""
        self.shape = x.shape
        self.dtype = x.dtype
        self.wide = np.dtype(np.float32) if is_low(x.dtype) else x.dtype
        self.together = together
        self.batch, self.channels = x.shape[:2]
        positions = math.prod(x.shape[2:])
        axes = tuple(range(x.ndim))
        last = (0, *axes[2:], 1)
        self.rows = False
        self.columns: tuple[int, ...] = (1, self.channels)
        self.spread = 0
        if positions == 1 or x.transpose(last).flags.c_contiguous:
            self.order = last
            length = self.batch * positions if together else positions
            times = 1
            if x.size >= _LARGE and self.channels < _WIDE:
                times = math.gcd(length, 1 << (_WIDE // self.channels).bit_length() - 1)
            self.columns = (times, self.channels)
            self.view_shape = (1 if together else self.batch, length // times, times * self.channels)
        else:
            self.order = axes
            if together and positions < _LONG:
                self.columns, self.spread = (self.channels, positions), 1
                self.view_shape = (1, self.batch, self.channels * positions)
            else:
                self.rows = True
                self.view_shape = (self.batch, self.channels, positions)
        inner = tuple(x.shape[i] for i in self.order)
        self._inner, self._back = inner, tuple(self.order.index(i) for i in axes)

    def view(self, x: Array) -> Array:
        """``x`` in three axes; a copy where its memory runs otherwise."""
        return np.ascontiguousarray(x.transpose(self.order)).reshape(self.view_shape)

    def _coefficients(self, values: Array) -> Array:
        """``values``, (C,) or (N, C), as they broadcast to the view."""
        values = values.astype(self.wide, copy=False)
        if values.ndim == 1:
            values = values[None]
        if self.rows:
            return values[:, :, None]
        if self.columns[self.spread] != 1:
            each = np.empty((len(values), *self.columns), self.wide)
            each[...] = values[:, None] if self.spread == 0 else values[:, :, None]
            values = each
        return values.reshape(len(values), 1, math.prod(self.columns))

    def _pieces(self) -> list[list[Block]]:
        """The blocks of the view, those of each thread: of the first axis, or where that is 1, of the second."""
        outer, inner, width = self.view_shape
        each = inner * width
        if not outer * each:
            return [[]]
        if outer == 1:
            return [[(slice(0, 1), cut) for cut in self._cuts(part, width)] for part in _parts(inner, width)]
        parts = _parts(outer, each)
        if each * self.wide.itemsize <= _BYTES:
            return [[(cut, slice(0, inner)) for cut in self._cuts(part, each)] for part in parts]
        cuts = self._cuts(slice(0, inner), width)
        return [[(slice(a, a + 1), cut) for a in range(p.start, p.stop) for cut in cuts] for p in parts]

    def _cuts(self, part: slice, width: int) -> list[slice]:
        """A slice of rows of ``width`` elements in even slices that stay in the cache."""
        length = part.stop - part.start
        count = min(length, -(-length * width * self.wide.itemsize // _BYTES))
        bounds = [part.start + length * i // count for i in range(count + 1)]
        return [slice(a, b) for a, b in pairwise(bounds)]

    def _blocks(self, work: Callable[[Block, Array], None], sums: int) -> Array:
        """Call ``work(block, sums)`` on all blocks; return the sums over all of them, (sums, a, columns or rows)."""
        outer, inner, width = self.view_shape
        pieces = self._pieces()
        shape = (sums, outer, inner if self.rows else width)
        totals = [np.zeros(shape) for _ in pieces]

        @silent
        def piece(i: int) -> None:
            for block in pieces[i]:
                work(block, totals[i])

        if len(pieces) == 1:
            piece(0)
            return totals[0]
        with _blas.single_threaded():
            _parallel.run(piece, range(len(pieces)))
        total = totals[0]
        for other in totals[1:]:
            total += other
        return total

    def _add(self, total: Array, block: Block, values: Array) -> None:
        """Add the sums of ``values`` over columns or along rows."""
        if self.rows:
            total[block] += values @ ones(values.shape[2], self.wide)
        else:
            total[block[0]] += np.matmul(ones(values.shape[1], self.wide), values)

    def moments(self, x: Array) -> tuple[Array, Array, int]:
        """From a view: the means, the sums of squared distances from them, and of how many elements each is.

        The first two are float64, (C,) or (N, C).
        """
        outer, inner, width = self.view_shape
        if self.rows:
            count = width

            def work(block: Block, sums: Array) -> None:
                values = widened(x[block])
                mean = values @ ones(width, self.wide) * self.wide.type(1 / max(1, width))
                centred = np.subtract(values, mean[:, :, None], out=scratch("0", values.shape, self.wide))
                sums[0][block] = mean
                sums[1][block] = np.vecdot(centred, centred)

            mean, squares = self._blocks(work, 2)
        else:
            count = inner
            head = x[:, :_PILOT]
            pilot = np.add.reduce(head, axis=1, keepdims=True, dtype=self.wide)
            pilot *= self.wide.type(1 / max(1, head.shape[1]))

            def work(block: Block, sums: Array) -> None:
                values = widened(x[block])
                values = np.subtract(values, pilot[block[0]], out=scratch("0", values.shape, self.wide))
                self._add(sums[0], block, values)
                self._add(sums[1], block, np.multiply(values, values, out=values))

            total, squares = self._blocks(work, 2)
            mean = total / max(1, count)
            squares -= total * mean
            np.maximum(squares, 0, out=squares)
            mean += pilot[:, 0]
            axis = self.spread + 1
            each = (outer, *self.columns)
            mean, squares, count = merged(mean.reshape(each), squares.reshape(each), count, axis)
        if self.rows and self.together:
            return merged(mean, squares, count, 0)
        return (mean[0], squares[0], count) if self.together else (mean, squares, count)

    def sums(self, ct: Array, x: Array | None, mean: Array | None) -> tuple[Array, Array]:
        """From views: the sums of ``ct``, and those of ``ct * (x - mean)`` where ``x`` is given; (C,) or (N, C)."""
        centre = None if mean is None else self._coefficients(mean)

        def work(block: Block, sums: Array) -> None:
            values = widened(ct[block])
            self._add(sums[0], block, values)
            if x is not None:
                buffer = scratch("0", values.shape, self.wide)
                centred = np.subtract(widened(x[block]), self._part(centre, block), out=buffer)
                self._add(sums[1], block, np.multiply(centred, values, out=buffer))

        found = self._blocks(work, 2)
        if self.rows:
            folded = found.sum(axis=1) if self.together else found
        else:
            folded = found.reshape(2, found.shape[1], *self.columns).sum(axis=self.spread + 2)
            folded = folded[:, 0] if self.together else folded
        return folded[0], folded[1]

    def _part(self, coefficients: Array, block: Block) -> Array:
        if len(coefficients) > 1:
            coefficients = coefficients[block[0]]
        return coefficients[:, block[1]] if self.rows else coefficients

    def writable(self, array: Array) -> bool:
        """Whether `view` gives the memory of ``array`` itself."""
        return bool(array.transpose(self.order).flags.c_contiguous)

    def empty(self, dtype: Any) -> Array:
        """A new array of the shape and the layout of x."""
        return np.empty(self._inner, dtype).transpose(self._back)

    def combined(
        self,
        terms: Sequence[tuple[Array, Array]],
        shift: Array | None,
        into: Array | None,
        finish: Callable[[slice, slice], None] | None = None,
    ) -> Array:
        """The sum of views, each times its coefficients, plus ``shift``, as an array of the shape and layout of x.

        ``finish`` is called for each block of the result's view, if that is of no 16-bit floats, once it is there.
        """
        place: Any = None if into is None else into.transpose(self.order)
        direct = place is not None and place.flags.c_contiguous and place.dtype == self.dtype
        target = place if direct else np.empty(self._inner, self.dtype)
        flat = target.reshape(self.view_shape)
        low = self.dtype != self.wide
        scales = [(view, self._coefficients(values)) for view, values in terms]
        offset = None if shift is None else self._coefficients(shift)

        def work(block: Block, _: Array) -> None:
            buffer = flat[block]
            if low:
                buffer = scratch("0", buffer.shape, self.wide)
            for i, (view, scale) in enumerate(scales):
                term = buffer if i == 0 else scratch("1", buffer.shape, self.wide)
                np.multiply(widened(view[block]), self._part(scale, block), out=term)
                if i:
                    buffer += term
            if offset is not None:
                buffer += self._part(offset, block)
            if low:
                flat[block] = buffer
            elif finish is not None:
                finish(*block)

        self._blocks(work, 0)
        return into if direct else given(target.transpose(self._back), into)


def merged(mean: Array, squares: Array, count: int, axis: int) -> tuple[Array, Array, int]:
    """The moments of the union of samples of ``count`` elements each, whose moments stand along ``axis``.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """
    length = mean.shape[axis]
    if length == 1:
        return mean.squeeze(axis), squares.squeeze(axis), count
    together = np.add.reduce(mean, axis=axis, keepdims=True) / length
    centred = mean - together
    spread = np.add.reduce(centred * centred, axis=axis)
    return together.squeeze(axis), np.add.reduce(squares, axis=axis) + count * spread, count * length
