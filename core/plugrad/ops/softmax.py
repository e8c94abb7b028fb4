"""Softmax, its logarithm, and the logarithm of sums of exponentials: none overflows, whatever the values.

A minus infinity among other values has probability 0. Where a whole line is minus infinity, or where there is a
plus infinity, softmax and log_softmax are NaN: the line has no distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.factors import aligned
from plugrad.dispatch.op import Autocast, Kind, Scalar, op
from plugrad.dispatch.sample import Sample, errors, samples, uniform
from plugrad.dtypes import FLOATING
from plugrad.ops._rules import (
    AXES,
    REFUSED_AXES,
    REFUSED_AXIS,
    axis_of,
    broadcast,
    kept,
    like,
    reduced,
    reduced_shape,
)
from plugrad.ops.activation import sigmoid
from plugrad.ops.arithmetic import abs, maximum
from plugrad.ops.broadcasting import sum
from plugrad.ops.casting import widen
from plugrad.ops.comparison import isfinite, where
from plugrad.ops.movement import reshape
from plugrad.ops.reduction import max
from plugrad.ops.transcendental import exp, log, log1p

if TYPE_CHECKING:
    import numpy as np

    from plugrad.tensor import Tensor


def _line_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.uniform(-3, 3, (7,))),
        Sample(rng.uniform(-3, 3, (3, 5))),
        Sample(rng.uniform(-3, 3, (3, 5)), axis=0),
        Sample(rng.uniform(-3, 3, (2, 3, 4)), axis=1),
        Sample(rng.uniform(-3, 3, (3, 1))),
        Sample(rng.uniform(-3, 3, (0, 3))),
        Sample(rng.uniform(-3, 3, (3, 0))),
    ]


def _others(call: Any) -> Iterable[int]:
    """All axes but that of the op."""
    ndim = (call.x if hasattr(call, "x") else call.out).ndim
    return (a for a in range(ndim) if a != call.axis)


_lines: Final = aligned("x", within=_others)
_lines_of_rule: Final = aligned("out", "ct", within=_others)


@op(
    infer=like("x"),
    dtypes=FLOATING,
    attributes={"axis": axis_of("x")},
    autocast=Autocast.FULL,
    factors=_lines,
    samples=_line_samples,
    errors=errors(*REFUSED_AXIS),
)
def softmax(x: Tensor, /, *, axis: int = -1) -> Tensor:
    """``exp(x)`` over its sum along ``axis``: a distribution on each line.

    Args:
        x: at least one axis, a floating dtype.
        axis: the axis that the lines run along.

    Returns:
        The shape and dtype of ``x``.

    Raises:
        ShapeError: if ``x`` has no such axis.
    """
    if x.shape[axis] == 0:
        return exp(x)
    e = exp(x - max(x, axis=axis, keepdims=True))
    return e / sum(e, axis=axis, keepdims=True)


@softmax.defvjp("x", factors=_lines_of_rule)
def _(ct: Tensor, out: Tensor, *, axis: int) -> Tensor:
    return out * (ct - sum(ct * out, axis=axis, keepdims=True))


@op(
    infer=like("x"),
    dtypes=FLOATING,
    attributes={"axis": axis_of("x")},
    autocast=Autocast.FULL,
    factors=_lines,
    samples=_line_samples,
    errors=errors(*REFUSED_AXIS),
)
def log_softmax(x: Tensor, /, *, axis: int = -1) -> Tensor:
    """Logarithm of `softmax`, without the loss of small probabilities.

    Args:
        x: at least one axis, a floating dtype.
        axis: the axis that the lines run along.

    Returns:
        The shape and dtype of ``x``.

    Raises:
        ShapeError: if ``x`` has no such axis.
    """
    if x.shape[axis] == 0:
        return exp(x)
    shifted = x - max(x, axis=axis, keepdims=True)
    return shifted - log(sum(exp(shifted), axis=axis, keepdims=True))


@log_softmax.defvjp("x", factors=_lines_of_rule)
def _(ct: Tensor, out: Tensor, *, axis: int) -> Tensor:
    return ct - exp(out) * sum(ct, axis=axis, keepdims=True)


def _sum_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.uniform(-3, 3, (3, 4))),
        Sample(rng.uniform(-3, 3, (3, 4)), axis=-1),
        Sample(rng.uniform(-3, 3, (2, 3, 4)), axis=1, keepdims=True),
        Sample(rng.uniform(-3, 3, (2, 3, 4)), axis=(0, 2)),
        Sample(rng.uniform(-3, 3, (2, 3, 4)), axis=(1, 2), keepdims=True),
        Sample(rng.uniform(-3, 3, (2, 3)), axis=()),
        Sample(rng.uniform(-3, 3, ())),
        Sample(rng.uniform(-3, 3, (0, 3)), axis=1),
    ]


@op(
    kind=Kind.REDUCTION,
    infer=reduced,
    dtypes=FLOATING,
    attributes=AXES,
    autocast=Autocast.FULL,
    factors=kept,
    samples=_sum_samples,
    errors=errors(*REFUSED_AXES),
)
def logsumexp(x: Tensor, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """Logarithm of the sum of ``exp(x)`` over ``axis``.

    Args:
        x: any shape, a floating dtype.
        axis: one axis, several, or None for all.
        keepdims: keep the axes summed, with size 1.

    Returns:
        The dtype of ``x``. Minus infinity where all that is summed is, or nothing is; the derivative there is 0.

    Raises:
        ShapeError: if ``x`` has no such axis, or one is named twice.
    """
    axes = _axes(axis)
    shape = reduced_shape(x.shape, axes, keepdims)
    if any(x.shape[a] == 0 for a in axes):
        return log(sum(exp(x), axis=axes, keepdims=keepdims))
    largest = max(x, axis=axes, keepdims=True)
    largest = where(isfinite(largest), largest, 0.0)
    return reshape(log(sum(exp(x - largest), axis=axes, keepdims=True)) + largest, shape)


def _axes(axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """What the normalizer has made of ``axis``."""
    assert isinstance(axis, tuple)
    return axis


@logsumexp.defvjp("x")
def _(ct: Tensor, x: Tensor, out: Tensor, *, axis: tuple[int, ...]) -> Tensor:
    kept = reduced_shape(x.shape, axis, True)
    total = reshape(where(out == -math.inf, 0.0, out), kept)
    return reshape(ct, kept) * exp(x - total)


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes=FLOATING,
    autocast=Autocast.FULL,
    samples=samples(uniform(-3, 3, operands=2), lambda rng: [Sample(rng.uniform(-3, 3, (2, 3)), 0.5)]),
)
def logaddexp(x1: Tensor | Scalar, x2: Tensor | Scalar, /) -> Tensor:
    """``log(exp(x1) + exp(x2))`` of floating operands, elementwise.

    Where they are equal, infinite or not, each has half of the derivative.
    """
    assert not isinstance(x1, Scalar)
    assert not isinstance(x2, Scalar)
    a, b = widen(x1), widen(x2)
    apart = maximum(a, b) + log1p(exp(-abs(a - b)))
    return where(a == b, a + math.log(2), apart).astype(x1.spec.dtype)


def _lead(x1: Tensor, x2: Tensor) -> Tensor:
    """``x1 - x2``, 0 where they are equal and infinite."""
    return where(x1 == x2, 0.0, x1 - x2)


@logaddexp.defvjp("x1")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return ct * sigmoid(_lead(x1, x2))


@logaddexp.defvjp("x2")
def _(ct: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    return ct * sigmoid(_lead(x2, x1))


__all__ = ["log_softmax", "logaddexp", "logsumexp", "softmax"]
