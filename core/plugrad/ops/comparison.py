"""Comparison, selection and logic, elementwise (array API standard 2024.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrad import dtypes
from plugrad.dispatch.op import Kind, Scalar, op
from plugrad.dispatch.sample import Sample, booleans, integers, uniform
from plugrad.dtypes import BOOLEAN, INTEGER, NUMERIC
from plugrad.ops._rules import broadcast, like
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes={"condition": BOOLEAN},
    promote=("x1", "x2"),
    primitive=True,
    expression="condition ? x1 : x2",
    samples=lambda rng: [
        Sample(rng.random((2, 3)) < 0.5, rng.standard_normal((2, 3)), rng.standard_normal((2, 3))),
        Sample(rng.random((2, 1)) < 0.5, rng.standard_normal(3), rng.standard_normal(())),
        Sample(rng.random(3) < 0.5, rng.standard_normal(3), 0.0),
    ],
)
def where(condition: Tensor, x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1`` where ``condition`` (bool) holds, else ``x2``; the three broadcast together."""


@where.defvjp("x1")
def _(ct: Tensor, condition: Tensor) -> Tensor:
    return where(condition, ct, 0.0)


@where.defvjp("x2")
def _(ct: Tensor, condition: Tensor) -> Tensor:
    return where(condition, 0.0, ct)


def _comparison(call: Any) -> Spec:
    return broadcast(dtypes.bool)(call)


@op(
    kind=Kind.ELEMENTWISE,
    infer=_comparison,
    primitive=True,
    differentiable=False,
    expression="x1 == x2",
    samples=integers(0, 3, operands=2),
)
def equal(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 == x2`` as bool, elementwise; NaN equals nothing."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=_comparison,
    primitive=True,
    differentiable=False,
    expression="x1 != x2",
    samples=integers(0, 3, operands=2),
)
def not_equal(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 != x2`` as bool, elementwise; NaN differs from everything."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=_comparison,
    dtypes=NUMERIC,
    primitive=True,
    differentiable=False,
    expression="x1 < x2",
    samples=integers(0, 3, operands=2),
)
def less(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 < x2`` as bool, elementwise."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=_comparison,
    dtypes=NUMERIC,
    primitive=True,
    differentiable=False,
    expression="x1 <= x2",
    samples=integers(0, 3, operands=2),
)
def less_equal(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 <= x2`` as bool, elementwise."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=_comparison,
    dtypes=NUMERIC,
    differentiable=False,
    samples=integers(0, 3, operands=2),
)
def greater(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 > x2`` as bool, elementwise."""
    return less(x2, x1)


@op(
    kind=Kind.ELEMENTWISE,
    infer=_comparison,
    dtypes=NUMERIC,
    differentiable=False,
    samples=integers(0, 3, operands=2),
)
def greater_equal(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 >= x2`` as bool, elementwise."""
    return less_equal(x2, x1)


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=BOOLEAN, differentiable=False, samples=booleans())
def logical_not(x: Tensor, /) -> Tensor:
    """Negation of bool values, elementwise."""
    return equal(x, False)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=BOOLEAN + INTEGER,
    primitive=True,
    differentiable=False,
    expression="~x",
    samples=integers(-9, 9),
)
def bitwise_invert(x: Tensor, /) -> Tensor:
    """Each bit of an integer or bool inverted, elementwise."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=BOOLEAN + INTEGER,
    primitive=True,
    differentiable=False,
    expression="x1 & x2",
    samples=integers(-9, 9, operands=2),
)
def bitwise_and(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Bitwise and of integers or bools, elementwise."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=BOOLEAN + INTEGER,
    primitive=True,
    differentiable=False,
    expression="x1 | x2",
    samples=integers(-9, 9, operands=2),
)
def bitwise_or(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Bitwise or of integers or bools, elementwise."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=BOOLEAN + INTEGER,
    primitive=True,
    differentiable=False,
    expression="x1 ^ x2",
    samples=integers(-9, 9, operands=2),
)
def bitwise_xor(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Bitwise exclusive or of integers or bools, elementwise."""


@op(kind=Kind.ELEMENTWISE, infer=_comparison, dtypes=NUMERIC, differentiable=False, samples=uniform(-3, 3))
def isnan(x: Tensor, /) -> Tensor:
    """Whether each element is NaN."""
    return not_equal(x, x)


__all__ = [
    "bitwise_and",
    "bitwise_invert",
    "bitwise_or",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "isnan",
    "less",
    "less_equal",
    "logical_not",
    "not_equal",
    "where",
]
