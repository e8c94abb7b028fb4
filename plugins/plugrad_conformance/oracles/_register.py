"""`oracle`: names what an oracle answers for, and keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

Oracle = Callable[..., Any]
Function = TypeVar("Function", bound=Oracle)

ORACLES: Final[dict[str, Oracle]] = {}
"""Oracles by the op's name."""


def oracle(*names: str) -> Callable[[Function], Function]:
    """Register a function as the oracle of each of ``names``.

    An oracle takes what a kernel takes: operands by position, in the op's order (None for an absent one, a list
    for a sequence), static attributes by keyword, in their normal form. Floating operands are float64 arrays
    that hold values of the dtype under test; integers and bools are as they are; a scalar operand is a 0-d array.
    It gives an array, or a tuple for an op of several outputs: floating results in float64, not rounded to the
    dtype under test, integers and bools in the dtype of the result. An oracle whose meaning needs the floating
    dtype under test takes the keyword ``floating``, a `plugrad.dtypes.DType`; the attribute ``device`` it never sees.
    """

    def register(function: Function) -> Function:
        for name in names:
            if name in ORACLES:
                raise ValueError(f"{name} has an oracle already")
            ORACLES[name] = function
        return function

    return register
