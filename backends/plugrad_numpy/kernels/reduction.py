"""Reductions. 16-bit floats accumulate in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from plugrad import ops

from plugrad_numpy.kernels._table import table

Array = Any


@table(ops.sum)
def _(x: Array, *, axis: tuple[int, ...], dtype: Any, keepdims: bool, into: Array | None = None) -> Array:
    wide = np.float32 if dtype.is_floating and dtype.itemsize == 2 else dtype.numpy
    if wide == dtype.numpy:
        return np.sum(x, axis=axis, dtype=wide, keepdims=keepdims, out=into)
    result = np.asarray(np.sum(x, axis=axis, dtype=wide, keepdims=keepdims)).astype(dtype.numpy)
    if into is None:
        return result
    np.copyto(into, result)
    return into


@table(ops.max)
def _(x: Array, *, axis: tuple[int, ...], keepdims: bool, into: Array | None = None) -> Array:
    return np.maximum.reduce(x, axis=axis, keepdims=keepdims, out=into)


@table(ops.min)
def _(x: Array, *, axis: tuple[int, ...], keepdims: bool, into: Array | None = None) -> Array:
    return np.minimum.reduce(x, axis=axis, keepdims=keepdims, out=into)


@table(ops.argmax)
def _(x: Array, *, axis: int | None, keepdims: bool, into: Array | None = None) -> Array:
    result = np.argmax(x, axis=axis, keepdims=keepdims)
    if into is None:
        return result
    np.copyto(into, result)
    return into
