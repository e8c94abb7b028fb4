"""Trigonometric and hyperbolic functions and their inverses, elementwise (array API standard 2024.12).

Angles are in radians. Special values are those of the standard, which are C99's. ``sin``, ``cos``, ``atan2`` and
``tanh`` are the primitives; the other bodies stay within a few units in the last place in float32 and float64, and in 16 bits
within two, those that would not computed in float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from plugrad.dispatch.op import Autocast, Kind, Scalar, op
from plugrad.dispatch.sample import Sample, samples, uniform
from plugrad.dtypes import FLOATING, finfo
from plugrad.ops._rules import broadcast, like
from plugrad.ops.arithmetic import abs, copysign, negative
from plugrad.ops.casting import widen
from plugrad.ops.comparison import where
from plugrad.ops.transcendental import exp, expm1, hypot, log, log1p, sqrt

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    primitive=True,
    expression="sin(x)",
    samples=uniform(-9, 9),
)
def sin(x: Tensor, /) -> Tensor:
    """Sine, elementwise; NaN at the infinities."""


@sin.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct * cos(x)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    primitive=True,
    expression="cos(x)",
    samples=uniform(-9, 9),
)
def cos(x: Tensor, /) -> Tensor:
    """Cosine, elementwise; NaN at the infinities."""


@cos.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return negative(ct * sin(x))


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    autocast=Autocast.FULL,
    samples=uniform(-1.2, 1.2),
)
def tan(x: Tensor, /) -> Tensor:
    """Tangent, elementwise; NaN at the infinities."""
    wide = widen(x)
    return (sin(wide) / cos(wide)).astype(x.spec.dtype)


@tan.defvjp("x")
def _(ct: Tensor, out: Tensor) -> Tensor:
    return ct * (out * out + 1)


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=FLOATING,
    primitive=True,
    expression="atan2(x1, x2)",
    samples=samples(uniform(0.5, 3, operands=2), lambda rng: [Sample(rng.uniform(-3, 3, (2, 3)), -1.5)]),
)
def atan2(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Angle in [-pi, pi] of the point with ordinate ``x1`` and abscissa ``x2``, elementwise.

    The derivative at the origin is 0.
    """


def _over_square(x: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    """``x / (x1**2 + x2**2)`` without overflow; ``x`` at the origin."""
    radius = hypot(x1, x2)
    radius = where(radius == 0, 1.0, radius)
    return x / radius / radius


@atan2.defvjp("x1")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return ct * _over_square(x2, x1, x2)


@atan2.defvjp("x2")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return negative(ct * _over_square(x1, x1, x2))


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    autocast=Autocast.FULL,
    samples=uniform(-0.9, 0.9),
)
def asin(x: Tensor, /) -> Tensor:
    """Inverse sine, in [-pi/2, pi/2], elementwise; NaN outside [-1, 1]."""
    return atan2(x, sqrt((1 - x) * (1 + x)))


@asin.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct / sqrt((1 - x) * (1 + x))


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    autocast=Autocast.FULL,
    samples=uniform(-0.9, 0.9),
)
def acos(x: Tensor, /) -> Tensor:
    """Inverse cosine, in [0, pi], elementwise; NaN outside [-1, 1]."""
    return atan2(sqrt((1 - x) * (1 + x)), x)


@acos.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return negative(ct / sqrt((1 - x) * (1 + x)))


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=FLOATING, samples=uniform(-3, 3))
def atan(x: Tensor, /) -> Tensor:
    """Inverse tangent, in [-pi/2, pi/2], elementwise."""
    return atan2(x, 1.0)


@atan.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct / (x * x + 1)


# -- hyperbolic functions ---------------------------------------------------------------------------------


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    autocast=Autocast.FULL,
    samples=uniform(-3, 3),
)
def sinh(x: Tensor, /) -> Tensor:
    """Hyperbolic sine, elementwise."""
    wide = widen(x)
    a = abs(wide)
    e = expm1(a)
    # Half of the exponent twice: exp(a) overflows before sinh(a) does.
    half = exp(a * 0.5)
    large = half * 0.5 * half - 0.5 / half / half
    return copysign(where(a < 1, (e + e / (e + 1)) * 0.5, large), wide).astype(x.spec.dtype)


@sinh.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct * cosh(x)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    autocast=Autocast.FULL,
    samples=uniform(-3, 3),
)
def cosh(x: Tensor, /) -> Tensor:
    """Hyperbolic cosine, elementwise."""
    half = exp(abs(widen(x)) * 0.5)
    return (half * 0.5 * half + 0.5 / half / half).astype(x.spec.dtype)


@cosh.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct * sinh(x)


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


@tanh.defvjp("x")
def _(ct: Tensor, out: Tensor) -> Tensor:
    return ct * (1 - out * out)


def _log_of_double(x: Tensor) -> Tensor:
    """``log(2 * x)`` without overflow."""
    return log(x) + math.log(2)


def _large(x: Tensor) -> float:
    """From here on asinh and acosh are ``log(2 * x)`` to the precision of the dtype of ``x``."""
    return 1 / math.sqrt(finfo(x.dtype).eps)


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=FLOATING, samples=uniform(-3, 3))
def asinh(x: Tensor, /) -> Tensor:
    """Inverse hyperbolic sine, elementwise."""
    a = abs(x)
    small = log1p(a + a * a / (1 + sqrt(1 + a * a)))
    return copysign(where(a > _large(x), _log_of_double(a), small), x)


@asinh.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct / hypot(x, 1.0)


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=FLOATING, samples=uniform(1.1, 3))
def acosh(x: Tensor, /) -> Tensor:
    """Inverse hyperbolic cosine, elementwise; NaN below 1."""
    over = x - 1
    small = log1p(over + sqrt(over) * sqrt(over + 2))
    return where(x > _large(x), _log_of_double(x), small)


@acosh.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct / (sqrt(x - 1) * sqrt(x + 1))


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=FLOATING, samples=uniform(-0.9, 0.9))
def atanh(x: Tensor, /) -> Tensor:
    """Inverse hyperbolic tangent, elementwise; infinite at -1 and 1, NaN beyond."""
    a = abs(x)
    return copysign(log1p(2 * a / (1 - a)) * 0.5, x)


@atanh.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct / ((1 - x) * (1 + x))


__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "sin",
    "sinh",
    "tan",
    "tanh",
]
