"""Elementwise primitives, by the expressions in their records."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np

from plugrad import dtypes, ops
from plugrad.dispatch.op import Kind
from plugrad.dispatch.statement import all_ops
from plugrad.dtypes import DType
from plugrad.generated.array import StridedArray
from plugrad.generated.kernels._run import cast, raw, room, room_like, run_elementwise
from plugrad.generated.kernels._table import table
from plugrad.graph.source import Dialect, expression_of, next_bits
from plugrad.spec import broadcast_shapes

_TRUTHS: Final = frozenset((ops.equal, ops.not_equal, ops.less, ops.less_equal, ops.signbit))


def _common(values: list[Any]) -> DType:
    """The dtype of operands that are promoted: that of an array, or the default one of Python numbers."""
    for x in values:
        if isinstance(x, StridedArray):
            return x.dtype
    kinds = set(map(type, values))
    return dtypes.float32 if float in kinds else dtypes.int64 if int in kinds else dtypes.bool


def _register(op: Any) -> None:
    names = [o.name for o in op.operands]
    promoted = [name in op.promoted or len(names) == 1 for name in names]
    truth = op in _TRUTHS
    # A result whose elements have another size would overtake an operand that it overlaps.
    inplace = [] if truth else [n for n, p in zip(names, promoted, strict=True) if p]

    @cache
    def expression(dtype: DType, dialect: Dialect) -> tuple[str, str]:
        return expression_of(op, dtype, dialect)

    @table(op, inplace=inplace)
    def _(*operands: Any, into: StridedArray | None = None) -> StridedArray:
        dtype = _common([x for x, p in zip(operands, promoted, strict=True) if p])
        described = [
            (name, x, dtype if p else x.dtype if type(x) is StridedArray else dtypes.bool)
            for name, x, p in zip(names, operands, promoted, strict=True)
        ]
        if into is None:
            arrays = [x for x in operands if type(x) is StridedArray]
            shapes = [x.shape for x in arrays]
            shape = shapes[0] if all(s == shapes[0] for s in shapes) else broadcast_shapes(op.name, shapes)
            into = room_like(arrays, shape, dtypes.bool if truth else dtype)
        return run_elementwise(*expression(dtype, into.dialect), described, into)


@table(ops.nextafter, when=lambda specs, _: specs[0].dtype.itemsize == 2, inplace=("x1", "x2"))
def _(x1: Any, x2: Any, *, into: StridedArray | None = None) -> StridedArray:
    arrays = [x for x in (x1, x2) if isinstance(x, StridedArray)]
    dtype = arrays[0].dtype
    if into is None:
        into = room(arrays[0].device, broadcast_shapes("nextafter", [x.shape for x in arrays]), dtype, None)

    def bits(x: Any) -> Any:
        return raw(x) if isinstance(x, StridedArray) else int(np.asarray(x, dtype.numpy).view(np.uint16))

    expression, helper = next_bits(bits(np.inf), into.dialect)
    described = [("x1", bits(x1), dtypes.uint16), ("x2", bits(x2), dtypes.uint16)]
    run_elementwise(expression, helper, described, raw(into))
    return into


for _op in all_ops().values():
    if _op.primitive and _op.kind is Kind.ELEMENTWISE and _op.expression is not None and "." not in _op.name:
        _register(_op)


@table(ops.astype)
def _(x: StridedArray, *, dtype: DType, into: StridedArray | None = None) -> StridedArray:
    return cast(x, room_like([x], x.shape, dtype) if into is None else into)
