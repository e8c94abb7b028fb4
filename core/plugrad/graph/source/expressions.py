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


def cast_of(source: DType, target: DType, dialect: Dialect, value: str = "x") -> tuple[str, str]:
    """The expression of ``value``, of one dtype, in another, which is what `astype` means; and a function, or ""."""
    if source is target:
        return value, ""
    if target is dtypes.bool:
        return f"{value} != 0", ""
    if target.is_integer and not source.is_floating:
        return f"({dialect.types[target]}){value}", ""
    computed = dialect.computed(target)
    if computed is not target and source.itemsize > 2 and source is not computed:
        # Rounded to the arithmetic's dtype first and then to its own, a number could end up one too far.
        return f"odd({value})", dialect.odd.format(type=dialect.types[source])
    return dialect.convert.format(type=dialect.types[computed], value=value), ""


def next_bits(infinity: int, dialect: Dialect) -> tuple[str, str]:
    """`nextafter` of floats of 16 bits, which are given as unsigned integers, and the function that it calls.

    Args:
        infinity: the bits of infinity.
        dialect: the language.
    """
    kind = dialect.types[dtypes.uint16]
    return "next(x1, x2)", _NEXT.format(function=dialect.function, kind=kind, infinity=infinity)


_NEXT: Final = """{function} {kind} next({kind} a, {kind} b)
{{
    const int u = a & 0x7fff, v = b & 0x7fff;
    const int from = a & 0x8000 ? -u : u, to = b & 0x8000 ? -v : v;
    if (u > {infinity}) return a;
    if (v > {infinity} || from == to) return b;
    if (u == 0) return (b & 0x8000) | 1;
    return (from < to) == (from > 0) ? a + 1 : a - 1;
}}"""
