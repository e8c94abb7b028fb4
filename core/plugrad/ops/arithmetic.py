"""Elementwise arithmetic, with the special cases of the Python array API standard 2024.12.

All of these broadcast their operands together and promote them to a common dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrad.dispatch.op import Kind, Scalar, op
from plugrad.dispatch.sample import uniform
from plugrad.dtypes import FLOATING, NUMERIC
from plugrad.ops._rules import broadcast, like
from plugrad.ops.comparison import where

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    expression="x1 + x2",
    samples=uniform(-3, 3, operands=2),
)
def add(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Sum ``x1 + x2``, elementwise. Integers wrap around."""


@add.defvjp()
def _(ct: Tensor) -> Any:
    return ct, ct


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    expression="x1 - x2",
    samples=uniform(-3, 3, operands=2),
)
def subtract(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Difference ``x1 - x2``, elementwise. Integers wrap around."""


@subtract.defvjp("x1")
def _(ct: Tensor) -> Tensor:
    return ct


@subtract.defvjp("x2")
def _(ct: Tensor) -> Tensor:
    return negative(ct)


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    expression="x1 * x2",
    samples=uniform(-3, 3, operands=2),
)
def multiply(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Product ``x1 * x2``, elementwise. Integers wrap around."""


@multiply.defvjp("x1")
def _(ct: Tensor, x2: Tensor) -> Tensor:
    return ct * x2


@multiply.defvjp("x2")
def _(ct: Tensor, x1: Tensor) -> Tensor:
    return ct * x1


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=FLOATING,
    primitive=True,
    expression="x1 / x2",
    samples=uniform(0.5, 3, operands=2),
)
def divide(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Quotient ``x1 / x2`` of floating operands, elementwise; division by zero gives an infinity or NaN."""


@divide.defvjp("x1")
def _(ct: Tensor, x2: Tensor) -> Tensor:
    return ct / x2


@divide.defvjp("x2")
def _(ct: Tensor, x2: Tensor, out: Tensor) -> Tensor:
    return -ct * out / x2


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    expression="fmax(x1, x2)",
    samples=uniform(-3, 3, operands=2),
)
def maximum(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """The larger of ``x1`` and ``x2``, elementwise; NaN where one is NaN. Ties share the derivative equally."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    expression="fmin(x1, x2)",
    samples=uniform(-3, 3, operands=2),
)
def minimum(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """The smaller of ``x1`` and ``x2``, elementwise; NaN where one is NaN. Ties share the derivative equally."""


def _share(mine: Tensor, other: Tensor, wins: Tensor, ct: Tensor) -> Tensor:
    return where(wins, ct, where(mine == other, ct * 0.5, 0.0))


@maximum.defvjp("x1")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return _share(x1, x2, x1 > x2, ct)


@maximum.defvjp("x2")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return _share(x2, x1, x2 > x1, ct)


@minimum.defvjp("x1")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return _share(x1, x2, x1 < x2, ct)


@minimum.defvjp("x2")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return _share(x2, x1, x2 < x1, ct)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=NUMERIC,
    primitive=True,
    expression="-x",
    samples=uniform(-3, 3),
)
def negative(x: Tensor, /) -> Tensor:
    """``-x``, elementwise."""


@negative.defvjp()
def _(ct: Tensor) -> Any:
    return (negative(ct),)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=NUMERIC,
    primitive=True,
    expression="fabs(x)",
    samples=uniform(-3, 3),
)
def abs(x: Tensor, /) -> Tensor:
    """Absolute value, elementwise. The derivative at 0 is 0."""


@abs.defvjp()
def _(ct: Tensor, x: Tensor) -> Any:
    return (ct * sign(x),)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=NUMERIC,
    primitive=True,
    expression="(x > 0) - (x < 0)",
    samples=uniform(-3, 3),
)
def sign(x: Tensor, /) -> Tensor:
    """-1, 0 or 1 by the sign of ``x``, elementwise; NaN for NaN. The derivative is 0."""


@sign.defvjp()
def _(ct: Tensor) -> Any:
    return (ct * 0.0,)


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=NUMERIC, samples=uniform(-3, 3))
def square(x: Tensor, /) -> Tensor:
    """``x * x``, elementwise."""
    return x * x


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=FLOATING, samples=uniform(0.5, 3))
def reciprocal(x: Tensor, /) -> Tensor:
    """``1 / x``, elementwise."""
    return 1 / x


__all__ = [
    "abs",
    "add",
    "divide",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "reciprocal",
    "sign",
    "square",
    "subtract",
]
