"""Arithmetic, extrema and signs, elementwise (array API standard 2024.12, "Element-wise functions").

Operands broadcast together and are promoted to a common dtype, which is that of the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrad import dtypes
from plugrad.dispatch.op import Autocast, Kind, Scalar, op
from plugrad.dispatch.sample import Sample, integers, samples, uniform
from plugrad.dtypes import FLOATING, NUMERIC
from plugrad.ops._rules import broadcast, like
from plugrad.ops.comparison import signbit, where
from plugrad.ops.creation import ones_of, zeros_of
from plugrad.spec import Spec

if TYPE_CHECKING:
    import numpy as np

    from plugrad.tensor import Tensor


def _with_scalars(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.uniform(0.5, 3, (2, 3)), 1.75),
        Sample(-2, rng.uniform(0.5, 3, (2, 3))),
    ]


_PAIRS = samples(uniform(-3, 3, operands=2), integers(-9, 9, operands=2), _with_scalars)
_SINGLE = samples(uniform(-3, 3), integers(-9, 9))


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    expression="x1 + x2",
    samples=_PAIRS,
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
    samples=_PAIRS,
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
    samples=_PAIRS,
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
    samples=samples(uniform(0.5, 3, operands=2), _with_scalars),
)
def divide(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Quotient ``x1 / x2`` of floating operands, elementwise; division by zero gives an infinity or NaN."""


@divide.defvjp("x1")
def _(ct: Tensor, x2: Tensor) -> Tensor:
    return ct / x2


@divide.defvjp("x2")
def _(ct: Tensor, x2: Tensor, out: Tensor) -> Tensor:
    return -(ct * out / x2)


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    expression="x1 > x2 || x1 != x1 ? x1 : x2",
    samples=_PAIRS,
)
def maximum(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """The larger of ``x1`` and ``x2``, elementwise; NaN where one is NaN. Ties share the derivative equally.

    Which one it gives of 0 and -0 is unspecified.
    """


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=NUMERIC,
    primitive=True,
    expression="x1 < x2 || x1 != x1 ? x1 : x2",
    samples=_PAIRS,
)
def minimum(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """The smaller of ``x1`` and ``x2``, elementwise; NaN where one is NaN. Ties share the derivative equally.

    Which one it gives of 0 and -0 is unspecified.
    """


def _share(ct: Tensor, mine: Tensor, other: Tensor, wins: Tensor) -> Tensor:
    return where(wins, ct, where(mine == other, ct * 0.5, 0.0))


@maximum.defvjp("x1")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return _share(ct, x1, x2, x1 > x2)


@maximum.defvjp("x2")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return _share(ct, x2, x1, x2 > x1)


@minimum.defvjp("x1")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return _share(ct, x1, x2, x1 < x2)


@minimum.defvjp("x2")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return _share(ct, x2, x1, x2 < x1)


def _clip_samples(rng: np.random.Generator) -> list[Sample]:
    x = rng.uniform(-3, 3, (4, 3))
    return [
        Sample(x, -1.0, 1.0),
        Sample(x, None, 1.0),
        Sample(x, -1.0),
        Sample(x),
        Sample(x, rng.uniform(-2, 0, (3,)), rng.uniform(0, 2, (4, 1))),
        Sample(x, rng.uniform(-2, 2, (4, 3)), rng.uniform(-2, 2, (4, 3))),
        Sample(rng.uniform(-3, 3, ()), -1.0, rng.uniform(0, 2, (2,))),
        Sample(rng.uniform(-3, 3, ()), -1.0, 1.0),
        Sample(rng.uniform(-3, 3, (0, 3)), -1.0, 1.0),
        Sample(rng.integers(-9, 9, (5,)), -4, 4),
    ]


@op(kind=Kind.ELEMENTWISE, infer=broadcast(), dtypes=NUMERIC, samples=_clip_samples)
def clip(x: Tensor, /, min: Tensor | Scalar | None = None, max: Tensor | Scalar | None = None) -> Tensor:
    """``x`` held between two bounds, elementwise: ``minimum(maximum(x, min), max)`` (array API `clip`).

    Args:
        x: any numeric dtype.
        min: the lower bound, which broadcasts with ``x``; None for none.
        max: the upper bound likewise. Where it lies below ``min`` the result is ``max``.

    Returns:
        The clipped values; NaN where ``x`` or a bound is NaN. On a bound the derivative belongs to ``x``. Which
        one it gives of 0 and -0 is unspecified.
    """
    if min is not None:
        x = maximum(x, min)
    if max is not None:
        x = minimum(x, max)
    return x if min is not None or max is not None else copied(x)


@clip.defvjp("x")
def _(ct: Tensor, x: Tensor, min: Tensor | None, max: Tensor | None) -> Tensor:
    if min is not None:
        ct = where(x >= min, ct, 0.0)
    return ct if max is None else where(x <= max, ct, 0.0)


@clip.defvjp("min")
def _(ct: Tensor, x: Tensor, min: Tensor, max: Tensor | None) -> Tensor:
    ct = where(x < min, ct, 0.0)
    return ct if max is None else where(min <= max, ct, 0.0)


@clip.defvjp("max")
def _(ct: Tensor, x: Tensor, min: Tensor | None, max: Tensor) -> Tensor:
    return where((x if min is None else maximum(x, min)) > max, ct, 0.0)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=NUMERIC,
    primitive=True,
    expression="-x",
    samples=_SINGLE,
)
def negative(x: Tensor, /) -> Tensor:
    """``-x``, elementwise. Integers wrap around, unsigned ones too."""


