"""Kernels of the softmax family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy import _special
from plugrad_numpy.kernels._blocks import BLOCK
from plugrad_numpy.kernels._fused import fused
from plugrad_numpy.kernels._masks import keep
from plugrad_numpy.kernels._precision import given
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any


def _small(specs: Sequence[Any], attributes: Any) -> bool:
    """Whether the operands are worked on at once: in float32 or float64, and not too large for the cache."""
    del attributes
    return bool(specs[0].dtype.itemsize >= 4 and 0 < specs[0].size <= BLOCK)


@table(ops.softmax, when=_small)
@silent
def _(x: Array, *, axis: int, into: Array | None = None) -> Array:
    e = np.subtract(x, np.maximum.reduce(x, axis=axis, keepdims=True), out=into)
    np.exp(e, out=e)
    return np.divide(e, np.add.reduce(e, axis=axis, keepdims=True), out=e)


@table(ops.softmax)
def _(x: Array, *, axis: int, into: Array | None = None) -> Array:
    return _special.softmax(x, axis=axis, into=into)


@table(ops.softmax.vjp, when=_small)
@silent
def _(ct: Array, out: Array, *, axis: int, into: Array | None = None) -> Array:
    total = np.add.reduce(np.multiply(ct, out), axis=axis, keepdims=True)
    result = np.subtract(ct, total, out=into)
    return np.multiply(result, out, out=result)


@table(ops.softmax.vjp)
def _(ct: Array, out: Array, *, axis: int, into: Array | None = None) -> Array:
    return _special.softmax_vjp(ct, out, axis=axis, into=into)


@table(ops.log_softmax, when=_small)
@silent
def _(x: Array, *, axis: int, into: Array | None = None) -> Array:
    shifted = np.subtract(x, np.maximum.reduce(x, axis=axis, keepdims=True), out=into)
    total = np.add.reduce(np.exp(shifted), axis=axis, keepdims=True)
    return np.subtract(shifted, np.log(total), out=shifted)


@table(ops.log_softmax)
def _(x: Array, *, axis: int, into: Array | None = None) -> Array:
    return _special.log_softmax(x, axis=axis, into=into)


@table(ops.log_softmax.vjp, when=_small)
@silent
def _(ct: Array, out: Array, *, axis: int, into: Array | None = None) -> Array:
    shares = np.exp(out, out=into)
    np.multiply(shares, np.add.reduce(ct, axis=axis, keepdims=True), out=shares)
    return np.subtract(ct, shares, out=shares)


@table(ops.log_softmax.vjp)
def _(ct: Array, out: Array, *, axis: int, into: Array | None = None) -> Array:
    return _special.log_softmax_vjp(ct, out, axis=axis, into=into)


def _as_lines(x: Array, axis: tuple[int, ...]) -> Array:
    """``x`` as (rest, summed), the axes summed in one."""
    order = [a for a in range(x.ndim) if a not in axis]
    shape = [x.shape[a] for a in order]
    count = 1
    for a in axis:
        count *= x.shape[a]
    return np.transpose(x, (*order, *axis)).reshape(*shape, count)


@table(ops.logsumexp)
def _(x: Array, *, axis: tuple[int, ...], keepdims: bool, into: Array | None = None) -> Array:
    x = np.asarray(x)
    if len(axis) == 1:
        return _special.logsumexp(x, axis=axis[0], keepdims=keepdims, into=into)
    lines = _as_lines(x, axis)
    result = _special.logsumexp(lines, axis=lines.ndim - 1)
    shape = [1 if a in axis else n for a, n in enumerate(x.shape) if keepdims or a not in axis]
    return given(result.reshape(shape), into)


@table(ops.logsumexp.vjp)
def _(ct: Array, x: Array, out: Array, *, axis: tuple[int, ...], into: Array | None = None) -> Array:
    x, shape = np.asarray(x), [1 if a in axis else n for a, n in enumerate(np.shape(x))]
    total = np.where(np.equal(out, -np.inf), out.dtype.type(0), out).reshape(shape)
    ct = np.reshape(ct, shape)
    if len(axis) == 1:
        return _special.logsumexp_vjp(ct, x, total, axis=axis[0], keepdims=True, into=into)
    lines = _as_lines(x, axis)
    inner = (*lines.shape[:-1], 1)
    order = [a for a in range(x.ndim) if a not in axis] + list(axis)
    result = _special.logsumexp_vjp(
        ct.reshape(inner), lines, total.reshape(inner), axis=lines.ndim - 1, keepdims=True
    )
    back = np.transpose(result.reshape([x.shape[a] for a in order]), np.argsort(order))
    return given(back, into)


def _share(ct: Array, mine: Any, other: Any, into: Array | None) -> Array:
    """``ct * sigmoid(mine - other)``, with 0 for the difference of equal infinities."""
    lag = np.subtract(other, mine, into)
    keep(lag, np.not_equal(mine, other), lag)
    np.exp(lag, lag)
    np.add(lag, lag.dtype.type(1), lag)
    return np.divide(ct, lag, lag)


@fused(ops.logaddexp.vjp_for("x1"))
def _(ct: Array, x1: Any, x2: Any, into: Array | None) -> Array:
    return _share(ct, x1, x2, into)


@fused(ops.logaddexp.vjp_for("x2"))
def _(ct: Array, x1: Any, x2: Any, into: Array | None) -> Array:
    return _share(ct, x2, x1, into)
