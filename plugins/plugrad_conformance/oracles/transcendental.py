"""Powers, roots, exponentials, logarithms, angles and hyperbolic functions. Special values are those of C99."""

from __future__ import annotations

from typing import Any

import numpy as np

from plugrad_conformance.oracles._elementwise import elementwise, is_integer, on_integers


def _integer_power(base: int, exponent: int) -> int:
    if exponent >= 0:
        # Modulo the widest dtype's range, so that no number grows without bound.
        return pow(base, exponent, 1 << 64)
    if abs(base) == 1:
        return base if exponent % 2 else 1
    return 0


@elementwise("pow")
def power(x1: np.ndarray, x2: np.ndarray) -> Any:
    """``x1 ** x2``; of integers exact, wrapped around, and for a negative exponent rounded towards 0."""
    if is_integer(x1):
        return on_integers(_integer_power, x1, x2)
    # A single exponent of 0.5 takes NumPy to its square root, which is NaN at -inf, where C99 has inf.
    x1, x2 = np.broadcast_arrays(x1, x2)
    return np.power(x1, x2.copy())


@elementwise("sqrt")
def sqrt(x: np.ndarray) -> Any:
    """Square root."""
    return np.sqrt(x)


@elementwise("rsqrt")
def rsqrt(x: np.ndarray) -> Any:
    """Reciprocal of the square root."""
    return 1.0 / np.sqrt(x)


@elementwise("hypot")
def hypot(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Length of the hypotenuse."""
    return np.hypot(x1, x2)


# -- exponentials and logarithms --------------------------------------------------------------------------


@elementwise("exp")
def exp(x: np.ndarray) -> Any:
    """Exponential."""
    return np.exp(x)


@elementwise("expm1")
def expm1(x: np.ndarray) -> Any:
    """Exponential less 1."""
    return np.expm1(x)


@elementwise("log")
def log(x: np.ndarray) -> Any:
    """Natural logarithm."""
    return np.log(x)


@elementwise("log1p")
def log1p(x: np.ndarray) -> Any:
    """Logarithm of ``1 + x``."""
    return np.log1p(x)


@elementwise("log2")
def log2(x: np.ndarray) -> Any:
    """Logarithm to base 2."""
    return np.log2(x)


@elementwise("log10")
def log10(x: np.ndarray) -> Any:
    """Logarithm to base 10."""
    return np.log10(x)


@elementwise("logaddexp")
def logaddexp(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Logarithm of the sum of exponentials."""
    # Of equal infinities the difference would be NaN.
    distance = np.where(x1 == x2, 0.0, np.abs(x1 - x2))
    return np.maximum(x1, x2) + np.log1p(np.exp(-distance))


# -- angles -----------------------------------------------------------------------------------------------


@elementwise("sin")
def sin(x: np.ndarray) -> Any:
    """Sine."""
    return np.sin(x)


@elementwise("cos")
def cos(x: np.ndarray) -> Any:
    """Cosine."""
    return np.cos(x)


@elementwise("tan")
def tan(x: np.ndarray) -> Any:
    """Tangent."""
    return np.tan(x)


@elementwise("asin")
def asin(x: np.ndarray) -> Any:
    """Inverse sine."""
    return np.arcsin(x)


@elementwise("acos")
def acos(x: np.ndarray) -> Any:
    """Inverse cosine."""
    return np.arccos(x)


@elementwise("atan")
def atan(x: np.ndarray) -> Any:
    """Inverse tangent."""
    return np.arctan(x)


@elementwise("atan2")
def atan2(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Angle of the point with ordinate ``x1`` and abscissa ``x2``."""
    return np.arctan2(x1, x2)


# -- hyperbolic functions ---------------------------------------------------------------------------------


@elementwise("sinh")
def sinh(x: np.ndarray) -> Any:
    """Hyperbolic sine."""
    return np.sinh(x)


@elementwise("cosh")
def cosh(x: np.ndarray) -> Any:
    """Hyperbolic cosine."""
    return np.cosh(x)


@elementwise("tanh")
def tanh(x: np.ndarray) -> Any:
    """Hyperbolic tangent."""
    return np.tanh(x)


@elementwise("asinh")
def asinh(x: np.ndarray) -> Any:
    """Inverse hyperbolic sine."""
    return np.arcsinh(x)


@elementwise("acosh")
def acosh(x: np.ndarray) -> Any:
    """Inverse hyperbolic cosine."""
    return np.arccosh(x)


@elementwise("atanh")
def atanh(x: np.ndarray) -> Any:
    """Inverse hyperbolic tangent."""
    return np.arctanh(x)
