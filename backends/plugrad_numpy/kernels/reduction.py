"""Reductions, and the gradients of those that take several passes. 16-bit floats accumulate in float32."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.spec import Spec
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any
Axis = tuple[int, ...]

# NumPy's annotations take no ``keepdims`` that is only known to be a bool.
_add: Final[Any] = np.add.reduce
_and: Final[Any] = np.logical_and.reduce
_or: Final[Any] = np.logical_or.reduce

_SMALL: Final = 8192
"""Elements that are filled faster than NumPy makes a broadcast view, which takes it 2 us."""


def _accumulator(dtype: Any) -> Any:
    return np.float32 if dtype.is_floating and dtype.itemsize == 2 else dtype.numpy


def _reduced(ufunc: Any, x: Array, axis: Axis, dtype: Any, keepdims: bool, into: Array | None) -> Array:
    """``ufunc`` over ``axis`` as ``dtype``."""
    wide = _accumulator(dtype)
    if wide == dtype.numpy:
        return ufunc.reduce(x, axis=axis, dtype=wide, keepdims=keepdims, out=into)
    result = ufunc.reduce(x, axis=axis, dtype=wide, keepdims=keepdims)
    return result.astype(dtype.numpy) if into is None else given(result, into)


def _kept(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    return tuple(1 if i in axis else n for i, n in enumerate(shape))


@table(ops.sum)
@silent
def _(x: Array, *, axis: Axis, dtype: Any, keepdims: bool, into: Array | None = None) -> Array:
    return _reduced(np.add, x, axis, dtype, keepdims, into)


@table(ops.prod)
@silent
def _(x: Array, *, axis: Axis, dtype: Any, keepdims: bool, into: Array | None = None) -> Array:
    return _reduced(np.multiply, x, axis, dtype, keepdims, into)


@table(ops.prod.vjp_for("x"))
@silent
def _(ct: Array, x: Array, *, axis: Axis, into: Array | None = None) -> Array:
    shape = np.shape(x)
    rest = tuple(i for i in range(len(shape)) if i not in axis)
    outer = tuple(shape[i] for i in rest)
    dtype = x.dtype
    ct = widened(ct)
    moved = np.transpose(x, (*rest, *axis))
    rows = np.reshape(moved, (*outer, math.prod(shape[i] for i in axis))).astype(ct.dtype)
    others = np.empty(rows.shape, ct.dtype)
    if rows.size:
        others[..., 0] = 1
        np.multiply.accumulate(rows[..., :-1], axis=-1, out=others[..., 1:])
        after = np.multiply.accumulate(rows[..., :0:-1], axis=-1)
        others[..., :-1] *= after[..., ::-1]
        others *= np.reshape(ct, (*outer, 1))
    back = np.argsort((*rest, *axis)).tolist()
    result = np.transpose(others.reshape(moved.shape), back).astype(dtype, copy=False)
    return given(result, into)


def _extremum(op: Any, ufunc: Any) -> None:
    @table(op)
    def _(x: Array, *, axis: Axis, keepdims: bool, into: Array | None = None) -> Array:
        wide = widened(x)
        if wide is x:
            return ufunc.reduce(x, axis=axis, keepdims=keepdims, out=into)
        result = ufunc.reduce(wide, axis=axis, keepdims=keepdims)
        return result.astype(x.dtype) if into is None else given(result, into)

    @table(op.vjp_for("x"))
    @silent
    def _(ct: Array, x: Array, out: Array, *, axis: Axis, into: Array | None = None) -> Array:
        kept = _kept(x.shape, axis)
        hits = np.equal(x, np.reshape(out, kept))
        wide = widened(ct)
        share = np.reshape(wide, kept) / np.add.reduce(hits, axis=axis, keepdims=True, dtype=wide.dtype)
        result = np.multiply(hits, share)
        return result.astype(ct.dtype, copy=False) if into is None else given(result, into)


_extremum(ops.max, np.maximum)
_extremum(ops.min, np.minimum)


@table(ops.mean)
@silent
def _(x: Array, *, axis: Axis, keepdims: bool, into: Array | None = None) -> Array:
    dtype = x.dtype
    wide = np.float32 if dtype.itemsize == 2 else dtype.type
    total = _add(x, axis=axis, dtype=wide, keepdims=keepdims)
    mean = np.divide(total, wide(math.prod(x.shape[i] for i in axis)))
    return mean.astype(dtype, copy=False) if into is None else given(mean, into)


@table(ops.mean.vjp_for("x"))
@silent
def _(ct: Array, *, x: Spec, axis: Axis, into: Array | None = None) -> Array:
    count = math.prod(x.shape[i] for i in axis)
    each = np.reshape(np.divide(ct, ct.dtype.type(count)), _kept(x.shape, axis))
    if into is None:
        if x.size > _SMALL:
            return np.broadcast_to(each, x.shape)
        into = np.empty(x.shape, ct.dtype)
    np.copyto(into, each)
    return into


@table(ops.argmax)
def _(x: Array, *, axis: int | None, keepdims: bool, into: Array | None = None) -> Array:
    return given(np.argmax(widened(x), axis=axis, keepdims=keepdims), into)


@table(ops.argmin)
def _(x: Array, *, axis: int | None, keepdims: bool, into: Array | None = None) -> Array:
    return given(np.argmin(widened(x), axis=axis, keepdims=keepdims), into)


@table(ops.count_nonzero)
def _(x: Array, *, axis: Axis, keepdims: bool, into: Array | None = None) -> Array:
    result = np.asarray(np.count_nonzero(x, axis=axis, keepdims=keepdims), np.int64)
    return given(result, into)


@table(ops.all)
def _(x: Array, *, axis: Axis, keepdims: bool, into: Array | None = None) -> Array:
    return given(_and(x, axis=axis, keepdims=keepdims, dtype=np.bool_), into)


@table(ops.any)
def _(x: Array, *, axis: Axis, keepdims: bool, into: Array | None = None) -> Array:
    return given(_or(x, axis=axis, keepdims=keepdims, dtype=np.bool_), into)
