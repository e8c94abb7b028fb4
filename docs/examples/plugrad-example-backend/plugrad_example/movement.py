"""Kernels that make, cast, move and find elements."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from plugrad import dtypes, ops
from plugrad.backend import KernelTable
from plugrad.dtypes import DType
from plugrad.errors import IndexRangeError
from plugrad.spec import Shape
from plugrad_example.memory import Buffer, Into, places, repeated, store, strides

kernels = KernelTable()

Bounds = Sequence[tuple[int, int, int]]


@kernels(ops.full)
def _(*, shape: Shape, fill_value: Any, dtype: DType, into: Into = None, **_: Any) -> Buffer:
    return store([fill_value] * math.prod(shape), dtype, shape, into)


@kernels(ops.iota)
def _(*, length: int, dtype: DType, into: Into = None, **_: Any) -> Buffer:
    return store(range(length), dtype, (length,), into)


@kernels(ops.astype)
def cast(x: Buffer, dtype: DType, into: Into = None) -> Buffer:
    """``x`` in another dtype; what is not finite is 0 as an integer."""
    values: Iterable[Any] = x.elements
    if x.dtype.is_floating and dtype.is_integer:
        values = [int(v) if math.isfinite(v) else 0 for v in values]
    elif x.dtype.is_integer and dtype is dtypes.float32:
        values = map(_odd, values)
    return store(values, dtype, x.shape, into)


def _odd(value: int) -> int:
    """An integer of 53 bits that rounds to float32 as ``value`` does.

    A double on the way could end in the middle between two float32, where ``value`` is not; rounded to odd it cannot.
    """
    return value if abs(value) <= 1 << 53 else (value >> 11 | bool(value & 0x7FF)) << 11


def taken(x: Buffer, where: Iterable[int], shape: Shape, into: Into) -> Buffer:
    """The elements at some places."""
    elements = x.elements
    return store([elements[p] for p in where], x.dtype, shape, into)


@kernels(ops.reshape)
def _(x: Buffer, *, shape: Shape, into: Into = None, **_: Any) -> Buffer:
    # Elements are always in row-major order, so another shape may share them.
    return Buffer(x.elements, x.dtype, shape) if into is None else store(x.elements, x.dtype, shape, into)


@kernels(ops.broadcast_to)
def _(x: Buffer, *, shape: Shape, into: Into = None) -> Buffer:
    return taken(x, repeated(x.shape, shape, strides(x.shape)), shape, into)


@kernels(ops.permute_dims)
def _(x: Buffer, *, axes: Sequence[int], into: Into = None) -> Buffer:
    shape, steps = tuple(x.shape[a] for a in axes), strides(x.shape)
    return taken(x, places(shape, [steps[a] for a in axes]), shape, into)


def selected(shape: Shape, bounds: Bounds) -> tuple[Shape, list[int]]:
    """The shape that slices select from ``shape``, and the places."""
    sizes, steps = tuple(len(range(*b)) for b in bounds), strides(shape)
    start = sum(first * s for (first, _, _), s in zip(bounds, steps, strict=True))
    return sizes, places(sizes, [step * s for (_, _, step), s in zip(bounds, steps, strict=True)], start)


@kernels(ops.strided_slice)
def _(x: Buffer, *, bounds: Bounds, into: Into = None) -> Buffer:
    shape, where = selected(x.shape, bounds)
    return taken(x, where, shape, into)


@kernels(ops.scatter_slice)
def _(x: Buffer, *, shape: Shape, bounds: Bounds, into: Into = None) -> Buffer:
    values = [0] * math.prod(shape)
    for place, value in zip(selected(shape, bounds)[1], x.elements, strict=True):
        values[place] = value
    return store(values, x.dtype, shape, into)


@kernels(ops.concatenate)
def _(arrays: Sequence[Buffer], *, axis: int, into: Into = None) -> Buffer:
    # At each index of the axes before, the elements of one array lie side by side: n of them.
    before, after = arrays[0].shape[:axis], arrays[0].shape[axis + 1 :]
    parts = [(x.elements, math.prod(x.shape[axis:])) for x in arrays]
    values = [v for i in range(math.prod(before)) for e, n in parts for v in e[i * n : (i + 1) * n]]
    shape = (*before, sum(x.shape[axis] for x in arrays), *after)
    return store(values, arrays[0].dtype, shape, into)


def named(name: str, shape: Shape, indices: Sequence[Buffer], axis: int) -> list[int]:
    """The places in ``shape`` that indices of the axes from ``axis`` on name together, the other axes being whole.

    Raises:
        IndexRangeError: if an index is outside its axis.
    """
    steps, stop = strides(shape), axis + len(indices)
    found = [0] * len(indices[0].elements)
    for i, index in enumerate(indices, axis):
        for j in index.elements:
            if not -shape[i] <= j < shape[i]:
                raise IndexRangeError(f"{name}: index {j} is out of range for axis {i} of size {shape[i]}")
        found = [place + j % shape[i] * steps[i] for place, j in zip(found, index.elements, strict=True)]
    before, after = places(shape[:axis], steps[:axis]), places(shape[stop:], steps[stop:])
    return [b + place + a for b in before for place in found for a in after]


@kernels(ops.gather_nd)
def _(x: Buffer, indices: Sequence[Buffer], *, axis: int, into: Into = None) -> Buffer:
    shape = (*x.shape[:axis], *indices[0].shape, *x.shape[axis + len(indices) :])
    return taken(x, named("gather_nd", x.shape, indices, axis), shape, into)


@kernels(ops.scatter_nd)
def _(x: Buffer, indices: Sequence[Buffer], *, shape: Shape, axis: int, into: Into = None) -> Buffer:
    values = [0] * math.prod(shape)
    for place, value in zip(named("scatter_nd", shape, indices, axis), x.elements, strict=True):
        values[place] += value
    return store(values, x.dtype, shape, into)


@kernels(ops.nonzero_indices)
def _(x: Buffer, *, into: Into = None) -> Buffer:
    found = [place for place, value in enumerate(x.elements) if value]
    values = [p // step % n for step, n in zip(strides(x.shape), x.shape, strict=True) for p in found]
    return store(values, dtypes.int64, (len(x.shape), len(found)), into)
