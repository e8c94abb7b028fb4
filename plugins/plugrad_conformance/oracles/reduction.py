"""Oracles of the reductions. A kernel gets ``axis`` as a tuple, ascending; `argmax` and `argmin` an int or None."""

from __future__ import annotations

import math

import numpy as np

from plugrad.dtypes import DType
from plugrad_conformance.oracles._held import Array, held
from plugrad_conformance.oracles._register import oracle

Axes = tuple[int, ...]


@oracle("sum")
@np.errstate(all="ignore")
def _sum(x: Array, *, axis: Axes, dtype: DType, keepdims: bool) -> Array:
    return np.asarray(np.sum(x, axis=axis, dtype=held(dtype), keepdims=keepdims))


@oracle("sum_to")
@np.errstate(all="ignore")
def _sum_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    # The leading axes that broadcasting put there, and those that it stretched.
    extra = x.ndim - len(shape)
    stretched = [extra + i for i, n in enumerate(shape) if n == 1]
    total = np.sum(x, axis=(*range(extra), *stretched), keepdims=True, dtype=x.dtype)
    return np.asarray(total).reshape(shape)


@oracle("prod")
@np.errstate(all="ignore")
def _prod(x: Array, *, axis: Axes, dtype: DType, keepdims: bool) -> Array:
    return np.asarray(np.prod(x, axis=axis, dtype=held(dtype), keepdims=keepdims))


@oracle("max")
@np.errstate(all="ignore")
def _max(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    return np.asarray(np.max(x, axis=axis, keepdims=keepdims))


@oracle("min")
@np.errstate(all="ignore")
def _min(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    return np.asarray(np.min(x, axis=axis, keepdims=keepdims))


@oracle("mean")
@np.errstate(all="ignore")
def _mean(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    # 0 / 0 of no elements: NaN.
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims) / np.float64(_count(x, axis)))


def _count(x: Array, axis: Axes) -> int:
    """How many elements are reduced to one."""
    return math.prod(x.shape[a] for a in axis)


@oracle("var")
@np.errstate(all="ignore")
def _var(x: Array, *, axis: Axes, correction: float, keepdims: bool) -> Array:
    centred = x - _mean(x, axis=axis, keepdims=True)
    degrees = _count(x, axis) - correction
    squares = np.asarray(np.sum(centred * centred, axis=axis, keepdims=keepdims))
    return np.asarray(squares / (degrees if degrees > 0 else np.nan))


@oracle("std")
@np.errstate(all="ignore")
def _std(x: Array, *, axis: Axes, correction: float, keepdims: bool) -> Array:
    return np.asarray(np.sqrt(_var(x, axis=axis, correction=correction, keepdims=keepdims)))


@oracle("count_nonzero")
def _count_nonzero(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    return np.asarray(np.sum(x != 0, axis=axis, dtype=np.int64, keepdims=keepdims))


@oracle("all")
def _all(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    return np.asarray(np.all(x != 0, axis=axis, keepdims=keepdims))


@oracle("any")
def _any(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    return np.asarray(np.any(x != 0, axis=axis, keepdims=keepdims))


@oracle("argmax")
def _argmax(x: Array, *, axis: int | None, keepdims: bool) -> Array:
    return np.asarray(np.argmax(x, axis=axis, keepdims=keepdims), np.int64)


@oracle("argmin")
def _argmin(x: Array, *, axis: int | None, keepdims: bool) -> Array:
    return np.asarray(np.argmin(x, axis=axis, keepdims=keepdims), np.int64)
