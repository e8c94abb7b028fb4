"""Products of matrices, and the fully connected layer, whose bias is added before a sum is stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from plugrad import ops
from plugrad.generated.array import StridedArray, permuted, reshaped
from plugrad.generated.kernels._product import BIASED, multiply
from plugrad.generated.kernels._run import computable, contiguous, copied, filled, room, rounding
from plugrad.generated.kernels._table import table
from plugrad.graph.source import Epilogue
from plugrad.graph.source.tile import PLAIN
from plugrad.spec import Shape, broadcast_shapes


def _product(
    x1: StridedArray,
    x2: StridedArray,
    out: StridedArray,
    tail: Epilogue = PLAIN,
    operands: Sequence[StridedArray] = (),
) -> StridedArray:
    """``x1 @ x2`` and the epilogue in ``out``, of any dtype and layout."""
    if not out.size:
        return out
    if not x1.shape[-1]:
        return copied(operands[0], out) if operands else filled(0, out)
    if out.dialect.computed(out.dtype) is not out.dtype:
        wide = [computable(x) for x in (x1, x2, *operands)]
        return rounding(lambda sums: multiply(wide[0], wide[1], sums, tail, wide[2:]), out)
    return multiply(x1, x2, out, tail, operands)


@table(ops.matrix_product)
def _(x1: StridedArray, x2: StridedArray, *, into: StridedArray | None = None) -> StridedArray:
    batch = broadcast_shapes("matrix_product", [x1.shape[:-2], x2.shape[:-2]])
    out = room(x1.device, (*batch, x1.shape[-2], x2.shape[-1]), x1.dtype, into)
    return _product(x1, x2, out)


def _rows(x: StridedArray) -> StridedArray:
    """``x`` (..., n) as (rows, n)."""
    shape: Shape = (math.prod(x.shape[:-1]), x.shape[-1])
    view = reshaped(x, shape)
    return reshaped(contiguous(x), shape) if view is None else view  # type: ignore[return-value]


def _transposed(x: StridedArray) -> StridedArray:
    return permuted(x, (1, 0))


@table(ops.linear)
def _(
    x: StridedArray, weight: StridedArray, bias: StridedArray | None, *, into: StridedArray | None = None
) -> StridedArray:
    out = room(x.device, (*x.shape[:-1], weight.shape[0]), x.dtype, into)
    tail, operands = (PLAIN, ()) if bias is None else (BIASED, (bias,))
    _product(_rows(x), _transposed(weight), _rows(out), tail, operands)
    return out


@table(ops.linear.vjp_for("x"))
def _(ct: StridedArray, weight: StridedArray, *, x: Any, into: StridedArray | None = None) -> StridedArray:
    out = room(ct.device, x.shape, ct.dtype, into)
    _product(_rows(ct), weight, _rows(out))
    return out


@table(ops.linear.vjp_for("weight"))
def _(ct: StridedArray, x: StridedArray, *, into: StridedArray | None = None) -> StridedArray:
    out = room(ct.device, (ct.shape[-1], x.shape[-1]), ct.dtype, into)
    return _product(_transposed(_rows(ct)), _rows(x), out)
