"""Kernels of activation functions."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad_numpy import _special
from plugrad_numpy.kernels._fused import fused, large, spare
from plugrad_numpy.kernels._masks import blend, keep
from plugrad_numpy.kernels._table import table

Array = Any

_ROW: Final = 1 << 13
"""Elements of the zeros that large arrays are compared with."""

_FEW: Final = 1 << 10
"""Elements up to which a number costs less than finding as many zeros."""

_ZEROS: Final = {np.dtype(t): np.zeros(_ROW, t) for t in (np.float32, np.float64)}


def _zero(x: Array) -> Any:
    """0 of the dtype of ``x``, which costs a ufunc less than Python's."""
    return x.dtype.type(0)


def _bound_by_zero(ufunc: Any, x: Array, into: Array | None) -> Array:
    """`numpy.maximum` or `numpy.minimum` of ``x`` and 0.

    They take three times as long for a number as for an array. (`numpy.clip` is as fast, but which of -0 and 0 it
    gives depends on the place.)
    """
    row = _ZEROS.get(x.dtype)
    if row is None or not x.flags.c_contiguous:
        return ufunc(x, _zero(x), out=into)
    size = x.size
    if size <= _ROW:
        return ufunc(x, row[:size].reshape(x.shape) if size > _FEW else _zero(x), out=into)
    whole = size - size % _ROW
    if into is None:
        into = np.empty(x.shape, x.dtype)
    elif not into.flags.c_contiguous:
        return ufunc(x, _zero(x), out=into)
    flat, place = x.reshape(-1), into.reshape(-1)
    ufunc(flat[:whole].reshape(-1, _ROW), row, out=place[:whole].reshape(-1, _ROW))
    if whole < size:
        ufunc(flat[whole:], row[: size - whole], out=place[whole:])
    return into


def _above(x: Array, into: Array | None) -> Array:
    """The larger of ``x`` and 0."""
    return _bound_by_zero(np.maximum, x, into)


def _below(x: Array, into: Array | None) -> Array:
    """The smaller of ``x`` and 0."""
    return _bound_by_zero(np.minimum, x, into)


def _positive(x: Array) -> Array:
    """Where ``x`` is above 0."""
    return np.greater(x, _zero(x), spare(0, x, np.dtype(np.bool_)))


fused(ops.relu, inplace=("x",))(_above)


@fused(ops.relu.vjp, inplace=("ct",))
def _(ct: Array, out: Array, into: Array | None) -> Array:
    return keep(ct, _positive(out), into)


@fused(ops.leaky_relu)
def _(x: Array, into: Array | None, *, negative_slope: float) -> Array:
    scaled = np.multiply(x, negative_slope, into)
    if 0 < negative_slope <= 1:
        return np.maximum(x, scaled, out=scaled)
    np.copyto(scaled, x, where=_positive(x))
    return scaled


@fused(ops.leaky_relu.vjp)
def _(ct: Array, x: Array, into: Array | None, *, negative_slope: float) -> Array:
    scaled = np.multiply(ct, negative_slope, spare(1, ct))
    into = np.empty_like(scaled) if into is None else into
    return blend(_positive(x), ct, scaled, into)


@fused(ops.elu)
def _(x: Array, into: Array | None, *, alpha: float) -> Array:
    low = _below(x, into)
    np.expm1(low, low)
    np.multiply(low, alpha, low)
    return np.add(low, _above(x, spare(0, x)), low)


@fused(ops.elu.vjp)
def _(ct: Array, x: Array, into: Array | None, *, alpha: float) -> Array:
    slope = _below(x, spare(1, x))
    np.exp(slope, slope)
    np.multiply(slope, alpha, slope)
    np.multiply(slope, ct, slope)
    into = np.empty_like(slope) if into is None else into
    return blend(_positive(x), ct, slope, into)


def _logistic(x: Array, into: Array | None) -> Array:
    """1 / (1 + exp(-x)): exp overflows to an infinity where the result is 0 or subnormal.

    To keep the subnormal ones (below -88.7 in float32) takes another pass: 28 % slower in float32, measured.
    """
    s = np.negative(x, into)
    one = s.dtype.type(1)
    np.exp(s, s)
    np.add(s, one, s)
    return np.divide(one, s, s)  # NumPy's reciprocal has no vector code


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
    s = _logistic(x, spare(0, x))
    slope = np.subtract(s.dtype.type(1), s, into)
    np.multiply(slope, x, slope)
    np.add(slope, slope.dtype.type(1), slope)
    np.multiply(slope, s, slope)
    return np.multiply(ct, slope, slope)


def _where_above(result: Array, x: Array, threshold: float, value: Any) -> None:
    """Put ``value`` where ``x`` is above a threshold: NumPy's selection is slow, and hardly ever needed."""
    over = np.greater(x, threshold, spare(1, x, np.dtype(np.bool_)))
    if over.any():
        np.copyto(result, value, where=over)


@fused(ops.softplus)
def _(x: Array, into: Array | None, *, beta: float, threshold: float) -> Array:
    scaled = np.multiply(x, beta, spare(0, x))
    soft = np.absolute(scaled, into)
    np.negative(soft, soft)
    np.exp(soft, soft)
    np.log1p(soft, soft)
    np.add(soft, _above(scaled, spare(2, x)), soft)
    np.multiply(soft, 1 / beta, soft)
    _where_above(soft, scaled, threshold, x)
    return soft


@fused(ops.softplus.vjp)
def _(ct: Array, x: Array, into: Array | None, *, beta: float, threshold: float) -> Array:
    scaled = np.multiply(x, beta, spare(0, x))
    slope = _logistic(scaled, into)
    _where_above(slope, scaled, threshold, slope.dtype.type(1))
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
