"""Comparison, selection, logic and bits, elementwise (array API standard 2024.12, "Element-wise functions").

Operands broadcast together and are promoted to a common dtype. Comparisons and tests give bool.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from plugrad import dtypes
from plugrad.dispatch.op import Kind, Scalar, op
from plugrad.dispatch.sample import Sample, booleans, integers, samples, uniform
from plugrad.dtypes import BOOLEAN, FLOATING, INTEGER, NUMERIC
from plugrad.ops._rules import broadcast, like

if TYPE_CHECKING:
    import numpy as np

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
        Sample(rng.random(()) < 0.5, rng.standard_normal(()), rng.standard_normal(())),
        Sample(rng.random((0, 3)) < 0.5, rng.standard_normal((0, 3)), rng.standard_normal(3)),
        Sample(rng.random(3) < 0.5, rng.integers(-9, 9, 3), 4),
    ],
)
def where(condition: Tensor, x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1`` where ``condition`` (bool) holds, else ``x2``; the three broadcast together, the latter two promote."""


@where.defvjp("x1")
def _(ct: Tensor, condition: Tensor) -> Tensor:
    return where(condition, ct, 0.0)


@where.defvjp("x2")
def _(ct: Tensor, condition: Tensor) -> Tensor:
    return where(condition, 0.0, ct)


# -- comparison -------------------------------------------------------------------------------------------


_comparison = broadcast(dtypes.bool)


def _scalar_sample(rng: np.random.Generator) -> list[Sample]:
    return [Sample(rng.integers(0, 3, (2, 3)), 1)]


_PAIRS = samples(integers(0, 3, operands=2), uniform(-1, 1, operands=2), _scalar_sample)
"""Pairs of integers with ties, pairs of floats, and a tensor with a Python number."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=_comparison,
    primitive=True,
    differentiable=False,
    expression="x1 == x2",
    samples=samples(_PAIRS, booleans(2)),
)
def equal(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 == x2`` as bool, elementwise; NaN equals nothing."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=_comparison,
    primitive=True,
    differentiable=False,
    expression="x1 != x2",
    samples=samples(_PAIRS, booleans(2)),
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
    samples=_PAIRS,
)
def less(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 < x2`` as bool, elementwise; False where one is NaN."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=_comparison,
    dtypes=NUMERIC,
    primitive=True,
    differentiable=False,
    expression="x1 <= x2",
    samples=_PAIRS,
)
def less_equal(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 <= x2`` as bool, elementwise; False where one is NaN."""