@negative.defvjp("x")
def _(ct: Tensor) -> Tensor:
    return negative(ct)


@op(may_alias=True, dtypes=NUMERIC, infer=like("x"), samples=_SINGLE)
def positive(x: Tensor, /) -> Tensor:
    """``+x``: the same values, as a tensor of its own."""
    return x.reshape(x.shape)


def copied(x: Tensor) -> Tensor:
    """The same values in memory of their own: for bodies that change nothing, of ops that give no views."""
    return where(ones_of(Spec((), dtypes.bool, x.spec.device)), x, x)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=NUMERIC,
    primitive=True,
    expression="fabs(x)",
    samples=_SINGLE,
)
def abs(x: Tensor, /) -> Tensor:
    """Absolute value, elementwise; the smallest signed integer stays as it is. The derivative at 0 is 0."""


@abs.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct * sign(x)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=NUMERIC,
    primitive=True,
    expression="x != x ? x : (x > 0) - (x < 0)",
    samples=_SINGLE,
)
def sign(x: Tensor, /) -> Tensor:
    """-1, 0 or 1 by the sign of ``x``, elementwise; NaN for NaN. The derivative is 0."""


@sign.defvjp("x")
def _(ct: Tensor) -> Tensor:
    return zeros_of(ct.spec)


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=FLOATING,
    samples=samples(uniform(-3, 3, operands=2), lambda rng: [Sample(rng.uniform(-3, 3, (2, 3)), -1.0)]),
)
def copysign(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """The magnitude of ``x1`` with the sign bit of ``x2``, elementwise, for floating operands, NaN included.

    The derivative by ``x1`` is 1 or -1, at 0 too; that by ``x2`` is 0.
    """
    assert not isinstance(x1, Scalar)
    assert not isinstance(x2, Scalar)
    return where(signbit(x1) == signbit(x2), x1, negative(x1))


@copysign.defvjp("x1")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return where(signbit(x1) == signbit(x2), ct, negative(ct))


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=NUMERIC, samples=_SINGLE)
def square(x: Tensor, /) -> Tensor:
    """``x * x``, elementwise. Integers wrap around."""
    return x * x


@square.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct * (x + x)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    autocast=Autocast.FULL,
    samples=uniform(0.5, 3),
)
def reciprocal(x: Tensor, /) -> Tensor:
    """``1 / x`` of a floating operand, elementwise; an infinity at 0."""
    return 1 / x


@reciprocal.defvjp("x")
def _(ct: Tensor, out: Tensor) -> Tensor:
    return -(ct * out * out)


__all__ = [
    "abs",
    "add",
    "clip",
    "copysign",
    "divide",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "positive",
    "reciprocal",
    "sign",
    "square",
    "subtract",
]
