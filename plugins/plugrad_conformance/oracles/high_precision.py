"""Elementwise functions to more bits than float64 has, in mpmath, for errors of float64 kernels in units of the last place.

Only ops are here whose float64 value is not the exact one rounded: sums, products, quotients, roots and roundings of
NumPy are. The functions take Python floats, which are exact, and attributes by keyword, and give a number of 40
digits, or raise or give a complex number where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import mpmath
import numpy as np

from plugrad_conformance.oracles._register import ORACLES

_DIGITS: Final = 40
_MP: Final = mpmath.MPContext()
"""Numbers of a context of its own: the precision of mpmath's global one is anyone's to change."""
_MP.dps = _DIGITS

_LARGE: Final = 10_000
"""Exponentials beyond this, and below its negative, are infinite and 0 in float64, whatever float64 they multiply."""


def _exp(x: Any) -> Any:
    """The exponential, without the work of one whose result no float64 shows."""
    return _MP.exp(min(max(x, _MP.mpf(-_LARGE)), _MP.mpf(_LARGE)))


# -- powers, roots, exponentials and logarithms -----------------------------------------------------------


def _pow(x1: float, x2: float) -> Any:
    if x1 == 0 or (x1 < 0 and not x2.is_integer()):
        raise ValueError("singular")
    magnitude = _exp(_MP.log(abs(x1)) * x2)
    return -magnitude if x1 < 0 and x2 % 2 else magnitude


def _hypot(x1: float, x2: float) -> Any:
    return _MP.sqrt(_MP.mpf(x1) ** 2 + _MP.mpf(x2) ** 2)


def _expm1(x: float) -> Any:
    return _MP.expm1(min(x, float(_LARGE)))


def _logaddexp(x1: float, x2: float) -> Any:
    large, small = _MP.mpf(max(x1, x2)), _MP.mpf(min(x1, x2))
    return large + _MP.log1p(_exp(small - large))


# -- angles and hyperbolic functions ----------------------------------------------------------------------


def _atan2(x1: float, x2: float) -> Any:
    # The numbers of mpmath have no signed zeros.
    if x1 == 0:
        return math.copysign(1, x1) * (_MP.pi if math.copysign(1, x2) < 0 else _MP.zero)
    return _MP.atan2(x1, x2)


def _sinh(x: float) -> Any:
    return _MP.sinh(math.copysign(min(abs(x), _LARGE), x))


def _cosh(x: float) -> Any:
    return _MP.cosh(min(abs(x), _LARGE))


# -- activation functions ---------------------------------------------------------------------------------


def _logistic(x: Any) -> Any:
    return 1 / (1 + _exp(-x))


def _elu(x: float, *, alpha: float = 1.0) -> Any:
    return _MP.mpf(x) if x > 0 else alpha * _MP.expm1(max(x, -_LARGE))


def _softplus(x: float, *, beta: float = 1.0, threshold: float = 20.0) -> Any:
    if beta * x > threshold:
        return _MP.mpf(x)
    scaled = _MP.mpf(beta) * x
    # Beyond 100 the logarithm is its operand in 40 digits.
    return (scaled if scaled > 100 else _MP.log1p(_exp(scaled))) / beta


def _erf(x: float) -> Any:
    return _MP.erf(x) if abs(x) < 30 else _MP.mpf(math.copysign(1, x))


def _gelu(x: float, *, approximate: str = "none") -> Any:
    wide = _MP.mpf(x)
    if approximate == "tanh":
        return wide * _logistic(2 * _MP.sqrt(2 / _MP.pi) * (wide + _MP.mpf("0.044715") * wide**3))
    if abs(x) > 50:
        return wide if x > 0 else wide * _exp(_MP.mpf(-_LARGE))
    return wide * _MP.erfc(-wide / _MP.sqrt(2)) / 2


HIGH_PRECISION: Final[dict[str, Callable[..., Any]]] = {
    "acos": _MP.acos,
    "acosh": _MP.acosh,
    "asin": _MP.asin,
    "asinh": _MP.asinh,
    "atan": _MP.atan,
    "atan2": _atan2,
    "atanh": _MP.atanh,
    "cos": _MP.cos,
    "cosh": _cosh,
    "elu": _elu,
    "erf": _erf,
    "exp": lambda x: _exp(_MP.mpf(x)),
    "expm1": _expm1,
    "gelu": _gelu,
    "hypot": _hypot,
    "log": _MP.log,
    "log10": _MP.log10,
    "log1p": _MP.log1p,
    "log2": lambda x: _MP.log(x) / _MP.ln2,
    "logaddexp": _logaddexp,
    "pow": _pow,
    "rsqrt": lambda x: 1 / _MP.sqrt(x),
    "sigmoid": lambda x: _logistic(_MP.mpf(x)),
    "silu": lambda x: x * _logistic(_MP.mpf(x)),
    "sin": _MP.sin,
    "sinh": _sinh,
    "softplus": _softplus,
    "tan": _MP.tan,
    "tanh": _MP.tanh,
}
"""The functions by the op's name: of floats, and attributes by keyword, to a number of mpmath."""


def evaluate(
    name: str, operands: Sequence[np.ndarray], attributes: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The values of an op as an unevaluated sum of two arrays: the exact value rounded to float64, and what is left.

    Where an operand is not finite, or the value is 0, infinite, or none, the head is what the oracle in float64
    gives. The tail is 0 there, and where it or the head underflows.

    Args:
        name: of the op, a key of `HIGH_PRECISION`.
        operands: float64, which broadcast together.
        attributes: static attributes, in their normal form.

    Returns:
        Head and tail, float64 of the broadcast shape.

    Raises:
        KeyError: if the op is not in `HIGH_PRECISION`.
    """
    function = HIGH_PRECISION[name]
    given = np.broadcast_arrays(*operands)
    head = np.array(np.broadcast_to(ORACLES[name](*operands, **attributes), given[0].shape))
    tail = np.zeros_like(head)
    with np.errstate(all="ignore"):
        for index in np.ndindex(head.shape):
            numbers = [float(x[index]) for x in given]
            if all(map(math.isfinite, numbers)):
                split = _split(function, numbers, attributes)
                if split is not None:
                    head[index], tail[index] = split
    return head, tail


def _split(
    function: Callable[..., Any], numbers: list[float], attributes: dict[str, Any]
) -> tuple[float, float] | None:
    """The value as head and tail; None where it has no finite value other than 0."""
    try:
        value = function(*numbers, **attributes)
    except (ValueError, ZeroDivisionError):
        return None
    if not isinstance(value, _MP.mpf) or not _MP.isfinite(value) or value == 0:
        return None
    head = _rounded(value)
    return head, _rounded(value - head) if math.isfinite(head) and head != 0 else 0.0


def _rounded(value: Any) -> float:
    """The nearest float64, ties to even, subnormal ones too: mpmath would round those twice."""
    sign, mantissa, exponent, bits = value._mpf_
    magnitude = exponent + bits
    if magnitude > 1024:
        found = math.inf
    elif magnitude < -1080:
        found = 0.0
    else:
        found = _quotient(int(mantissa), int(exponent))
    return -found if sign else found


def _quotient(mantissa: int, exponent: int) -> float:
    """``mantissa * 2**exponent``: Python rounds a quotient of integers once."""
    try:
        return mantissa / (1 << -exponent) if exponent < 0 else float(mantissa << exponent)
    except OverflowError:
        return math.inf
