"""Kernels that read and add at places that indices name.

Reading is `numpy.take`, or NumPy's indexing by several arrays. What adds falls into one case: rows of a matrix,
added to the rows of another one that flat indices name (`add_rows`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.errors import IndexRangeError
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any
Shape = tuple[int, ...]

_SORTING: Final = 20_000, 25, 1_500
"""Elements that the costs of rounds amount to in `add_rows`: in all, for each row, for each round (1.7 ns an element)."""


def within(name: str, index: Array, size: int, axis: int) -> Array:
    """``index`` as int64 in [0, size).

    Raises:
        IndexRangeError: if one is outside [-size, size).
    """
    index = np.asarray(index)
    if not index.size:
        return index.astype(np.int64)
    low, high = int(index.min()), int(index.max())
    if low < -size or high >= size:
        wrong = high if high >= size else low
        raise IndexRangeError(f"{name}: index {wrong} is out of range for axis {axis} of size {size}")
    index = index.astype(np.int64, copy=False)
    return np.where(index < 0, index + size, index) if low < 0 else index


def from_zero(name: str, index: Array, size: int, what: str) -> Array:
    """``index``, which must be in [0, size)."""
    index = np.asarray(index)
    if index.size:
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= size:
            wrong = low if low < 0 else high
            raise IndexRangeError(f"{name}: {wrong} is out of range for {size} {what}, 0 to {size - 1}")
    return index


def taken(name: str, x: Array, index: Array, axis: int, into: Array | None) -> Array:
    """``x`` at ``index`` along ``axis``."""
    try:
        result = x.take(index, axis=axis)
    except IndexError:
        within(name, index, x.shape[axis], axis)
        raise
    return result if into is None else given(result, into)


@table(ops.take)
def _(x: Array, indices: Array, *, axis: int, into: Array | None = None) -> Array:
    return taken("take", x, indices, axis, into)


@table(ops.gather_nd)
def _(x: Array, indices: list[Array], *, axis: int, into: Array | None = None) -> Array:
    if len(indices) == 1:
        return taken("gather_nd", x, indices[0], axis, into)
    try:
        result = x[(slice(None),) * axis + tuple(indices)]
    except IndexError:
        for i, index in enumerate(indices, axis):
            within("gather_nd", index, x.shape[i], i)
        raise
    return given(result, into)


@table(ops.take_along_axis)
def _(x: Array, indices: Array, *, axis: int, into: Array | None = None) -> Array:
    return given(x[_along("take_along_axis", indices, x.shape, axis)], into)


def _along(name: str, indices: Array, shape: Shape, axis: int) -> tuple[Array, ...]:
    """``indices`` along ``axis`` as the indices of all axes of ``shape``; one of size 1 is read at 0 all along."""
    places = []
    for i, n in enumerate(shape):
        if i == axis:
            places.append(within(name, indices, n, axis))
        else:
            places.append(np.arange(n).reshape((1,) * i + (n,) + (1,) * (len(shape) - i - 1)))
    return tuple(places)


def _flat(places: Sequence[Array], shape: Shape) -> Array:
    """Where the indices of all axes of ``shape`` point in its elements in row-major order."""
    flat, stride = np.int64(0), math.prod(shape)
    for place, n in zip(places, shape, strict=True):
        stride //= n or 1
        flat = flat + place * stride
    return flat


@silent
def add_rows(out: Array, index: Array, rows: Array) -> None:
    """Add each of ``rows`` (n, width) to the row of ``out`` (m, width) that ``index`` (n,) names, one after the other.

    All that come first to their places are added at once, then all that come second, and so on. Where rows are short,
    or too many meet in one place, `numpy.add.at` does it, which is fast on flat arrays of one dtype alone. (Measured:
    1,024 rows of 128 into 1,000: 110 us in rounds, 236 flat, 1,141 by rows; 2,048 rows of 64 into 96: 100 and 222.)
    """
    n, width = rows.shape
    if not rows.size:
        return
    once, each, turn = _SORTING
    if width == 1:
        np.add.at(out.reshape(-1), index, rows.reshape(-1))
    elif once + each * n < rows.size and once + each * n + turn * np.bincount(index).max() < rows.size:
        _add_in_rounds(out, index, rows)
    else:
        flat = index[:, None] * width + np.arange(width)
        np.add.at(out.reshape(-1), flat.reshape(-1), rows.reshape(-1))


def _add_in_rounds(out: Array, index: Array, rows: Array) -> None:
    """See `add_rows`. Rows are sorted by round, and in it by place, those first that most meet in.

    So each round is a block of rows, which is added to the first ones of a block of places.
    """
    n = len(rows)
    key = index.astype(np.uint16) if len(out) <= 1 << 16 else index
    order = np.argsort(key, kind="stable")
    ordered = index[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(starts, append=n)
    by_count = np.argsort(-counts, kind="stable")
    position = np.empty_like(by_count)
    position[by_count] = np.arange(len(by_count))
    turn = np.arange(n) - np.repeat(starts, counts)
    ends = np.cumsum(np.bincount(turn))
    sizes = np.diff(ends, prepend=0)
    sorted_rows = np.empty_like(order)
    sorted_rows[(ends - sizes)[turn] + np.repeat(position, counts)] = order
    blocks = scratch("0", rows.shape, rows.dtype)
    rows.take(sorted_rows, axis=0, out=blocks, mode="clip")
    places = ordered[starts[by_count]]
    sums = out[places]
    for end, size in zip(ends.tolist(), sizes.tolist(), strict=True):
        part = sums[:size]
        part += blocks[end - size : end]
    out[places] = sums


def _zeros(shape: Shape, dtype: Any, into: Array | None) -> Array:
    """Row-major zeros in which 16-bit floats are summed in float32: ``into`` where that can be."""
    wide = widened(np.empty(0, dtype)).dtype
    if into is None or into.dtype != wide or not into.flags.c_contiguous:
        return np.zeros(shape, wide)
    into[...] = 0
    return into


def _finished(out: Array, dtype: Any, into: Array | None) -> Array:
    if into is None:
        return out.astype(dtype, copy=False)
    return into if out is into else given(out, into)


def scattered(
    name: str, x: Array, indices: Sequence[Array], shape: Shape, axis: int, into: Array | None
) -> Array:
    """Zeros of ``shape`` with ``x`` added at ``indices`` of the axes from ``axis`` on."""
    out = _zeros(shape, x.dtype, into)
    stop = axis + len(indices)
    places = [within(name, index, shape[i], i) for i, index in enumerate(indices, axis)]
    if out.size and x.size:
        index = np.asarray(_flat(places, shape[axis:stop])).reshape(-1)
        width, count = math.prod(shape[stop:]), math.prod(shape[axis:stop])
        if axis:
            index = (np.arange(math.prod(shape[:axis]))[:, None] * count + index).reshape(-1)
        add_rows(out.reshape(-1, width), index, np.ascontiguousarray(x, out.dtype).reshape(-1, width))
    return _finished(out, x.dtype, into)


@table(ops.scatter_nd)
def _(x: Array, indices: list[Array], *, shape: Shape, axis: int, into: Array | None = None) -> Array:
    return scattered("scatter_nd", x, indices, shape, axis, into)


@silent
def _add_along(name: str, out: Array, indices: Array, updates: Array, axis: int) -> None:
    """Add ``updates`` at ``indices`` along ``axis`` of ``out``, row-major."""
    flat = _flat(_along(name, indices, out.shape, axis), out.shape)
    if flat.shape != updates.shape:
        flat, updates = np.broadcast_arrays(flat, updates)
    np.add.at(out.reshape(-1), flat.reshape(-1), updates.astype(out.dtype, copy=False).reshape(-1))


@table(ops.take_along_axis.vjp)
def _(ct: Array, indices: Array, *, x: Any, axis: int, into: Array | None = None) -> Array:
    out = _zeros(x.shape, ct.dtype, into)
    if out.size:
        _add_along("take_along_axis", out, indices, ct, axis)
    return _finished(out, ct.dtype, into)


@table(ops.scatter_add)
def _(x: Array, indices: Array, updates: Array, *, axis: int, into: Array | None = None) -> Array:
    out = np.array(widened(x), order="C")
    _add_along("scatter_add", out, indices, updates, axis)
    return _finished(out, x.dtype, into)


@table(ops.one_hot)
def _(x: Array, *, num_classes: int, dtype: Any, into: Array | None = None) -> Array:
    index = from_zero("one_hot", x, num_classes, "classes").reshape(-1)
    if into is None or not into.flags.c_contiguous:
        out = np.zeros((*np.shape(x), num_classes), dtype.numpy)
    else:
        out = into
        out[...] = 0
    out.reshape(-1)[np.arange(0, out.size, num_classes or 1) + index] = 1
    return out if into is None or out is into else given(out, into)


@table(ops.embedding)
def _(x: Array, weight: Array, *, padding_idx: int | None, into: Array | None = None) -> Array:
    del padding_idx
    index = from_zero("embedding", x, weight.shape[0], "rows of weight")
    # The indices are checked, so that NumPy need not do it again, nor buffer the result.
    return (
        weight.take(index, axis=0, out=into, mode="clip")
        if index.size
        else given(weight.take(index, axis=0), into)
    )


@table(ops.embedding.vjp)
def _(ct: Array, x: Array, *, weight: Any, padding_idx: int | None, into: Array | None = None) -> Array:
    out = scattered("embedding", ct, [x], weight.shape, 0, into)
    if padding_idx is not None:
        out[padding_idx] = 0
    return out


@table(ops.update_nd, inplace=("x",))
def _(x: Array, indices: list[Array], value: Array, *, axis: int, into: Array | None = None) -> Array:
    places = [within("update_nd", index, x.shape[i], i) for i, index in enumerate(indices, axis)]
    shape = places[0].shape
    if len(shape) > 1:
        # Flat, as NumPy writes several axes of indices in the order of their strides, not always the last one last.
        lead, rest = x.shape[:axis], x.shape[axis + len(places) :]
        value = np.broadcast_to(value, (*lead, *shape, *rest)).reshape(*lead, math.prod(shape), *rest)
    if shape:
        places = [np.ascontiguousarray(place).reshape(-1) for place in places]
    if into is None:
        into = np.array(x, order="C")
    else:
        np.copyto(into, x)
    into[(slice(None),) * axis + tuple(places)] = value
    return into
