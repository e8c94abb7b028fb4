"""Elementwise primitives, by the expressions in their records."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from plugrad import dtypes, ops
from plugrad.dispatch.op import Kind
from plugrad.dispatch.statement import all_ops
from plugrad.dtypes import DType
from plugrad.graph.source import expression_of, next_bits
from plugrad.spec import broadcast_shapes
from plugrad_opencl._array import CLArray
from plugrad_opencl._dialect import OPENCL_C
from plugrad_opencl.kernels._run import cast, raw, room, run_elementwise
from plugrad_opencl.kernels._table import table

_TRUTHS: Final = frozenset((ops.equal, ops.not_equal, ops.less, ops.less_equal, ops.signbit))


def _common(values: list[Any]) -> DType:
    """The dtype of operands that are promoted: that of an array, or the default one of Python numbers."""
    for x in values:
        if isinstance(x, CLArray):
            return x.dtype
    kinds = set(map(type, values))
    return dtypes.float32 if float in kinds else dtypes.int64 if int in kinds else dtypes.bool


def _register(op: Any) -> None:
    names = [o.name for o in op.operands]
    promoted = [name in op.promoted or len(names) == 1 for name in names]
    truth = op in _TRUTHS
    # A result whose elements have another size would overtake an operand that it overlaps.
    inplace = [] if truth else [n for n, p in zip(names, promoted, strict=True) if p]

    @table(op, inplace=inplace)
    def _(*operands: Any, into: CLArray | None = None) -> CLArray:
        dtype = _common([x for x, p in zip(operands, promoted, strict=True) if p])
        kinds = [
            dtype if p else x.dtype if isinstance(x, CLArray) else dtypes.bool
            for x, p in zip(operands, promoted, strict=True)
        ]
        arrays = [x for x in operands if isinstance(x, CLArray)]
        if into is None:
            shape = broadcast_shapes(op.name, [x.shape for x in arrays])
            into = room(arrays[0].device, shape, dtypes.bool if truth else dtype, None)
        expression, helper = expression_of(op, dtype, OPENCL_C)
        return run_elementwise(expression, helper, list(zip(names, operands, kinds, strict=True)), into)


@table(ops.nextafter, when=lambda specs, _: specs[0].dtype.itemsize == 2, inplace=("x1", "x2"))
def _(x1: CLArray, x2: CLArray, *, into: CLArray | None = None) -> CLArray:
    if into is None:
        into = room(x1.device, broadcast_shapes("nextafter", [x1.shape, x2.shape]), x1.dtype, None)
    infinity = int(np.asarray(np.inf, x1.dtype.numpy).view(np.uint16))
    expression, helper = next_bits(infinity, OPENCL_C)
    operands = [(name, raw(x), dtypes.uint16) for name, x in (("x1", x1), ("x2", x2))]
    run_elementwise(expression, helper, operands, raw(into))
    return into


for _op in all_ops().values():
    if _op.primitive and _op.kind is Kind.ELEMENTWISE and _op.expression is not None and "." not in _op.name:
        _register(_op)


@table(ops.astype)
def _(x: CLArray, *, dtype: DType, into: CLArray | None = None) -> CLArray:
    return cast(x, room(x.device, x.shape, dtype, into))
