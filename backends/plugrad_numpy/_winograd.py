"""Convolution of 3 by 3 at stride 1 in two dimensions by Winograd's minimal filtering, F(2x2, 3x3).

A tile of 4 by 4 inputs gives 2 by 2 outputs with 16 multiplications of transformed inputs and transformed weights
instead of 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, arXiv:1509.09308). Over
channels and tiles these are 16 matrix products. In one dimension, with data d, kernel g and result y::

    v = (d0 - d2, d1 - d3, d1 + d2, d2 - d1)
    u = (g0, -g2, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2)
    m = u * v
    y = (m0 + (m2 + m3), m1 + (m2 - m3))

and in two dimensions the same along columns, then along rows. The adjoints are of the same form: that in the data
is the convolution of the cotangent with the kernel turned by 180 degrees; that in the kernel is the adjoint of u, of the
products of v and of the adjoint of y.

It is float32 throughout, and for float32 alone: whoever takes float64 wants the last digits, some of which these sums
lose. The rounding error is bounded by the largest magnitudes in a tile, not term by term; on normal data it is no larger
than that of sums of 9 C products, as each sum here is of C. An infinity would become NaN in these differences, so a block with
a result that is not finite is handed back, to be computed by sums of products.

Arrays are (N, H, W, C). A block is some images, or some rows of tiles of one. Within it, memory runs (component, row of
tiles, column of tiles, image, channel): the neighbour of a tile is then a constant distance away, and each step is a
ufunc along long runs. The steps are few: threads that call NumPy every few microseconds wait for the interpreter lock
more than they work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from math import isfinite, prod
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from plugrad_numpy._blas import matmul
from plugrad_numpy._parallel import scratch

__all__ = ["add_products", "correlate", "kernel_gradient", "takes", "transformed"]

Array = np.ndarray[Any, Any]
Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Step = tuple[Callable[..., Any], Array, Array, Array]

_FLOAT32: Final = np.dtype(np.float32)

_LEAST: Final = 16
"""Channels, of either side, from which fewer multiplications outweigh the transforms of data and results."""

_POSITIONS: Final = 256
"""Pixels of all images from which they outweigh the transform of the kernels."""

_WORTH: Final = 1 << 21
"""Pixels times channels of both sides from which they outweigh the calls."""

_BYTES: Final = 1 << 20
"""Bytes of the transformed data and products of a block, about the cache of one core."""

_TILES: Final = 64
"""Tiles that a block has at least, so that packing the weight in each product stays cheap."""

_SIDE: Final = 4
"""Pixels that an image has along each axis: in smaller ones, some weights meet little but padding, whose gradients then
have the rounding errors of the others."""

_PRODUCT: Final = 3 << 18
"""Multiply-adds that each of the 16 products of a block has at least, so that the calls of the block stay cheap."""

_COLUMNS: Final = 4096
"""Columns of a product of few rows, so that the operand stays in the cache while it is packed."""

_KERNEL: Final = np.array([[1, 0, 0], [0, 0, -1], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5]], np.float32)
"""What makes u of g."""

_COMMON: Final = 2
"""The component of m that goes into both results as it is."""


def takes(
    x: Array, outs: int, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int
) -> bool:
    """Whether the convolution of ``x`` (N, H, W, C) to ``outs`` channels is of this form, and faster so."""
    return (
        kernel == (3, 3)
        and x.dtype == _FLOAT32
        and groups == 1
        and stride == dilation == (1, 1)
        and min(map(min, padding)) >= 0
        and min(x.shape[-1], outs) >= _LEAST
        and min(x.shape[1:3]) >= _SIDE
        and prod(x.shape[:3]) >= _POSITIONS
        and x.size * outs >= _WORTH
    )


def transformed(weight: Array, *, turned: bool = False) -> Array:
    """The transformed kernels, in memory that the next call uses again.

    Args:
        weight: (O, C, 3, 3), float32.
        turned: whether to give those of the adjoint in the data, a convolution of O channels to C.

    Returns:
        (16, C, O), or (16, O, C) if turned.
    """
    along = _KERNEL[:, ::-1] if turned else _KERNEL
    both = np.multiply.outer(along, along).transpose(0, 2, 1, 3).reshape(16, 9)
    source = weight.transpose(2, 3, 0, 1) if turned else weight.transpose(2, 3, 1, 0)
    g = scratch("winograd kernel", source.shape, _FLOAT32)
    np.copyto(g, source)
    g = g.reshape(9, -1)
    u = scratch("winograd transformed kernel", (16, g.shape[1]), _FLOAT32)
    for start in range(0, g.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        matmul(both, g[:, part], out=u[:, part])
    return u.reshape(16, *source.shape[2:])


def correlate(x: Array, u: Array, bias: Array | None, y: Array, padding: Pairs, images: slice) -> list[slice]:
    """Write the convolution of ``images`` of ``x`` to those of ``y``.

    Args:
        x: (N, H, W, C), float32.
        u: (16, C, O), as `transformed` gives it.
        bias: (O,), float32, or None.
        y: (N, Ho, Wo, O), float32.
        padding: zeros before and after H and W.
        images: which images.

    Returns:
        Images of which a result is not finite: all of these have yet to be computed.
    """
    outs, left = y.shape[-1], []
    for block in _blocks(images, x.shape, y.shape, padding):
        second = scratch("winograd second", (block.spare(outs),), _FLOAT32)
        data = _Data(block, x, second)
        m = second[: 16 * block.size * outs].reshape(4, 4, -1)
        # The data are done with once the products are made, and lie in the cache.
        sums = _room(data.memory, (2, 4, block.size * outs))
        result = m[2].reshape(2, 2, -1)
        steps: list[Step] = [
            (np.add, m[2], m[3], sums[0]),
            (np.subtract, m[2], m[3], sums[1]),
            (np.add, sums, m[:2], sums),
            (np.add, sums[:, 2], sums[:, 3], result[0]),
            (np.subtract, sums[:, 2], sums[:, 3], result[1]),
            (np.add, result, sums[:, :2].swapaxes(0, 1), result),
        ]
        if bias is not None:
            common = m[_COMMON, _COMMON]
            steps.insert(0, (np.add, common, np.tile(bias, block.size), common))
        flat, rows = result.reshape(-1), result.reshape(-1, outs)
        products = m.reshape(16, block.size, outs)
        for n in block.images:
            data.load(n)
            matmul(data.tiles, u, out=products)
            _run(steps)
            if not isfinite(flat.dot(flat)):
                if n not in left:
                    left.append(n)
                continue
            target = y[n, block.results]
            if target.flags.c_contiguous:
                rows.take(block.order, 0, target.reshape(-1, outs), "clip")
            else:
                copy = scratch("winograd copy", target.shape, _FLOAT32)
                rows.take(block.order, 0, copy.reshape(-1, outs), "clip")
                target[...] = copy
    return left


def add_products(x: Array, ct: Array, padding: Pairs, images: slice, total: Array) -> None:
    """Write to ``total`` (16, O, C) what `kernel_gradient` takes, summed over ``images``.

    Args:
        x: (N, H, W, C), float32.
        ct: (N, Ho, Wo, O), float32, the cotangent of the result.
        padding: zeros before and after H and W.
        images: which images; not none.
        total: where to write.
    """
    outs, out = ct.shape[-1], total
    for block in _blocks(images, x.shape, ct.shape, padding):
        second = scratch("winograd second", (block.spare(outs),), _FLOAT32)
        data = _Data(block, x, second)
        e = second[: 16 * block.size * outs].reshape(4, 4, -1)
        steps: list[Step] = [
            (np.add, e[:2, 0], e[:2, 1], e[:2, 2]),
            (np.subtract, e[:2, 0], e[:2, 1], e[:2, 3]),
            (np.add, e[0], e[1], e[2]),
            (np.subtract, e[0], e[1], e[3]),
        ]
        quarters = [e[i, :2].reshape(-1, outs) for i in range(2)]
        corner = e[:2, :2].reshape(2, 2, *block.tiles, outs)
        edges = []
        if ct.shape[2] % 2:
            edges.append(corner[:, 1, :, -1])
        if (block.results.stop - block.results.start) % 2:
            edges.append(corner[1, :, -1])
        cotangents = e.reshape(16, block.size, outs).swapaxes(1, 2)
        for n in block.images:
            data.load(n)
            source = _rows(ct[n, block.results], "winograd cotangent")
            for quarter, order in zip(quarters, block.quarters, strict=True):
                source.take(order, 0, quarter, "clip")
            for edge in edges:
                edge.fill(0)
            _run(steps)
            matmul(cotangents, data.tiles, out=out)
            if out is total:
                out = scratch("winograd products", total.shape, _FLOAT32)
            else:
                np.add(total, out, out=total)


def kernel_gradient(total: Array, dw: Array) -> None:
    """Write to ``dw`` (O, C, 3, 3) the gradient of the kernels, given the sum of what `add_products` gave."""
    both = np.multiply.outer(_KERNEL, _KERNEL).transpose(0, 2, 1, 3).reshape(16, 9)
    dw[...] = matmul(total.reshape(16, -1).T, both).reshape(dw.shape)


class _Block:
    """Images, or rows of tiles of one, that are worked on at once.

    Attributes:
        tiles: rows of tiles, columns of tiles, images.
        size: tiles in all.
        images: the images of each block of this shape.
        results: the rows of the results.
        positions: for each element of the phases (see `_Data`), which pixel of the block's images it is.
        borders: where the phases have no pixels: by axis, the phase and the range along it.
        order: for each result, in row-major order, which of the results (column phase, row phase, tiles) it is.
        quarters: by row phase, for each of (column phase, tiles) which of the results, in row-major order, it is.
    """

    def __init__(self, rows: slice, several: list[slice], x: Ints, y: Ints, padding: Pairs) -> None:
        count = several[0].stop - several[0].start
        columns = -(-y[2] // 2)
        self.images, self.channels = several, x[-1]
        self.tiles = rows.stop - rows.start, columns, count
        self.size = prod(self.tiles)
        self.results = slice(2 * rows.start, min(2 * rows.stop, y[1]))
        firsts = (2 * rows.start - padding[0][0], -padding[1][0])
        self.positions, self.borders = _positions(self.tiles, firsts, x[1:3])
        self.order, self.quarters = _orders(self.tiles, self.results.stop - self.results.start, y[2])

    def spare(self, outs: int) -> int:
        """Elements of the memory that holds first the data transformed along columns, then products or cotangents."""
        height, columns, count = self.tiles
        size: int = max(16 * self.size * outs, 8 * (height + 1) * columns * count * self.channels)
        return size


class _Data:
    """The transformed data of blocks of one shape.

    Attributes:
        tiles: (16, tiles, C).
        memory: that of ``tiles``, in one axis.
    """

    def __init__(self, block: _Block, x: Array, spare: Array) -> None:
        """Make the views, in memory of the thread, and in ``spare``, which is free while `load` runs."""
        height, columns, count = block.tiles
        channels = x.shape[-1]
        self._x, self._block = x, block
        # Every second column, every second row: the neighbours within a tile are then one apart, or of another phase.
        phases = scratch("winograd phases", (2, 2, height + 1, columns + 1, count, channels), _FLOAT32)
        self._pixels = phases.reshape(-1, channels)
        above_and_below = [phases[:, p, cut] for p, cut in block.borders[0]]
        left_and_right = [phases[p, :, :, cut] for p, cut in block.borders[1]]
        self._borders = [*_together(above_and_below), *_together(left_and_right)]
        self.memory = scratch("winograd data", (16 * block.size * channels,), _FLOAT32)
        self.tiles = self.memory.reshape(16, -1, channels)
        half = spare[: 8 * (height + 1) * columns * count * channels]
        half = half.reshape(4, 2, height + 1, columns, count, channels)
        before, after = phases[:, :, :, :-1], phases[:, :, :, 1:]
        lines = half.reshape(4, 2, height + 1, -1).swapaxes(0, 1)
        above, below = lines[:, :, :-1], lines[:, :, 1:]
        whole = self.memory.reshape(4, 4, height, -1)
        self._steps: list[Step] = [
            (np.subtract, before, after, half[:2]),
            (np.add, before[1], after[0], half[2]),
            (np.subtract, after[0], before[1], half[3]),
            (np.subtract, above, below, whole[:2]),
            (np.add, above[1], below[0], whole[2]),
            (np.subtract, below[0], above[1], whole[3]),
        ]

    def load(self, images: slice) -> None:
        """Fill ``tiles`` from these images."""
        _rows(self._x[images], "winograd pixels").take(self._block.positions, 0, self._pixels, "clip")
        for border in self._borders:
            border.fill(0)
        _run(self._steps)


def _run(steps: list[Step]) -> None:
    for function, first, second, out in steps:
        function(first, second, out)


def _together(parts: list[Array]) -> list[Array]:
    """The same elements in as few views: two parts of an array that have one shape become one."""
    if len(parts) != 2 or parts[0].shape != parts[1].shape:
        return parts
    first, second = parts
    step = second.ctypes.data - first.ctypes.data
    return [as_strided(first, (2, *first.shape), (step, *first.strides))]


def _room(memory: Array, shape: Ints) -> Array:
    """An array in ``memory`` where it fits, else in memory of the thread."""
    size = prod(shape)
    return memory[:size].reshape(shape) if size <= memory.size else scratch("winograd sums", shape, _FLOAT32)


def _rows(x: Array, slot: str) -> Array:
    """``x`` (..., C) in two axes, of contiguous memory."""
    if not x.flags.c_contiguous:
        copy = scratch(slot, x.shape, _FLOAT32)
        np.copyto(copy, x)
        x = copy
    return x.reshape(-1, x.shape[-1])


def _blocks(images: slice, x: Ints, y: Ints, padding: Pairs) -> Iterator[_Block]:
    """The blocks of ``images``, those of one shape and of the same rows of tiles together."""
    rows, columns = -(-y[1] // 2), -(-y[2] // 2)
    most = max(_TILES, _BYTES // (64 * (x[-1] + y[-1])), _PRODUCT // (x[-1] * y[-1]))
    total = images.stop - images.start
    several = max(1, most // (rows * columns))
    height = rows if several > 1 else -(-rows // -(-rows * columns // most))
    count = -(-total // several)
    bounds = [images.start + total * i // count for i in range(count + 1)]
    by_size: dict[int, list[slice]] = {}
    for a, b in pairwise(bounds):
        by_size.setdefault(b - a, []).append(slice(a, b))
    for part in (slice(i, min(i + height, rows)) for i in range(0, rows, height)):
        for same in by_size.values():
            yield _Block(part, same, x, y, padding)


@lru_cache(maxsize=64)
def _positions(
    tiles: Ints, firsts: Ints, size: Ints
) -> tuple[Array, tuple[list[tuple[int, slice]], list[tuple[int, slice]]]]:
    """See `_Block`: ``firsts`` are the first row and column of the phases, where ``size`` are those that there are."""
    height, columns, count = tiles
    borders: tuple[list[tuple[int, slice]], list[tuple[int, slice]]] = ([], [])
    pixels = []
    for first, length, steps, border in zip(firsts, size, (height + 1, columns + 1), borders, strict=True):
        # (phase, step)
        places = first + 2 * np.arange(steps) + np.arange(2)[:, None]
        for phase, line in enumerate(places):
            low = int(np.searchsorted(line, 0))
            high = int(np.searchsorted(line, length))
            if low > 0:
                border.append((phase, slice(0, low)))
            if high < steps:
                border.append((phase, slice(high, steps)))
        pixels.append(np.clip(places, 0, length - 1))
    down, across = pixels
    place = down[None, :, :, None] * size[1] + across[:, None, None, :]
    return _flat(place[..., None] + np.arange(count) * prod(size)), borders


@lru_cache(maxsize=64)
def _orders(tiles: Ints, height: int, width: int) -> tuple[Array, list[Array]]:
    """See `_Block`: of results of ``height`` by ``width``."""
    rows, columns, count = tiles
    size = prod(tiles)
    # (column phase, row phase, row of tiles, column of tiles, image)
    index = np.arange(4 * size).reshape(2, 2, *tiles).transpose(4, 2, 1, 3, 0)
    order = index.reshape(count, 2 * rows, 2 * columns)[:, :height, :width]
    places = np.arange(count * height * width).reshape(count, height, width)
    padded = np.pad(places, ((0, 0), (0, 2 * rows - height), (0, 2 * columns - width)))
    phases = padded.reshape(count, rows, 2, columns, 2).transpose(2, 4, 1, 3, 0)
    return _flat(order), [_flat(phase) for phase in phases]


def _flat(index: Array) -> Array:
    index = np.ascontiguousarray(index, np.intp).reshape(-1)
    index.flags.writeable = False
    return index
