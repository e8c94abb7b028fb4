"""Kernels of powers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad_numpy.kernels._fused import fused
from plugrad_numpy.kernels._masks import keep
from plugrad_numpy.kernels._precision import given
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any


def _cube(x: Array, into: Array | None) -> Array:
    square = np.multiply(x, x)
    return np.multiply(square, x, into)


def _root(x: Array, into: Array | None) -> Array:
    """``x ** 0.5``, which is 0 for -0 and infinite for minus infinity (C99 F.10.4.4), unlike the square root."""
    root = np.sqrt(x, into)
    np.add(root, 0.0, root)
    np.copyto(root, np.inf, where=np.equal(x, -np.inf))
    return root


_QUICK: Final[dict[Any, Callable[..., Array]]] = {
    -1: np.reciprocal,
    0.5: _root,
    1: np.positive,
    2: np.square,
    3: _cube,
}
"""Exponents that a few simple operations serve, as exactly as `numpy.power` to a unit in the last place."""


def _integers(specs: Sequence[Any], attributes: Any) -> bool:
    del attributes
    return bool(specs[0].dtype.is_integer)


@table(ops.pow, when=_integers)
@silent
def _(x1: Any, x2: Any, *, into: Array | None = None) -> Array:
    if not np.any(np.less(x2, 0)):
        return np.power(x1, x2, into)
    dtype = np.result_type(x1, x2)
    base, exponent = np.asarray(x1, dtype), np.asarray(x2, dtype)
    powers = np.power(base, np.maximum(exponent, 0))
    signs = np.where(base == -1, 1 - 2 * (exponent & 1), base == 1)
    return given(np.where(exponent < 0, signs, powers).astype(dtype), into)


@fused(ops.pow)
def _(x1: Any, x2: Any, into: Array | None) -> Array:
    if type(x2) is int or type(x2) is float:
        quick = _QUICK.get(x2)
        return np.power(x1, x2, into) if quick is None else quick(x1, into)
    power = np.power(x1, x2, into)
    half = np.equal(x2, 0.5)
    if half.any():
        # NumPy takes the square root where an inner loop has that one exponent.
        np.copyto(power, _root(np.atleast_1d(np.asarray(x1, power.dtype)), None), where=half)
    return power


@fused(ops.pow.vjp_for("x1"))
def _(ct: Array, x1: Array, x2: Any, into: Array | None) -> Array:
    if type(x2) is int or type(x2) is float:
        if x2 == 2:
            product = np.multiply(ct, x1, into)
            return np.add(product, product, product)
        if x2 == 0:
            return np.multiply(ct, 0, into)
        quick = _QUICK.get(x2 - 1)
        slope = np.power(x1, x2 - 1, into) if quick is None else quick(x1, into)
    else:
        slope = np.power(x1, np.subtract(x2, 1), into)
        keep(slope, np.not_equal(x2, 0), slope)
    np.multiply(slope, x2, slope)
    return np.multiply(ct, slope, slope)


@fused(ops.pow.vjp_for("x2"))
def _(ct: Array, x1: Any, out: Array, into: Array | None) -> Array:
    zero = np.equal(x1, 0)
    slope = np.multiply(out, np.log(np.where(zero, 1, x1).astype(out.dtype)), into)
    np.multiply(slope, 0, slope, where=zero)
    return np.multiply(ct, slope, slope)
