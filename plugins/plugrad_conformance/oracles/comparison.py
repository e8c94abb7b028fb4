"""Comparison, selection, tests of one value, logic and bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from plugrad_conformance.oracles._elementwise import elementwise, on_integers


@elementwise("where")
def where(condition: np.ndarray, x1: np.ndarray, x2: np.ndarray) -> Any:
    """``x1`` where the condition holds, else ``x2``."""
    return np.where(condition, x1, x2)


@elementwise("equal")
def equal(x1: np.ndarray, x2: np.ndarray) -> Any:
    """``x1 == x2``."""
    return np.equal(x1, x2)


@elementwise("not_equal")
def not_equal(x1: np.ndarray, x2: np.ndarray) -> Any:
    """``x1 != x2``."""
    return np.not_equal(x1, x2)


@elementwise("less")
def less(x1: np.ndarray, x2: np.ndarray) -> Any:
    """``x1 < x2``."""
    return np.less(x1, x2)


@elementwise("less_equal")
def less_equal(x1: np.ndarray, x2: np.ndarray) -> Any:
    """``x1 <= x2``."""
    return np.less_equal(x1, x2)


@elementwise("greater")
def greater(x1: np.ndarray, x2: np.ndarray) -> Any:
    """``x1 > x2``."""
    return np.greater(x1, x2)


@elementwise("greater_equal")
def greater_equal(x1: np.ndarray, x2: np.ndarray) -> Any:
    """``x1 >= x2``."""
    return np.greater_equal(x1, x2)


# -- tests of one value -----------------------------------------------------------------------------------


@elementwise("isnan")
def isnan(x: np.ndarray) -> Any:
    """Whether NaN."""
    return np.isnan(x)


@elementwise("isinf")
def isinf(x: np.ndarray) -> Any:
    """Whether an infinity."""
    return np.isinf(x)


@elementwise("isfinite")
def isfinite(x: np.ndarray) -> Any:
    """Whether neither NaN nor an infinity."""
    return np.isfinite(x)


@elementwise("signbit")
def signbit(x: np.ndarray) -> Any:
    """Whether the sign bit is set."""
    return np.signbit(x)


# -- logic and bits ---------------------------------------------------------------------------------------


@elementwise("bitwise_invert")
def bitwise_invert(x: np.ndarray) -> Any:
    """Each bit inverted; of a bool, its negation."""
    return np.invert(x)


@elementwise("bitwise_and")
def bitwise_and(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Bits that are set in both."""
    return np.bitwise_and(x1, x2)


@elementwise("bitwise_or")
def bitwise_or(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Bits that are set in one."""
    return np.bitwise_or(x1, x2)


@elementwise("bitwise_xor")
def bitwise_xor(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Bits that differ."""
    return np.bitwise_xor(x1, x2)


# Nothing is left of any dtype after 64 places. Python refuses a negative shift, as the ops do.


@elementwise("bitwise_left_shift")
def bitwise_left_shift(x1: np.ndarray, x2: np.ndarray) -> Any:
    """``x1 * 2**x2``, wrapped around."""
    return on_integers(lambda a, b: a << min(b, 64), x1, x2)


@elementwise("bitwise_right_shift")
def bitwise_right_shift(x1: np.ndarray, x2: np.ndarray) -> Any:
    """``x1 / 2**x2``, rounded down."""
    return on_integers(lambda a, b: a >> min(b, 64), x1, x2)


@elementwise("logical_not")
def logical_not(x: np.ndarray) -> Any:
    """Negation."""
    return np.logical_not(x)


@elementwise("logical_and")
def logical_and(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Whether both hold."""
    return np.logical_and(x1, x2)


@elementwise("logical_or")
def logical_or(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Whether one holds."""
    return np.logical_or(x1, x2)


@elementwise("logical_xor")
def logical_xor(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Whether exactly one holds."""
    return np.logical_xor(x1, x2)
