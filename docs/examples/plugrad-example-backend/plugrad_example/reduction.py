"""Reductions, scans, orders and the product of matrices: functions of lines of elements."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

from plugrad import dtypes, ops
from plugrad.backend import KernelTable
from plugrad.dtypes import DType
from plugrad.spec import Shape, broadcast_shapes
from plugrad_example.memory import Buffer, Into, lines, repeated, store, strides
from plugrad_example.movement import cast

kernels = KernelTable()

Line = list[Any]


def reduction(op: Any, function: Callable[[Line], Any], result: DType | None = None) -> None:
    """Register ``function`` of the elements that are reduced to one; its value has the dtype ``result``, or theirs."""

    @kernels(op)
    def _(x: Buffer, *, axis: Any, keepdims: bool, dtype: DType | None = None, into: Into = None) -> Buffer:
        axes = range(len(x.shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
        x = x if dtype is None else cast(x, dtype)
        values = [function([x.elements[p] for p in line]) for line in lines(x.shape, axes)]
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)
        return store(values, result or x.dtype, shape, into)


def rank(value: Any) -> tuple[bool, Any]:
    """What to compare by: NaN is larger than all numbers."""
    return (value != value, value)


reduction(ops.sum, sum)
reduction(ops.prod, math.prod)
reduction(ops.max, lambda line: max(line, key=rank))
reduction(ops.argmax, lambda line: max(range(len(line)), key=lambda i: rank(line[i])), dtypes.int64)


def along(x: Buffer, axis: int, function: Callable[[Line], Iterable[Any]], shape: Shape) -> list[Any]:
    """Elements of ``shape``: each line of it along ``axis`` is ``function`` of that of ``x``."""
    values = [0] * math.prod(shape)
    for source, target in zip(lines(x.shape, (axis,)), lines(shape, (axis,)), strict=True):
        for place, value in zip(target, function([x.elements[p] for p in source]), strict=True):
            values[place] = value
    return values


@kernels(ops.cumulative_sum)
def _(x: Buffer, *, axis: int, dtype: DType, include_initial: bool, into: Into = None) -> Buffer:
    shape = tuple(n + include_initial if i == axis else n for i, n in enumerate(x.shape))
    initial = 0 if include_initial else None
    values = along(cast(x, dtype), axis, lambda line: accumulate(line, initial=initial), shape)
    return store(values, dtype, shape, into)


@kernels(ops.argsort)
def _(x: Buffer, *, axis: int, descending: bool, into: Into = None, **_: Any) -> Buffer:
    # Python's sort is always stable.
    def order(line: Line) -> list[int]:
        return sorted(range(len(line)), key=lambda i: rank(line[i]), reverse=descending)

    return store(along(x, axis, order, x.shape), dtypes.int64, x.shape, into)


@kernels(ops.matrix_product)
def _(x1: Buffer, x2: Buffer, *, into: Into = None) -> Buffer:
    (n, k), m = x1.shape[-2:], x2.shape[-1]
    batch = broadcast_shapes("matrix_product", [x1.shape[:-2], x2.shape[:-2]])
    starts = [repeated(x.shape[:-2], batch, strides(x.shape)[:-2]) for x in (x1, x2)]
    left, right = x1.elements.tolist(), x2.elements.tolist()
    values: list[Any] = []
    for a, b in zip(*starts, strict=True):
        rows = [left[a + i * k : a + (i + 1) * k] for i in range(n)]
        columns = [right[b + j : b + k * m : m] for j in range(m)]
        values += [sum(map(operator.mul, row, column)) for row in rows for column in columns]
    return store(values, x1.dtype, (*batch, n, m), into)
