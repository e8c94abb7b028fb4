"""Kernels that select and cast."""

from __future__ import annotations

from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy.kernels._blocks import in_blocks
from plugrad_numpy.kernels._fused import blockwise, large
from plugrad_numpy.kernels._masks import blend, keep
from plugrad_numpy.kernels._precision import given, typed
from plugrad_numpy.kernels._silent import quietly
from plugrad_numpy.kernels._table import table

Array = Any


def _common(x1: Any, x2: Any) -> Any:
    """The dtype of the result: that of an array, which the core has promoted, or the default one of Python numbers."""
    for x in (x1, x2):
        if isinstance(x, (np.ndarray, np.generic)):
            return x.dtype
    kinds = {type(x1), type(x2)}
    return np.dtype(np.float32 if float in kinds else np.int64 if int in kinds else np.bool_)


@table(ops.where, when=large)
def _(condition: Array, x1: Any, x2: Any, *, into: Array | None = None) -> Array:
    dtype = _common(x1, x2)
    operands = [condition, typed(x1, dtype), typed(x2, dtype)]
    if into is None:
        into = np.empty(np.broadcast_shapes(*(a.shape for a in operands)), dtype)
    return in_blocks(blend, operands, into)


@table(ops.where)
def _(condition: Array, x1: Any, x2: Any, *, into: Array | None = None) -> Array:
    dtype = _common(x1, x2)
    return given(np.where(condition, typed(x1, dtype), typed(x2, dtype)), into)


def _drop(ct: Array, condition: Array, into: Array | None) -> Array:
    return keep(ct, np.logical_not(condition), into)


for _op, _function in ((ops.where.vjp_for("x1"), keep), (ops.where.vjp_for("x2"), _drop)):
    table(_op, when=large, inplace=("ct",))(blockwise(_function))


@table(ops.where.vjp_for("x1"), inplace=("ct",))
def _(ct: Array, condition: Array, *, into: Array | None = None) -> Array:
    return keep(ct, condition, into)


@table(ops.where.vjp_for("x2"), inplace=("ct",))
def _(ct: Array, condition: Array, *, into: Array | None = None) -> Array:
    return _drop(ct, condition, into)


def _cast(x: Array, into: Array) -> None:
    np.copyto(into, x, casting="unsafe")


@table(ops.astype, when=large)
def _(x: Array, *, dtype: Any, into: Array | None = None) -> Array:
    return in_blocks(_cast, [x], np.empty(x.shape, dtype.numpy) if into is None else into)


@table(ops.astype)
def _(x: Array, *, dtype: Any, into: Array | None = None) -> Array:
    result = np.empty(x.shape, dtype.numpy) if into is None else into
    quietly(_cast, x, result)
    return result
