"""Elementwise kernels that are one function of the standard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from plugrad import ops
from plugrad.dispatch.op import Op
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels

_SAME: Final = (
    *("abs", "negative", "sign", "square", "reciprocal"),
    *("add", "subtract", "multiply", "divide", "maximum", "minimum", "hypot"),
    *("sqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "logaddexp"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
    *("isnan", "isinf", "isfinite", "signbit", "copysign"),
    *("logical_not", "logical_and", "logical_or", "logical_xor"),
    *("bitwise_invert", "bitwise_and", "bitwise_or", "bitwise_xor"),
)
"""Ops whose name and meaning are the standard's."""

_ROUNDING: Final = ("floor", "ceil", "trunc", "round")


def functions(library: Library) -> dict[Op[..., Any], Callable[..., Array]]:
    """The ops that are one function of the standard, each with the library's."""
    named = {getattr(ops, name): name for name in _SAME}
    return {op: library.function(n) for op, n in named.items() if op.primitive or library.offers(n)}


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    for op, function in functions(library).items():
        kernels.add(function, op)
    for name in _ROUNDING:
        kernels.add(_rounding(library, library.function(name)), getattr(ops, name))


def _rounding(library: Library, function: Any) -> Any:
    def kernel(x: Array) -> Array:
        # A library may give integers back as they are, and a result is no view.
        return function(x) if library.is_floating(x) else library.copied(x)

    return kernel
