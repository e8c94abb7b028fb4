"""Running sums."""

from __future__ import annotations

import math

from plugrad import ops
from plugrad.dtypes import DType
from plugrad.generated.array import StridedArray
from plugrad.generated.kernels._run import computable, group_of, room, rounding
from plugrad.generated.kernels._table import table
from plugrad.graph.source import collapse, cumulative


@table(ops.cumulative_sum)
def _(
    x: StridedArray, *, axis: int, dtype: DType, include_initial: bool, into: StridedArray | None = None
) -> StridedArray:
    shape = tuple(n + include_initial if i == axis else n for i, n in enumerate(x.shape))
    out = room(x.device, shape, dtype, into)
    return rounding(lambda wide: _scan(computable(x), axis, include_initial, wide), out) if out.size else out


def _scan(x: StridedArray, axis: int, include_initial: bool, out: StridedArray) -> StridedArray:
    shape = out.shape
    rest = [i for i in range(len(shape)) if i != axis]
    sizes, (own, target) = collapse(
        [shape[i] for i in rest], [[a.strides[i] for i in rest] for a in (x, out)]
    )
    count = math.prod(sizes)
    memory = x.memory if x.size else out.memory  # an axis of no elements is not read
    arguments = [
        *(memory, x.start, *own, x.strides[axis]),
        *(out.memory, out.start, *target, out.strides[axis]),
        *(*sizes, x.shape[axis], int(include_initial), count),
    ]
    source = cumulative(x.dialect, x.dtype, out.dtype, len(sizes))
    x.device.launch(source, (count,), (group_of(count),), arguments)
    return out
