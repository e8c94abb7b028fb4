"""Places that integers name: checked, counted in row-major order, read from and added to."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plugrad.dtypes import int64
from plugrad.errors import IndexRangeError
from plugrad_array_api.kernels._library import Array, Library

Shape = tuple[int, ...]


def _ends(library: Library, index: Array) -> tuple[int, int]:
    return int(library.xp.min(index)), int(library.xp.max(index))


def within(library: Library, name: str, index: Array, size: int, axis: int) -> Array:
    """``index`` in [0, size).

    Raises:
        IndexRangeError: if one is outside [-size, size).
    """
    if not math.prod(index.shape):
        return index
    low, high = _ends(library, index)
    if low < -size or high >= size:
        wrong = high if high >= size else low
        raise IndexRangeError(f"{name}: index {wrong} is out of range for axis {axis} of size {size}")
    return library.xp.where(index < 0, index + size, index) if low < 0 else index


def from_zero(library: Library, name: str, index: Array, size: int, what: str) -> None:
    """Raise if one of ``index`` is outside [0, size).

    Raises:
        IndexRangeError: if one is.
    """
    if not math.prod(index.shape):
        return
    low, high = _ends(library, index)
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise IndexRangeError(f"{name}: {wrong} is out of range for {size} {what}, 0 to {size - 1}")


def _counting(library: Library, index: Array, most: int) -> Array:
    """``index`` in a dtype that counts to ``most``: its own where that does, as a device may have no int64."""
    return index if most < 1 << 31 else library.cast(index, library.dtype(int64))


def flat(library: Library, name: str, indices: Sequence[Array], shape: Shape, axis: int) -> Array:
    """The places that indices of the axes from ``axis`` on name together, (n,)."""
    sizes = shape[axis : axis + len(indices)]
    places = None
    for i, index in enumerate(indices, axis):
        place = within(library, name, _counting(library, index, max(math.prod(sizes), *sizes)), shape[i], i)
        places = place if places is None else places * shape[i] + place
    assert places is not None
    return library.xp.reshape(places, (math.prod(places.shape),))


def places_along(library: Library, name: str, indices: Array, shape: Shape, axis: int) -> Array:
    """The places in ``shape`` that indices along ``axis`` name, (n,); the other axes of both are the same."""
    xp = library.xp
    places = within(library, name, _counting(library, indices, math.prod(shape)), shape[axis], axis)
    stride = math.prod(shape[axis + 1 :])
    places = places * stride
    for i, n in enumerate(shape):
        if i != axis:
            step = math.prod(shape[i + 1 :])
            own = library.range(n, places) * step
            places = places + xp.reshape(own, (*(1,) * i, n, *(1,) * (len(shape) - i - 1)))
    return xp.reshape(places, (math.prod(places.shape),))


def gathered(library: Library, name: str, x: Array, indices: Sequence[Array], axis: int) -> Array:
    """``x`` at ``indices`` of the axes from ``axis`` on."""
    xp, stop = library.xp, axis + len(indices)
    places = flat(library, name, indices, x.shape, axis)
    lead, sizes, rest = x.shape[:axis], x.shape[axis:stop], x.shape[stop:]
    taken = xp.take(xp.reshape(x, (*lead, math.prod(sizes), *rest)), places, axis=axis)
    return xp.reshape(taken, (*lead, *indices[0].shape, *rest))


def ordered(library: Library, places: Array, count: int) -> tuple[Array, Array, Array]:
    """The order that sorts ``places`` (n,), and where each of ``count`` places starts and stops in it.

    Those that name one place keep their order.
    """
    xp = library.xp
    order = xp.argsort(places, stable=True)
    places = xp.take(places, order, axis=0)
    every = library.range(count, places)
    starts = library.cast(xp.searchsorted(places, every, side="left"), places.dtype)
    stops = library.cast(xp.searchsorted(places, every, side="right"), places.dtype)
    return order, starts, stops


def summed(library: Library, rows: Array, places: Array, count: int) -> Array:
    """``count`` sums of ``rows`` (n, a, b): 0 and those whose ``places`` (n,) name it, added in their order.

    First all rows are added that come first to their places, then all that come second, and so on, so there are as
    many steps as rows in the place that has most. A sum by a product or by cumulative sums would let an infinity of one
    place into others.
    """
    xp = library.xp
    order, starts, stops = ordered(library, places, count)
    rows = xp.take(rows, order, axis=0)
    # By how many rows they have, so that those that still have one are the last ones.
    lengths = stops - starts
    by_length = xp.argsort(lengths, stable=True)
    lengths, starts = xp.take(lengths, by_length, axis=0), xp.take(starts, by_length, axis=0)
    rounds = library.range(int(lengths[count - 1]), lengths)
    firsts = xp.searchsorted(lengths, rounds, side="right")
    sums = library.zeros((count, *rows.shape[1:]), rows)
    for i in range(rounds.shape[0]):
        first = int(firsts[i])
        sums[first:, ...] = sums[first:, ...] + xp.take(rows, starts[first:] + i, axis=0)
    return xp.take(sums, xp.argsort(by_length, stable=True), axis=0)
