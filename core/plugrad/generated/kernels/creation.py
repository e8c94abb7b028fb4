"""Kernels that make arrays from nothing."""

from __future__ import annotations

from typing import Any

from plugrad import dtypes, ops
from plugrad.dtypes import DType
from plugrad.generated.array import StridedArray
from plugrad.generated.device import device_of
from plugrad.generated.kernels._run import filled, group_of, room
from plugrad.generated.kernels._table import table
from plugrad.graph.source import cast_of, elementwise
from plugrad.spec import Device, Shape


@table(ops.full)
def _(
    *, shape: Shape, fill_value: Any, dtype: DType, device: Device, into: StridedArray | None = None
) -> StridedArray:
    return filled(fill_value, room(device_of(device), shape, dtype, into))


@table(ops.iota)
def _(*, length: int, dtype: DType, device: Device, into: StridedArray | None = None) -> StridedArray:
    out = room(device_of(device), (length,), dtype, into)
    if length:
        expression, helper = cast_of(dtypes.int64, dtype, out.dialect, "i0")
        source = elementwise(out.dialect, expression, helper, (), dtype, "s", 1)
        out.device.launch(
            source, (length, 1, 1), (group_of(length), 1, 1), [out.memory, out.start, *out.strides, length]
        )
    return out
