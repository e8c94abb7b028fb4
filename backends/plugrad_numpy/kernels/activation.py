"""Kernels of activation functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy import _special
from plugrad_numpy.kernels._fused import fused, large
from plugrad_numpy.kernels._masks import blend, keep
from plugrad_numpy.kernels._table import table

Array = Any


def _zero(x: Array) -> Any:
    """0 of the dtype of ``x``, which costs a ufunc less than Python's."""
    return x.dtype.type(0)


@fused(ops.relu, inplace=("x",))
def _(x: Array, into: Array | None) -> Array:
    return np.maximum(x, _zero(x), out=into)


@fused(ops.relu.vjp, inplace=("ct",))
def _(ct: Array, out: Array, into: Array | None) -> Array:
    return keep(ct, np.greater(out, _zero(out)), into)


@fused(ops.leaky_relu)
def _(x: Array, into: Array | None, *, negative_slope: float) -> Array:
    scaled = np.multiply(x, negative_slope, into)
    if 0 < negative_slope <= 1:
        return np.maximum(x, scaled, out=scaled)
    np.copyto(scaled, x, where=np.greater(x, _zero(x)))
    return scaled


@fused(ops.leaky_relu.vjp)
def _(ct: Array, x: Array, into: Array | None, *, negative_slope: float) -> Array:
    scaled = np.multiply(ct, negative_slope)
    into = np.empty_like(scaled) if into is None else into
    return blend(np.greater(x, _zero(x)), ct, scaled, into)


@fused(ops.elu)
def _(x: Array, into: Array | None, *, alpha: float) -> Array:
    low = np.minimum(x, _zero(x), out=into)
    np.expm1(low, low)
    np.multiply(low, alpha, low)
    return np.add(low, np.maximum(x, _zero(x)), low)


@fused(ops.elu.vjp)
def _(ct: Array, x: Array, into: Array | None, *, alpha: float) -> Array:
    slope = np.minimum(x, _zero(x))
    np.exp(slope, slope)
    np.multiply(slope, alpha, slope)
    np.multiply(slope, ct, slope)
    into = np.empty_like(slope) if into is None else into
    return blend(np.greater(x, _zero(x)), ct, slope, into)


def _logistic(x: Array, into: Array | None) -> Array:
    """1 / (1 + exp(-x)): exp overflows to an infinity where the result is 0 or subnormal.

    To keep the subnormal ones (below -88.7 in float32) takes another pass: 28 % slower in float32, measured.
    """
    s = np.negative(x, into)
    np.exp(s, s)
    np.add(s, s.dtype.type(1), s)
    return np.reciprocal(s, s)


fused(ops.sigmoid, inplace=("x",))(_logistic)


@fused(ops.sigmoid.vjp)
def _(ct: Array, out: Array, into: Array | None) -> Array:
    slope = np.multiply(out, out, into)
    np.subtract(out, slope, slope)
    return np.multiply(ct, slope, slope)


@fused(ops.silu)
def _(x: Array, into: Array | None) -> Array:
    s = _logistic(x, into)
    return np.multiply(x, s, s)


@fused(ops.silu.vjp)
def _(ct: Array, x: Array, into: Array | None) -> Array:
    s = _logistic(x, None)
    slope = np.subtract(s.dtype.type(1), s, into)
    np.multiply(slope, x, slope)
    np.add(slope, slope.dtype.type(1), slope)
    np.multiply(slope, s, slope)
    return np.multiply(ct, slope, slope)


@fused(ops.softplus)
def _(x: Array, into: Array | None, *, beta: float, threshold: float) -> Array:
    scaled = np.multiply(x, beta)
    soft = np.absolute(scaled, into)
    np.negative(soft, soft)
    np.exp(soft, soft)
    np.log1p(soft, soft)
    np.add(soft, np.maximum(scaled, _zero(x)), soft)
    np.multiply(soft, 1 / beta, soft)
    np.copyto(soft, x, where=np.greater(scaled, threshold))
    return soft


@fused(ops.softplus.vjp)
def _(ct: Array, x: Array, into: Array | None, *, beta: float, threshold: float) -> Array:
    scaled = np.multiply(x, beta)
    slope = _logistic(scaled, into)
    np.copyto(slope, slope.dtype.type(1), where=np.greater(scaled, threshold))
    return np.multiply(ct, slope, slope)


def _erf(x: Array, *, into: Array | None = None) -> Array:
    return _special.erf(np.asarray(x), into)


def _gelu(x: Array, *, approximate: str, into: Array | None = None) -> Array:
    function = _special.gelu_exact if approximate == "none" else _special.gelu_tanh
    return function(np.asarray(x), into=into)


def _gelu_vjp(ct: Array, x: Array, *, approximate: str, into: Array | None = None) -> Array:
    function = _special.gelu_exact_vjp if approximate == "none" else _special.gelu_tanh_vjp
    return function(np.asarray(ct), np.asarray(x), into=into)


for _op, _kernel, _names in (
    (ops.erf, _erf, ("x",)),
    (ops.gelu, _gelu, ("x",)),
    (ops.gelu.vjp, _gelu_vjp, ("ct", "x")),
):
    table(_op, when=large, inplace=_names, spreads=True)(_kernel)
    table(_op, inplace=_names)(_kernel)
