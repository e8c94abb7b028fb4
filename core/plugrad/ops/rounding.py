"""Rounding, and the division that rounds, elementwise (array API standard 2024.12, "Element-wise functions").

Integers pass the roundings unchanged. The results are piecewise constant: their derivative is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plugrad.dispatch.op import Kind, Scalar, op
from plugrad.dispatch.sample import Sample, samples, uniform
from plugrad.dtypes import FLOATING, NUMERIC
from plugrad.ops._rules import broadcast, like
from plugrad.ops.arithmetic import copysign, negative
from plugrad.ops.comparison import where
from plugrad.ops.creation import zeros_of

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _samples(rng: np.random.Generator) -> list[Sample]:
    # The last ones are integers and halves in fewer digits, and on another side of these.
    close = np.array([101.49, -33.49, 66.51, 7.01, -98.99])
    return [*uniform(-9, 9)(rng), Sample(rng.integers(-9, 9, (3,))), Sample(close)]


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=NUMERIC,
    primitive=True,
    expression="floor(x)",
    samples=_samples,
)
def floor(x: Tensor, /) -> Tensor:
    """The largest integer not above ``x``, elementwise; -0, NaN and infinities stay. The derivative is 0."""


@floor.defvjp("x")
def _(ct: Tensor) -> Tensor:
    return zeros_of(ct.spec)


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=NUMERIC, samples=_samples)
def ceil(x: Tensor, /) -> Tensor:
    """The smallest integer not below ``x``, elementwise; -0, NaN and infinities stay. The derivative is 0."""
    return negative(floor(negative(x))) if x.dtype.is_floating else x + 0


@ceil.defvjp("x")
def _(ct: Tensor) -> Tensor:
    return zeros_of(ct.spec)


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=NUMERIC, samples=_samples)
def trunc(x: Tensor, /) -> Tensor:
    """``x`` without its fraction, elementwise; -0, NaN and infinities stay. The derivative is 0."""
    return where(x < 0, ceil(x), floor(x))


@trunc.defvjp("x")
def _(ct: Tensor) -> Tensor:
    return zeros_of(ct.spec)


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=NUMERIC, samples=_samples)
def round(x: Tensor, /) -> Tensor:
    """The integer nearest to ``x``, elementwise, the even one of two equally near; -0, NaN and infinities stay.

    The derivative is 0.
    """
    if not x.dtype.is_floating:
        return x + 0
    low = floor(x)
    over = x - low
    odd = low != 2 * floor(low * 0.5)
    up = (over > 0.5) | ((over == 0.5) & odd)
    return copysign(where(up, low + 1, low), x)


@round.defvjp("x")
def _(ct: Tensor) -> Tensor:
    return zeros_of(ct.spec)


def _division_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        *uniform(0.5, 3, operands=2)(rng),
        Sample(rng.uniform(-9, 9, (2, 3)), rng.uniform(-3, -0.5, (3,))),
        Sample(rng.uniform(-9, 9, (2, 3)), 2.5),
        Sample(rng.integers(-99, 99, (2, 3)), rng.integers(1, 9, (3,))),
        Sample(rng.integers(-99, 99, (2, 3)), -7),
    ]


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    expression=(
        "x2 == 0 ? x1 / x2 : copysign(rint((x1 - fmod(x1, x2)) / x2"
        " - (fmod(x1, x2) != 0 && (fmod(x1, x2) < 0) != (x2 < 0))), x1 / x2)"
    ),
    samples=_division_samples,
)
def floor_divide(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """The largest integer not above ``x1 / x2``, elementwise, computed as Python's ``//`` does.

    By 0 it gives an infinity or NaN for floating operands, and 0 for integers; the smallest signed integer by
    -1 wraps around. NaN where ``x1`` is infinite. The derivative is 0.
    """


@floor_divide.defvjp("x1")
def _(ct: Tensor) -> Tensor:
    return zeros_of(ct.spec)


@floor_divide.defvjp("x2")
def _(ct: Tensor) -> Tensor:
    return zeros_of(ct.spec)


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    expression=(
        "fmod(x1, x2) == 0 ? copysign(fmod(x1, x2), x2)"
        " : fmod(x1, x2) + ((fmod(x1, x2) < 0) != (x2 < 0) ? x2 : 0)"
    ),
    samples=_division_samples,
)
def remainder(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 - floor_divide(x1, x2) * x2``, without its rounding, elementwise: Python's ``%``.

    The result has the sign of ``x2``. By 0 it is NaN for floating operands, and 0 for integers.
    The derivative is 1 by ``x1`` and ``-floor_divide(x1, x2)`` by ``x2``.
    """


@remainder.defvjp("x1")
def _(ct: Tensor) -> Tensor:
    return ct


@remainder.defvjp("x2")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return negative(ct * floor_divide(x1, x2))


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=FLOATING,
    primitive=True,
    differentiable=False,
    expression="nextafter(x1, x2)",
    samples=samples(uniform(-3, 3, operands=2), lambda rng: [Sample(rng.uniform(-3, 3, (3,)), 0.0)]),
)
def nextafter(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """The floating value next to ``x1`` towards ``x2``, elementwise; ``x2`` where they are equal.

    NaN where one is NaN. It carries no gradient.
    """


__all__ = ["ceil", "floor", "floor_divide", "nextafter", "remainder", "round", "trunc"]
