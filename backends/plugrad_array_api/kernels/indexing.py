"""Reading and adding at places that integers name, with what the standard has: one-dimensional ``take``.

Indices are checked before they are used, which waits for their values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from plugrad import ops
from plugrad.errors import IndexRangeError
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels

Shape = tuple[int, ...]


def within(library: Library, name: str, index: Array, size: int, axis: int) -> Array:
    """``index`` in [0, size).

    Raises:
        IndexRangeError: if one is outside [-size, size).
    """
    xp = library.xp
    if not math.prod(index.shape):
        return index
    low, high = int(xp.min(index)), int(xp.max(index))
    if low < -size or high >= size:
        wrong = high if high >= size else low
        raise IndexRangeError(f"{name}: index {wrong} is out of range for axis {axis} of size {size}")
    return xp.where(index < 0, index + size, index) if low < 0 else index


def flat(library: Library, name: str, indices: Sequence[Array], shape: Shape, axis: int) -> Array:
    """The places that indices of the axes from ``axis`` on name together, counted in row-major order, as one row."""
    places = None
    sizes = shape[axis : axis + len(indices)]
    for i, index in enumerate(indices, axis):
        # The indices' own dtype, as a device may have no int64, where it holds all places.
        if max(math.prod(sizes), *sizes) >= 1 << 31:
            index = library.cast(index, library.dtypes["int64"])
        place = within(library, name, index, shape[i], i)
        places = place if places is None else places * shape[i] + place
    assert places is not None
    return library.xp.reshape(places, (math.prod(places.shape),))


def gathered(library: Library, name: str, x: Array, indices: Sequence[Array], axis: int) -> Array:
    """``x`` at ``indices`` of the axes from ``axis`` on."""
    xp, stop = library.xp, axis + len(indices)
    places = flat(library, name, indices, x.shape, axis)
    lead, sizes, rest = x.shape[:axis], x.shape[axis:stop], x.shape[stop:]
    taken = xp.take(xp.reshape(x, (*lead, math.prod(sizes), *rest)), places, axis=axis)
    return xp.reshape(taken, (*lead, *indices[0].shape, *rest))


def summed(library: Library, rows: Array, places: Array, count: int) -> Array:
    """``count`` sums of ``rows`` (n, a, b): each of those whose ``places`` (n,) name it; 0 where there are none.

    The rows are sorted by place and scanned, segment by segment, in doubling steps (Blelloch, "Prefix sums and their
    applications", 1990): log2(n) steps at most, no place meets another's infinities, and the order of the additions
    is the same at every run.
    """
    xp = library.xp
    order = xp.argsort(places, stable=True)
    places, rows = xp.take(places, order, axis=0), xp.take(rows, order, axis=0)
    every, n = library.range(count, places), places.shape[0]
    starts = library.cast(xp.searchsorted(places, every, side="left"), places.dtype)
    stops = library.cast(xp.searchsorted(places, every, side="right"), places.dtype)
    longest, distance = int(xp.max(stops - starts)), 1
    while distance < longest:
        same = xp.reshape(places[distance:] == places[: n - distance], (n - distance, 1, 1))
        later = rows[distance:, ...]
        later = xp.where(same, rows[: n - distance, ...] + later, later)
        rows = xp.concat([rows[:distance, ...], later], axis=0)
        distance *= 2
    last = xp.take(rows, xp.where(stops > 0, stops - 1, stops), axis=0)
    zero = library.scalar(0, rows)
    # The sum starts from 0, which -0 alone is not.
    return xp.where(xp.reshape(stops > starts, (count, 1, 1)), last, zero) + zero


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    @kernels(ops.gather_nd)
    def _(x: Array, indices: list[Array], *, axis: int) -> Array:
        return gathered(library, "gather_nd", x, indices, axis)

    @kernels(ops.take)
    def _(x: Array, indices: Array, *, axis: int) -> Array:
        return gathered(library, "take", x, [indices], axis)

    @kernels(ops.scatter_nd)
    def _(x: Array, indices: list[Array], *, shape: Shape, axis: int) -> Array:
        stop = axis + len(indices)
        places = flat(library, "scatter_nd", indices, shape, axis)
        if not math.prod(shape) or not math.prod(x.shape):
            return library.zeros(shape, x)
        lead, count, rest = math.prod(shape[:axis]), math.prod(shape[axis:stop]), math.prod(shape[stop:])
        rows = xp.reshape(library.widened(x), (lead, places.shape[0], rest))
        sums = summed(library, xp.permute_dims(rows, (1, 0, 2)), places, count)
        return library.cast(xp.reshape(xp.permute_dims(sums, (1, 0, 2)), shape), x.dtype)
