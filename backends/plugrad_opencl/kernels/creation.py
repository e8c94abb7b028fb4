"""Kernels that make arrays from nothing."""

from __future__ import annotations

from typing import Any

from plugrad import dtypes, ops
from plugrad.dtypes import DType
from plugrad.graph.source import cast_of, elementwise
from plugrad.spec import Device, Shape
from plugrad_opencl import _device
from plugrad_opencl._array import CLArray
from plugrad_opencl._dialect import OPENCL_C
from plugrad_opencl.kernels._run import filled, group_of, room
from plugrad_opencl.kernels._table import table


@table(ops.full)
def _(*, shape: Shape, fill_value: Any, dtype: DType, device: Device, into: CLArray | None = None) -> CLArray:
    return filled(fill_value, room(_device.found()[device.index], shape, dtype, into))


@table(ops.iota)
def _(*, length: int, dtype: DType, device: Device, into: CLArray | None = None) -> CLArray:
    out = room(_device.found()[device.index], (length,), dtype, into)
    if length:
        expression, helper = cast_of(dtypes.int64, dtype, OPENCL_C, "i0")
        source = elementwise(OPENCL_C, expression, helper, (), dtype, "s", 1)
        out.device.launch(
            source, (length, 1, 1), (group_of(length), 1, 1), [out.memory, out.start, *out.strides, length]
        )
    return out
