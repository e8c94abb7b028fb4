"""Sums, products, largest elements and their positions, over any axes of arrays of any strides."""

from __future__ import annotations

import math
from typing import Any, Final

from plugrad import dtypes, ops
from plugrad.dtypes import DType
from plugrad.generated.array import StridedArray, empty, sliced
from plugrad.generated.kernels._run import computable, filled, group_of, room, rounding
from plugrad.generated.kernels._table import table
from plugrad.graph.source import arg_reduce, collapse, reduce, reduce_columns, reduce_rows

_TURN: Final = 32
"""Rows of which one work-item takes its columns, where there are many."""


def _axes(x: StridedArray, axis: Any) -> list[int]:
    if axis is None:
        return list(range(len(x.shape)))
    return [axis] if isinstance(axis, int) else list(axis)


def _result(
    x: StridedArray, axes: list[int], keepdims: bool, dtype: DType, into: StridedArray | None
) -> StridedArray:
    kept = [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes]
    return room(x.device, tuple(kept), dtype, into)


class _Space:
    """The axes of a reduction, collapsed: those kept with the strides of both arrays, those reduced with the operand's."""

    def __init__(self, x: StridedArray, axes: list[int], out: StridedArray, keepdims: bool) -> None:
        stay = [i for i in range(len(x.shape)) if i not in axes]
        target = [out.strides[i] for i in stay] if keepdims else list(out.strides)
        self.kept, (self.x_kept, self.out_kept) = collapse(
            [x.shape[i] for i in stay], [[x.strides[i] for i in stay], target]
        )
        self.reduced, (self.x_reduced,) = collapse([x.shape[i] for i in axes], [[x.strides[i] for i in axes]])
        self.count = math.prod(self.kept)

    def arguments(self, x: StridedArray, out: StridedArray) -> list[Any]:
        """What `reduce` and its like take."""
        return [
            *(x.memory, x.start, *self.x_kept, *self.x_reduced),
            *(out.memory, out.start, *self.out_kept, *self.kept, *self.reduced),
        ]


def _general(function: str, x: StridedArray, space: _Space, out: StridedArray) -> None:
    source = reduce(x.dialect, function, x.dtype, out.dtype, len(space.kept), len(space.reduced))
    arguments = [*space.arguments(x, out), space.count]
    x.device.launch(source, (space.count,), (group_of(space.count),), arguments)


def _columns(function: str, x: StridedArray, space: _Space, out: StridedArray) -> None:
    source = reduce_columns(x.dialect, function, x.dtype, len(space.kept), len(space.reduced))
    first = -(-space.kept[-1] // x.dialect.lanes[x.dtype])
    size = (first, math.prod(space.kept[:-1]))
    x.device.launch(source, size, (1, 1), space.arguments(x, out))


def _rows(function: str, x: StridedArray, space: _Space, out: StridedArray) -> None:
    (length,) = space.reduced
    profile = x.dialect.profile
    blocks = -(-length // profile.part) if space.count < profile.items else 1
    partial = out if blocks == 1 else empty(x.device, (space.count, blocks), x.dtype)
    source = reduce_rows(x.dialect, function, x.dtype, len(space.kept))
    sizes = [length, profile.part if blocks > 1 else length, blocks, space.count * blocks]
    arguments = [x.memory, x.start, *space.x_kept, partial.memory, partial.start, *space.kept, *sizes]
    x.device.launch(source, (space.count * blocks,), (1,), arguments)
    if blocks > 1:
        reduce_axes(function, partial, [1], False, out)


def _in_turns(function: str, x: StridedArray, space: _Space, out: StridedArray) -> None:
    """Columns of many rows: few rows at a time, whose memory pages stay at hand, and then what these came to."""
    (n,), (m,) = space.reduced, space.kept
    rows, (step,) = x.view((n, m), (*space.x_reduced, 1)), space.x_reduced
    turns = n // _TURN
    partial = empty(x.device, (-(-n // _TURN), m), x.dtype)
    reduce_axes(
        function,
        rows.view((turns, _TURN, m), (_TURN * step, step, 1)),
        [1],
        False,
        partial.view((turns, m), (m, 1)),
    )
    if turns * _TURN < n:
        left, last = (
            sliced(rows, [(turns * _TURN, n, 1), (0, m, 1)]),
            sliced(partial, [(turns, turns + 1, 1), (0, m, 1)]),
        )
        reduce_axes(function, left, [0], True, last)
    reduce_axes(function, partial, [0], False, out.view((m,), (1,)))


def reduce_axes(
    function: str, x: StridedArray, axes: list[int], keepdims: bool, out: StridedArray
) -> StridedArray:
    """Write the ``sum``, ``prod`` or ``max`` over some axes to ``out``."""
    if not out.size:
        return out
    if not x.size:
        return filled(1 if function == "prod" else 0, out)
    if out.dialect.computed(out.dtype) is not out.dtype:
        return rounding(lambda wide: reduce_axes(function, x, axes, keepdims, wide), out)
    x = computable(x)
    space = _Space(x, axes, out, keepdims)
    lanes = x.dialect.lanes.get(x.dtype, 0) if x.dtype is out.dtype else 0
    if lanes and space.x_reduced == (1,) and space.reduced[0] >= lanes and out.contiguous:
        _rows(function, x, space, out)
    elif (
        lanes and space.kept and space.kept[-1] >= lanes and space.x_kept[-1] == 1 and space.out_kept[-1] == 1
    ):
        if len(space.reduced) == len(space.kept) == 1 and space.reduced[0] >= 32 * _TURN:
            _in_turns(function, x, space, out)
        else:
            _columns(function, x, space, out)
    else:
        _general(function, x, space, out)
    return out


@table(ops.sum)
def _(
    x: StridedArray, *, axis: Any, keepdims: bool, dtype: DType, into: StridedArray | None = None
) -> StridedArray:
    axes = _axes(x, axis)
    return reduce_axes("sum", x, axes, keepdims, _result(x, axes, keepdims, dtype, into))


@table(ops.prod)
def _(
    x: StridedArray, *, axis: Any, keepdims: bool, dtype: DType, into: StridedArray | None = None
) -> StridedArray:
    axes = _axes(x, axis)
    return reduce_axes("prod", x, axes, keepdims, _result(x, axes, keepdims, dtype, into))


@table(ops.max)
def _(x: StridedArray, *, axis: Any, keepdims: bool, into: StridedArray | None = None) -> StridedArray:
    axes = _axes(x, axis)
    return reduce_axes("max", x, axes, keepdims, _result(x, axes, keepdims, x.dtype, into))


@table(ops.argmax)
def _(x: StridedArray, *, axis: Any, keepdims: bool, into: StridedArray | None = None) -> StridedArray:
    axes = _axes(x, axis)
    out = _result(x, axes, keepdims, dtypes.int64, into)
    if out.size:
        x = computable(x)
        space = _Space(x, axes, out, keepdims)
        source = arg_reduce(x.dialect, x.dtype, len(space.kept), len(space.reduced))
        arguments = [*space.arguments(x, out), space.count]
        x.device.launch(source, (space.count,), (group_of(space.count),), arguments)
    return out
