"""Powers, roots, exponentials and logarithms, elementwise (array API standard 2024.12, "Element-wise functions").

Special values are those of the standard, which are C99's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from plugrad.dispatch.op import Autocast, Kind, Scalar, op
from plugrad.dispatch.sample import Sample, integers, samples, uniform
from plugrad.dtypes import FLOATING, NUMERIC
from plugrad.ops._rules import broadcast, like
from plugrad.ops.arithmetic import abs, maximum, minimum
from plugrad.ops.casting import widen
from plugrad.ops.comparison import where

if TYPE_CHECKING:
    import numpy as np

    from plugrad.tensor import Tensor


# -- powers and roots -------------------------------------------------------------------------------------


def _power_samples(rng: np.random.Generator) -> list[Sample]:
    x = rng.uniform(0.5, 2, (2, 3))
    return [
        *uniform(0.5, 2, operands=2)(rng),
        *(Sample(x, exponent) for exponent in (0, 1, 2, 3, -1, -2, 0.5, 2.5)),
        Sample(-x, 3),
        Sample(2.0, x),
        *integers(0, 5, operands=2)(rng),
        Sample(rng.integers(-9, 9, (2, 3)), 2),
    ]


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    autocast=Autocast.FULL,
    expression="pow(x1, x2)",
    samples=_power_samples,
)
def pow(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Power ``x1 ** x2``, elementwise; ``x1 ** 0`` and ``1 ** x2`` are 1, NaN or not.

    Integers wrap around. Where an integer exponent is negative, an integer base of 1 or -1 gives 1 or -1, and
    any other gives 0.

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
    infer=like("x"),
    dtypes=FLOATING,
    primitive=True,
    expression="sqrt(x)",
    samples=uniform(0.5, 3),
)
def sqrt(x: Tensor, /) -> Tensor:
    """Square root, elementwise; NaN below 0. The derivative at 0 is infinite."""


@sqrt.defvjp("x")
def _(ct: Tensor, out: Tensor) -> Tensor:
    return ct * 0.5 / out


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    autocast=Autocast.FULL,
    samples=uniform(0.5, 3),
)
def rsqrt(x: Tensor, /) -> Tensor:
    """Reciprocal of the square root, ``1 / sqrt(x)``, elementwise; infinite at 0, NaN below."""
    return 1 / sqrt(x)


@rsqrt.defvjp("x")
def _(ct: Tensor, x: Tensor, out: Tensor) -> Tensor:
    return ct * -0.5 * out / x


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=FLOATING,
    samples=samples(uniform(-3, 3, operands=2), lambda rng: [Sample(rng.uniform(-3, 3, (2, 3)), 1.0)]),
)
def hypot(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Length of the hypotenuse, ``sqrt(x1**2 + x2**2)``, elementwise, without overflow or underflow on the way.

    An infinity where one operand is infinite, the other NaN or not. The derivative where both are 0 is 0.
    """
    assert not isinstance(x1, Scalar)
    assert not isinstance(x2, Scalar)
    a, b = abs(x1), abs(x2)
    long, short = maximum(a, b), minimum(a, b)
    ratio = where(long == short, 1.0, short / long)
    length = long * sqrt(1 + ratio * ratio)
    return where((a == math.inf) | (b == math.inf), math.inf, length)


def _leg(ct: Tensor, x: Tensor, out: Tensor) -> Tensor:
    return ct * (x / where(out == 0, 1.0, out))


@hypot.defvjp("x1")
def _(ct: Tensor, x1: Tensor, out: Tensor) -> Tensor:
    return _leg(ct, x1, out)


@hypot.defvjp("x2")
def _(ct: Tensor, x2: Tensor, out: Tensor) -> Tensor:
    return _leg(ct, x2, out)


# -- exponentials and logarithms --------------------------------------------------------------------------


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


@exp.defvjp("x")
def _(ct: Tensor, out: Tensor) -> Tensor:
    return ct * out


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


@expm1.defvjp("x")
def _(ct: Tensor, out: Tensor) -> Tensor:
    return ct * (out + 1)


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
    """Natural logarithm, elementwise; minus infinity at 0, NaN below."""


@log.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct / x


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
    """``log(1 + x)`` without cancellation near 0, elementwise; minus infinity at -1, NaN below."""


@log1p.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct / (x + 1)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    autocast=Autocast.FULL,
    samples=uniform(0.5, 3),
)
def log2(x: Tensor, /) -> Tensor:
    """Logarithm to base 2, elementwise; minus infinity at 0, NaN below."""
    return (log(widen(x)) * (1 / math.log(2))).astype(x.spec.dtype)


@log2.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct * (1 / math.log(2)) / x


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    autocast=Autocast.FULL,
    samples=uniform(0.5, 3),
)
def log10(x: Tensor, /) -> Tensor:
    """Logarithm to base 10, elementwise; minus infinity at 0, NaN below."""
    return (log(widen(x)) * (1 / math.log(10))).astype(x.spec.dtype)


@log10.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct * (1 / math.log(10)) / x


__all__ = [
    "exp",
    "expm1",
    "hypot",
    "log",
    "log1p",
    "log2",
    "log10",
    "pow",
    "rsqrt",
    "sqrt",
]
