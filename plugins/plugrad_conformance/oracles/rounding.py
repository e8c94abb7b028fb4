"""Rounding, the division that rounds, and neighbours. Integers pass the roundings unchanged."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from plugrad import dtypes
from plugrad_conformance.oracles._elementwise import elementwise, is_integer, on_integers


@elementwise("floor")
def floor(x: np.ndarray) -> Any:
    """The largest integer not above."""
    return np.array(x) if is_integer(x) else np.floor(x)


@elementwise("ceil")
def ceil(x: np.ndarray) -> Any:
    """The smallest integer not below."""
    return np.array(x) if is_integer(x) else np.ceil(x)


@elementwise("trunc")
def trunc(x: np.ndarray) -> Any:
    """Without the fraction."""
    return np.array(x) if is_integer(x) else np.trunc(x)


@elementwise("round")
def rint(x: np.ndarray) -> Any:
    """The nearest integer, ties to even."""
    return np.array(x) if is_integer(x) else np.rint(x)


def _as_python_does(
    function: Callable[[Any, Any], Any], by_zero: Any, x1: np.ndarray, x2: np.ndarray
) -> np.ndarray:
    """Python's ``//`` or ``%``; by 0, of floating operands, ``by_zero``, and of integers 0."""
    if is_integer(x1):
        return on_integers(lambda a, b: function(a, b) if b else 0, x1, x2)
    zero = x2 == 0
    found = np.frompyfunc(function, 2, 1)(x1, np.where(zero, 1.0, x2))
    return np.where(zero, by_zero, np.asarray(found, np.float64))


@elementwise("floor_divide")
def floor_divide(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Python's ``//``."""
    return _as_python_does(operator.floordiv, np.true_divide(x1, x2), x1, x2)


@elementwise("remainder")
def remainder(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Python's ``%``."""
    return _as_python_does(operator.mod, np.nan, x1, x2)


@elementwise("nextafter")
def nextafter(x1: np.ndarray, x2: np.ndarray, *, floating: dtypes.DType = dtypes.float64) -> Any:
    """The next value of ``floating``: of the numbers of one sign, that with the next pattern of bits."""
    start, target = np.broadcast_arrays(x1.astype(floating.numpy), x2.astype(floating.numpy))
    bits = np.array(start).view(f"u{floating.itemsize}")
    outward = np.where((x2 > x1) == (x1 > 0), bits + np.ones_like(bits), bits - np.ones_like(bits))
    smallest = np.copysign(np.ones_like(bits).view(floating.numpy).astype(np.float64), x2)
    found = np.where(x1 == 0, smallest, outward.view(floating.numpy).astype(np.float64))
    found = np.where(x1 == x2, target.astype(np.float64), found)
    return np.where(np.isnan(x1) | np.isnan(x2), np.nan, found)