@op(kind=Kind.ELEMENTWISE, infer=_comparison, dtypes=NUMERIC, differentiable=False, samples=_PAIRS)
def greater(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 > x2`` as bool, elementwise; False where one is NaN."""
    return less(x2, x1)


@op(kind=Kind.ELEMENTWISE, infer=_comparison, dtypes=NUMERIC, differentiable=False, samples=_PAIRS)
def greater_equal(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``x1 >= x2`` as bool, elementwise; False where one is NaN."""
    return less_equal(x2, x1)


# -- tests of one value -----------------------------------------------------------------------------------

_VALUES = samples(
    uniform(-3, 3),
    lambda rng: [
        Sample(rng.permutation([math.nan, math.inf, -math.inf, -0.0, 0.0, 1.5])),
        Sample(rng.integers(-9, 9, (3,))),
    ],
)


@op(kind=Kind.ELEMENTWISE, infer=_comparison, dtypes=NUMERIC, differentiable=False, samples=_VALUES)
def isnan(x: Tensor, /) -> Tensor:
    """Whether each element is NaN; an integer never is."""
    return not_equal(x, x)


@op(kind=Kind.ELEMENTWISE, infer=_comparison, dtypes=NUMERIC, differentiable=False, samples=_VALUES)
def isinf(x: Tensor, /) -> Tensor:
    """Whether each element is an infinity; an integer never is."""
    if not x.dtype.is_floating:
        return not_equal(x, x)
    return bitwise_or(equal(x, math.inf), equal(x, -math.inf))


@op(kind=Kind.ELEMENTWISE, infer=_comparison, dtypes=NUMERIC, differentiable=False, samples=_VALUES)
def isfinite(x: Tensor, /) -> Tensor:
    """Whether each element is neither NaN nor an infinity; an integer always is."""
    if not x.dtype.is_floating:
        return equal(x, x)
    return bitwise_and(less(x, math.inf), less(-math.inf, x))


@op(
    kind=Kind.ELEMENTWISE,
    infer=_comparison,
    dtypes=FLOATING,
    primitive=True,
    differentiable=False,
    expression="signbit(x) != 0",
    samples=samples(
        uniform(-3, 3), lambda rng: [Sample(rng.permutation([math.inf, -math.inf, -0.0, 0.0, 1.5]))]
    ),
)
def signbit(x: Tensor, /) -> Tensor:
    """Whether the sign bit of each floating element is set: that of -0 and of a negative NaN is."""


# -- logic and bits ---------------------------------------------------------------------------------------

_BITS = samples(
    integers(-9, 9, operands=2), booleans(2), lambda rng: [Sample(rng.integers(-9, 9, (2, 3)), 5)]
)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=BOOLEAN + INTEGER,
    primitive=True,
    differentiable=False,
    expression="~x",
    samples=samples(integers(-9, 9), booleans()),
)
def bitwise_invert(x: Tensor, /) -> Tensor:
    """Each bit of an integer inverted, elementwise; of a bool, its negation (there ``!x`` in C)."""


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=BOOLEAN + INTEGER,
    primitive=True,
    differentiable=False,
    expression="x1 & x2",
    samples=_BITS,
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
    samples=_BITS,
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
    samples=_BITS,
)
def bitwise_xor(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Bitwise exclusive or of integers or bools, elementwise."""


def _shift_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.integers(-99, 99, (2, 3)), rng.integers(0, 70, (2, 3))),
        Sample(rng.integers(-99, 99, (4, 1)), rng.integers(0, 9, (3,))),
        Sample(rng.integers(-99, 99, ()), rng.integers(0, 9, ())),
        Sample(rng.integers(-99, 99, (0, 3)), rng.integers(0, 9, (3,))),
        Sample(rng.integers(-99, 99, (3,)), 2),
    ]


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=INTEGER,
    primitive=True,
    differentiable=False,
    expression="x2 < 8 * sizeof(x1) ? x1 << x2 : 0",
    samples=_shift_samples,
)
def bitwise_left_shift(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """The bits of ``x1`` moved left by ``x2`` places, zeros coming in, elementwise.

    Args:
        x1: integers.
        x2: integers, which must not be negative; a shift by the width of the dtype or more gives 0.
    """


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=INTEGER,
    primitive=True,
    differentiable=False,
    expression="x2 < 8 * sizeof(x1) ? x1 >> x2 : x1 < 0 ? -1 : 0",
    samples=_shift_samples,
)
def bitwise_right_shift(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """The bits of ``x1`` moved right by ``x2`` places, the sign bit coming in, elementwise.

    Args:
        x1: integers.
        x2: integers, which must not be negative; a shift by the width of the dtype or more leaves the sign,
            0 or -1.
    """


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=BOOLEAN, differentiable=False, samples=booleans())
def logical_not(x: Tensor, /) -> Tensor:
    """Negation of bools, elementwise."""
    return equal(x, False)


@op(kind=Kind.ELEMENTWISE, infer=broadcast(), dtypes=BOOLEAN, differentiable=False, samples=booleans(2))
def logical_and(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Whether both of two bools hold, elementwise."""
    return bitwise_and(x1, x2)


@op(kind=Kind.ELEMENTWISE, infer=broadcast(), dtypes=BOOLEAN, differentiable=False, samples=booleans(2))
def logical_or(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Whether one of two bools holds, elementwise."""
    return bitwise_or(x1, x2)


@op(kind=Kind.ELEMENTWISE, infer=broadcast(), dtypes=BOOLEAN, differentiable=False, samples=booleans(2))
def logical_xor(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """Whether exactly one of two bools holds, elementwise."""
    return bitwise_xor(x1, x2)


__all__ = [
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
    "signbit",
    "where",
]
