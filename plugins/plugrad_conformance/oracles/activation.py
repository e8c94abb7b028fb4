"""Activation functions and the error function.

A tail is computed as a product of factors that do not cancel, and what stands in an exponential is carried to more
bits than float64 has: there an error in its last place is magnified up to 700 times.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from plugrad_conformance.oracles._double_double import DoubleDouble, add, multiply, product
from plugrad_conformance.oracles._elementwise import elementwise

_ROOT_HALF: Final = (np.float64(0.7071067811865476), np.float64(-4.833646656726457e-17))
"""``sqrt(1 / 2)``, as head and tail."""

_SLOPE: Final = (np.float64(1.5957691216057308), np.float64(-9.96930880911092e-17))
"""``2 sqrt(2 / pi)``."""

_CUBE: Final = (np.float64(0.07135481627260025), np.float64(-6.175149918155315e-19))
"""``0.044715`` times it."""


@elementwise("relu")
def relu(x: np.ndarray) -> Any:
    """The larger of ``x`` and 0."""
    return np.maximum(x, np.zeros((), x.dtype))


@elementwise("leaky_relu")
def leaky_relu(x: np.ndarray, *, negative_slope: float = 0.01) -> Any:
    """``x``, times the slope where it is not positive."""
    return np.where(x > 0, x, negative_slope * x)


@elementwise("elu")
def elu(x: np.ndarray, *, alpha: float = 1.0) -> Any:
    """``x``, or ``alpha * (exp(x) - 1)`` where it is not positive."""
    # The exponential of -0 less 1 is 0.
    return np.where(x > 0, x, alpha * np.expm1(x + 0.0))


def _logistic(x: np.ndarray, tail: np.ndarray | float = 0.0) -> Any:
    """The logistic function of ``x + tail``."""
    e = np.exp(-np.abs(x)) * (1.0 - np.sign(x) * tail)
    return np.where(x < 0, e, 1.0) / (1.0 + e)


@elementwise("sigmoid")
def sigmoid(x: np.ndarray) -> Any:
    """The logistic function."""
    return _logistic(x)


@elementwise("silu")
def silu(x: np.ndarray) -> Any:
    """``x`` times the logistic function."""
    return x * _logistic(x)


@elementwise("softplus")
def softplus(x: np.ndarray, *, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """``log(1 + exp(beta * x)) / beta``; ``x`` above the threshold."""
    scaled, tail = product(x, np.float64(beta))
    e = np.exp(-np.abs(scaled)) * (1.0 - np.sign(scaled) * tail)
    return np.where(scaled > threshold, x, (np.maximum(scaled, 0.0) + np.log1p(e)) / beta)


@elementwise("erf")
def erf(x: np.ndarray) -> Any:
    """The error function."""
    return _by_element(math.erf, x)


def _by_element(function: Any, x: np.ndarray) -> np.ndarray:
    """A function of floats, elementwise."""
    return np.asarray(np.frompyfunc(function, 1, 1)(x), np.float64)


@elementwise("gelu")
def gelu(x: np.ndarray, *, approximate: str = "none") -> Any:
    """``x`` times the probability that a standard normal variable is below it, or the approximation by tanh."""
    # Beyond 40 either form is 1 or 0 in float64, and so are they in between.
    near = np.clip(x, -40.0, 40.0)
    return x * (_logistic(*_tanh_argument(near)) if approximate == "tanh" else _normal_probability(near))


def _normal_probability(x: np.ndarray) -> Any:
    z, tail = multiply((-x, np.zeros_like(x)), _ROOT_HALF)
    # The derivative brings in what float64 leaves of the operand.
    missed = tail * np.exp(-z * z) * (-2.0 / math.sqrt(math.pi))
    return 0.5 * (_by_element(math.erfc, z) + missed)


def _tanh_argument(x: np.ndarray) -> DoubleDouble:
    """``2 sqrt(2 / pi) (x + 0.044715 x**3)``: half of one and tanh is the logistic function of twice the argument."""
    return multiply((x, np.zeros_like(x)), add(_SLOPE, multiply(_CUBE, product(x, x))))
