"""Powers, roots, exponentials, logarithms and trigonometry, elementwise (array API standard 2024.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrad.dispatch.op import Autocast, Kind, Scalar, op
from plugrad.dispatch.sample import uniform
from plugrad.dtypes import FLOATING
from plugrad.ops._rules import broadcast, like
from plugrad.ops.comparison import where

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=FLOATING,
    primitive=True,
    autocast=Autocast.FULL,
    expression="pow(x1, x2)",
    samples=uniform(0.5, 2, operands=2),
)
def pow(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Power ``x1 ** x2`` of floating operands, elementwise.

    The derivative by ``x1`` is 0 where ``x2`` is 0; that by ``x2`` is 0 where ``x1`` is 0.
    """


@pow.defvjp("x1")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    flat = x2 == 0
    return ct * where(flat, 0.0, x2 * pow(x1, where(flat, 1.0, x2 - 1)))


@pow.defvjp("x2")
def _(ct: Tensor, x1: Tensor, out: Tensor) -> Tensor:
    zero = x1 == 0
    return ct * where(zero, 0.0, out * log(where(zero, 1.0, x1)))


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=FLOATING,
    primitive=True,
    expression="atan2(x1, x2)",
    samples=uniform(0.5, 3, operands=2),
)
def atan2(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Angle in radians, in [-pi, pi], of the point with ordinate ``x1`` and abscissa ``x2``."""


@atan2.defvjp("x1")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return ct * x2 / (x1 * x1 + x2 * x2)


@atan2.defvjp("x2")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return -ct * x1 / (x1 * x1 + x2 * x2)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    primitive=True,
    expression="exp(x)",
    autocast=Autocast.FULL,
    samples=uniform(-3, 3),
)
def exp(x: Tensor, /) -> Tensor:
    """Exponential, elementwise."""


@exp.defvjp()
def _(ct: Tensor, out: Tensor) -> Any:
    return (ct * out,)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    primitive=True,
    expression="expm1(x)",
    autocast=Autocast.FULL,
    samples=uniform(-3, 3),
)
def expm1(x: Tensor, /) -> Tensor:
    """``exp(x) - 1`` without cancellation near 0, elementwise."""


@expm1.defvjp()
def _(ct: Tensor, out: Tensor) -> Any:
    return (ct * (out + 1),)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    primitive=True,
    expression="log(x)",
    autocast=Autocast.FULL,
    samples=uniform(0.5, 3),
)
def log(x: Tensor, /) -> Tensor:
    """Natural logarithm, elementwise; NaN below 0."""


@log.defvjp()
def _(ct: Tensor, x: Tensor) -> Any:
    return (ct / x,)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    primitive=True,
    expression="log1p(x)",
    autocast=Autocast.FULL,
    samples=uniform(-0.5, 3),
)
def log1p(x: Tensor, /) -> Tensor:
    """``log(1 + x)`` without cancellation near 0, elementwise."""


@log1p.defvjp()
def _(ct: Tensor, x: Tensor) -> Any:
    return (ct / (x + 1),)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    primitive=True,
    expression="sqrt(x)",
    samples=uniform(0.5, 3),
)
def sqrt(x: Tensor, /) -> Tensor:
    """Square root, elementwise; NaN below 0."""


@sqrt.defvjp()
def _(ct: Tensor, out: Tensor) -> Any:
    return (ct * 0.5 / out,)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    primitive=True,
    expression="tanh(x)",
    samples=uniform(-3, 3),
)
def tanh(x: Tensor, /) -> Tensor:
    """Hyperbolic tangent, elementwise."""


@tanh.defvjp()
def _(ct: Tensor, out: Tensor) -> Any:
    return (ct * (1 - out * out),)


__all__ = [
    "atan2",
    "exp",
    "expm1",
    "log",
    "log1p",
    "pow",
    "sqrt",
    "tanh",
]
