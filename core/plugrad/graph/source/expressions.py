"""Expressions of elementwise primitives for operands of one dtype.

An op's record states the expression for floating operands (`plugrad.dispatch.op.Op.expression`). Integers differ where C
leaves their arithmetic undefined: it is done in the widest unsigned integer here, ``{word}``, which wraps around.
"""

from __future__ import annotations

from typing import Any, Final

from plugrad import dtypes
from plugrad.dispatch.op import Op
from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Dialect

_WRAPPING: Final = {
    "add": "({word})x1 + ({word})x2",
    "subtract": "({word})x1 - ({word})x2",
    "multiply": "({word})x1 * ({word})x2",
    "negative": "0 - ({word})x",
    "floor": "x",
}
_SIGNED: Final = {
    **_WRAPPING,
    "abs": "x < 0 ? 0 - ({word})x : ({word})x",
    "floor_divide": (
        "x2 == 0 ? 0 : x2 == -1 ? ({type})(0 - ({word})x1)"
        " : ({type})(x1 / x2 - (x1 % x2 != 0 && (x1 % x2 < 0) != (x2 < 0)))"
    ),
    "remainder": (
        "x2 == 0 || x2 == -1 ? 0 : ({type})(x1 % x2 + (x1 % x2 != 0 && (x1 % x2 < 0) != (x2 < 0) ? x2 : 0))"
    ),
    "pow": (
        "x2 < 0 ? x1 == 1 ? 1 : x1 == -1 ? (x2 & 1 ? -1 : 1) : 0 : ({type})power(({word})x1, ({word})x2)"
    ),
}
_UNSIGNED: Final = {
    **_WRAPPING,
    "abs": "x",
    "floor_divide": "x2 == 0 ? 0 : x1 / x2",
    "remainder": "x2 == 0 ? 0 : x1 % x2",
    "pow": "power(({word})x1, ({word})x2)",
    "bitwise_right_shift": "x2 < 8 * sizeof(x1) ? x1 >> x2 : 0",
}
_POWER: Final = """{function} {word} power({word} base, {word} exponent)
{{
    {word} result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            result *= base;
    return result;
}}"""


def expression_of(op: Op[..., Any], dtype: DType, dialect: Dialect) -> tuple[str, str]:
    """The expression of an elementwise primitive over its operands' names, and a function that it calls, or "".

    Args:
        op: the primitive.
        dtype: that of the operands which are promoted together.
        dialect: the language.

    Raises:
        ValueError: if the op states no expression.
    """
    text = op.expression
    if dtype is dtypes.bool and op.name == "bitwise_invert":
        text = "!x"
    elif dtype.is_integer:
        table = _SIGNED if dtype.kind == "int" else _UNSIGNED
        if op.name in table:
            text = table[op.name].format(type=dialect.types[dtype], word=dialect.word)
    if text is None:
        raise ValueError(f"{op.name} states no expression")
    helper = _POWER.format(function=dialect.function, word=dialect.word) if "power(" in text else ""
    return text, helper


def cast_of(source: DType, target: DType, dialect: Dialect, value: str = "x") -> str:
    """The expression of ``value``, of one dtype, in another; what the op `astype` means by it."""
    if source is target:
        return value
    if target is dtypes.bool:
        return f"{value} != 0"
    if target.is_integer and not source.is_floating:
        return f"({dialect.types[target]}){value}"
    return dialect.convert.format(type=dialect.types[target], value=value)
