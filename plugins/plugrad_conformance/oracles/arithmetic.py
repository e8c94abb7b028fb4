"""Arithmetic, extrema and signs. Sums and products of integers wrap around, which is NumPy's arithmetic of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from plugrad_conformance.oracles._elementwise import elementwise


@elementwise("add")
def add(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Sum."""
    return np.add(x1, x2)


@elementwise("subtract")
def subtract(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Difference."""
    return np.subtract(x1, x2)


@elementwise("multiply")
def multiply(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Product."""
    return np.multiply(x1, x2)


@elementwise("divide")
def divide(x1: np.ndarray, x2: np.ndarray) -> Any:
    """Quotient of floating operands."""
    return np.true_divide(x1, x2)


@elementwise("maximum")
def maximum(x1: np.ndarray, x2: np.ndarray) -> Any:
    """The larger; NaN where one is NaN."""
    return np.maximum(x1, x2)


@elementwise("minimum")
def minimum(x1: np.ndarray, x2: np.ndarray) -> Any:
    """The smaller; NaN where one is NaN."""
    return np.minimum(x1, x2)


@elementwise("clip")
def clip(x: np.ndarray, min: np.ndarray | None = None, max: np.ndarray | None = None) -> Any:
    """Held between bounds; the upper one wins."""
    if min is not None:
        x = np.maximum(x, min)
    if max is not None:
        x = np.minimum(x, max)
    return np.array(x)


@elementwise("negative")
def negative(x: np.ndarray) -> Any:
    """``-x``."""
    return np.negative(x)


@elementwise("positive")
def positive(x: np.ndarray) -> Any:
    """The same values."""
    return np.array(x)


@elementwise("abs")
def absolute(x: np.ndarray) -> Any:
    """Absolute value."""
    return np.absolute(x)


@elementwise("sign")
def sign(x: np.ndarray) -> Any:
    """-1, 0 or 1; NaN for NaN."""
    return np.where(np.isnan(x), x, (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype))


@elementwise("copysign")
def copysign(x1: np.ndarray, x2: np.ndarray) -> Any:
    """The magnitude of the one with the sign bit of the other."""
    return np.copysign(x1, x2)


@elementwise("square")
def square(x: np.ndarray) -> Any:
    """``x * x``."""
    return np.multiply(x, x)


@elementwise("reciprocal")
def reciprocal(x: np.ndarray) -> Any:
    """``1 / x``."""
    return np.true_divide(1.0, x)
