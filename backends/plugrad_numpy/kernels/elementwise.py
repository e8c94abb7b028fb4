"""Elementwise kernels: NumPy's ufuncs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from plugrad import ops

from plugrad_numpy.kernels._table import table

Array = Any


def unary(op: Any, ufunc: Callable[..., Array]) -> None:
    """Register ``ufunc`` as the kernel of an op of one operand."""

    @table(op, inplace=("x",))
    def _(x: Array, *, into: Array | None = None) -> Array:
        return ufunc(x, out=into)


def binary(op: Any, ufunc: Callable[..., Array]) -> None:
    """Register ``ufunc`` as the kernel of an op of two operands."""

    @table(op, inplace=("x1", "x2"))
    def _(x1: Array, x2: Array, *, into: Array | None = None) -> Array:
        return ufunc(x1, x2, out=into)


for _op, _ufunc in (
    (ops.negative, np.negative),
    (ops.abs, np.abs),
    (ops.sign, np.sign),
    (ops.exp, np.exp),
    (ops.expm1, np.expm1),
    (ops.log, np.log),
    (ops.log1p, np.log1p),
    (ops.sqrt, np.sqrt),
    (ops.tanh, np.tanh),
    (ops.bitwise_invert, np.invert),
):
    unary(_op, _ufunc)

for _op, _ufunc in (
    (ops.add, np.add),
    (ops.subtract, np.subtract),
    (ops.multiply, np.multiply),
    (ops.divide, np.divide),
    (ops.pow, np.power),
    (ops.atan2, np.arctan2),
    (ops.maximum, np.maximum),
    (ops.minimum, np.minimum),
    (ops.equal, np.equal),
    (ops.not_equal, np.not_equal),
    (ops.less, np.less),
    (ops.less_equal, np.less_equal),
    (ops.bitwise_and, np.bitwise_and),
    (ops.bitwise_or, np.bitwise_or),
    (ops.bitwise_xor, np.bitwise_xor),
):
    binary(_op, _ufunc)


@table(ops.astype)
def _(x: Array, *, dtype: Any, into: Array | None = None) -> Array:
    if into is None:
        return np.asarray(x).astype(dtype.numpy)
    np.copyto(into, x, casting="unsafe")
    return into


@table(ops.where)
def _(condition: Array, x1: Array, x2: Array, *, into: Array | None = None) -> Array:
    result = np.where(condition, x1, x2)
    if into is None:
        return result
    np.copyto(into, result)
    return into
