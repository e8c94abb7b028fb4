"""Orders, by merging: short runs are sorted by insertion, then runs are merged two by two."""

from __future__ import annotations

from typing import Any, Final

from plugrad import dtypes, ops
from plugrad.generated.array import StridedArray, empty, permuted
from plugrad.generated.kernels._run import computable, contiguous, given, group_of
from plugrad.generated.kernels._table import table
from plugrad.graph.source import merge_runs, sort_runs

_RUN: Final = 16


@table(ops.argsort)
def _(
    x: StridedArray, *, axis: int, descending: bool, into: StridedArray | None = None, **_: Any
) -> StridedArray:
    axes = [*(i for i in range(len(x.shape)) if i != axis), axis]
    back = [axes.index(i) for i in range(len(axes))]
    rows = contiguous(permuted(computable(x), axes))
    order = empty(x.device, rows.shape, dtypes.int64)
    if x.size:
        length = x.shape[axis]
        lines = x.size // length
        runs = -(-length // _RUN)
        source = sort_runs(rows.dialect, rows.dtype, descending)
        count = lines * runs
        x.device.launch(
            source,
            (count,),
            (group_of(count),),
            [rows.memory, rows.start, order.memory, length, _RUN, runs, count],
        )
        source = merge_runs(rows.dialect, rows.dtype, descending)
        run, other = _RUN, empty(x.device, rows.shape, dtypes.int64) if length > _RUN else order
        while run < length:
            pairs = -(-length // (2 * run))
            count = lines * pairs
            arguments = [rows.memory, rows.start, order.memory, other.memory, length, run, pairs, count]
            x.device.launch(source, (count,), (group_of(count),), arguments)
            order, other, run = other, order, 2 * run
    return given(permuted(order, back), into)
