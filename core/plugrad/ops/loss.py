"""Losses of numbers against numbers. Meaning and argument positions are PyTorch's.

Each takes its mean or sum itself, so that a device reads its operands once. Sums of 16-bit floats are made in
float32. `cross_entropy` stands beside.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.dispatch.op import Autocast, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import FLOATING
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops.activation import sigmoid, softplus
from plugrad.ops.arithmetic import abs, maximum, minimum, sign
from plugrad.ops.broadcasting import sum, sum_to
from plugrad.ops.casting import widen
from plugrad.ops.reduction import mean
from plugrad.spec import Spec, broadcast_shapes

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

REDUCTIONS: Final = ("mean", "sum", "none")
"""What a loss makes of its elements."""

PAIR: Final = ("input", "target")


def reduction_value(call: Any, value: Any) -> str:
    """A reduction: ``"mean"``, ``"sum"`` or ``"none"``."""
    if value not in REDUCTIONS:
        raise ArgumentError(f"{call.op.name}: reduction takes 'mean', 'sum' or 'none', got {value!r}")
    return str(value)


def _reduced(loss: Tensor, reduction: str, like: Tensor) -> Tensor:
    """The loss of elements as that of all, in the dtype of ``like``."""
    if reduction == "mean":
        loss = mean(loss)
    elif reduction == "sum":
        loss = sum(loss)
    return loss.astype(like.spec.dtype)


def _each(ct: Tensor, reduction: str, like: Spec) -> Tensor:
    """The cotangent of the loss of each element, from that of the loss."""
    ct = widen(ct)
    return ct * (1 / like.size if like.size else math.nan) if reduction == "mean" else ct


def _loss(call: Any) -> Spec:
    x: Spec = call.input
    if x.shape != call.target.shape:
        raise ShapeError(
            f"{call.op.name}: input has shape {x.shape}, target {call.target.shape}; takes one shape: see broadcast_to"
        )
    return x if call.reduction == "none" else x.with_shape(())


_REFUSED: Final = (
    ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros(3)),
    ErrorSample(ArgumentError, np.zeros(3), np.zeros(3), reduction="average"),
)
"""What each loss refuses: shapes that only broadcast, and a reduction that there is not."""


def _pair_samples(rng: np.random.Generator, **attributes: Any) -> list[Sample]:
    def pair(*shape: int) -> list[Any]:
        # No two are as far apart as a kink is, whatever the seed.
        x = rng.standard_normal(shape)
        return [x, x + rng.choice([-1, 1], shape) * rng.choice([0.2, 0.4, 0.9, 1.6], shape)]

    return [
        Sample(*pair(4, 3), **attributes),
        Sample(*pair(4, 3), reduction="sum", **attributes),
        Sample(*pair(2, 3), reduction="none", **attributes),
        Sample(*pair(), **attributes),
        Sample(*pair(0, 3), reduction="sum", **attributes),
        Sample(*pair(0, 3), reduction="none", **attributes),
    ]


@op(
    infer=_loss,
    dtypes=FLOATING,
    promote=PAIR,
    attributes={"reduction": reduction_value},
    autocast=Autocast.FULL,
    samples=_pair_samples,
    errors=errors(*_REFUSED),
)
def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Squared error ``(input - target) ** 2``.

    Args:
        input: floating, of any shape.
        target: floating, of the same shape.
        reduction: ``"mean"`` or ``"sum"`` over all elements, or ``"none"``.

    Returns:
        A 0-d tensor, or of the shape of ``input``. The mean of no elements is NaN.

    Raises:
        ShapeError: if the shapes differ.
        ArgumentError: if there is no such reduction.
    """
    difference = widen(input) - widen(target)
    return _reduced(difference * difference, reduction, input)


def _both(ct: Tensor, wrt: tuple[str, ...]) -> tuple[Tensor, ...]:
    """The cotangents of input and target in ``wrt``, from that of their difference."""
    return tuple(ct if name == "input" else -ct for name in wrt)


@mse_loss.defvjp()
def _(ct: Tensor, input: Tensor, target: Tensor, *, reduction: str, wrt: tuple[str, ...]) -> Any:
    difference = widen(input) - widen(target)
    return _both(difference * (_each(ct, reduction, input.spec) * 2), wrt)


@op(
    infer=_loss,
    dtypes=FLOATING,
    promote=PAIR,
    attributes={"reduction": reduction_value},
    autocast=Autocast.FULL,
    samples=_pair_samples,
    errors=errors(*_REFUSED),
)
def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Absolute error ``|input - target|``; the derivative at 0 is 0.

    Args:
        input: floating, of any shape.
        target: floating, of the same shape.
        reduction: ``"mean"`` or ``"sum"`` over all elements, or ``"none"``.

    Returns:
        A 0-d tensor, or of the shape of ``input``. The mean of no elements is NaN.

    Raises:
        ShapeError: if the shapes differ.
        ArgumentError: if there is no such reduction.
    """
    return _reduced(abs(widen(input) - widen(target)), reduction, input)


@l1_loss.defvjp()
def _(ct: Tensor, input: Tensor, target: Tensor, *, reduction: str, wrt: tuple[str, ...]) -> Any:
    return _both(sign(widen(input) - widen(target)) * _each(ct, reduction, input.spec), wrt)


def _delta(call: Any, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ArgumentError(f"{call.op.name}: delta takes a number above 0, got {value!r}")
    return float(value)


@op(
    infer=_loss,
    dtypes=FLOATING,
    promote=PAIR,
    attributes={"reduction": reduction_value, "delta": _delta},
    autocast=Autocast.FULL,
    samples=lambda rng: [*_pair_samples(rng), *_pair_samples(rng, delta=0.5)],
    errors=errors(*_REFUSED, ErrorSample(ArgumentError, np.zeros(3), np.zeros(3), delta=0.0)),
)
def huber_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Half the squared error where the error is at most ``delta``, beyond it linear (Huber 1964).

    Args:
        input: floating, of any shape.
        target: floating, of the same shape.
        reduction: ``"mean"`` or ``"sum"`` over all elements, or ``"none"``.
        delta: where the two pieces meet, above 0.

    Returns:
        A 0-d tensor, or of the shape of ``input``. The mean of no elements is NaN.

    Raises:
        ShapeError: if the shapes differ.
        ArgumentError: if there is no such reduction, or ``delta`` is not above 0.
    """
    error = abs(widen(input) - widen(target))
    near = minimum(error, delta)
    return _reduced(near * (error - near * 0.5), reduction, input)


@huber_loss.defvjp()
def _(
    ct: Tensor, input: Tensor, target: Tensor, *, reduction: str, delta: float, wrt: tuple[str, ...]
) -> Any:
    difference = widen(input) - widen(target)
    slope = maximum(minimum(difference, delta), -delta)
    return _both(slope * _each(ct, reduction, input.spec), wrt)


def _logistic(call: Any) -> Spec:
    result = _loss(call)
    shape = call.input.shape
    for name in ("weight", "pos_weight"):
        spec = getattr(call, name)
        if spec is not None and broadcast_shapes(call.op.name, [spec.shape, shape]) != shape:
            raise ShapeError(f"{call.op.name}: {name} of shape {spec.shape} does not broadcast to {shape}")
    return result


def _logistic_samples(rng: np.random.Generator) -> list[Sample]:
    def pair(*shape: int) -> list[Any]:
        return [3 * rng.standard_normal(shape), rng.uniform(0, 1, shape)]

    def weight(*shape: int) -> Any:
        return rng.uniform(0.5, 2, shape)

    return [
        Sample(*pair(4, 3)),
        Sample(*pair(4), reduction="none"),
        Sample(*pair(4, 3), weight(3), weight(4, 1), reduction="sum"),
        Sample(*pair(4, 3), weight(4, 3), None, reduction="none"),
        Sample(*pair(2, 4, 3), None, weight(3)),
        Sample(*pair(), weight(), weight()),
        Sample(*pair(0, 3), None, weight(3), reduction="sum"),
        Sample(*pair(3, 5), weight(3, 5), weight(3, 5), reduction="none"),
    ]


@op(
    infer=_logistic,
    dtypes=FLOATING,
    promote=(*PAIR, "weight", "pos_weight"),
    attributes={"reduction": reduction_value},
    autocast=Autocast.FULL,
    samples=_logistic_samples,
    errors=errors(
        *_REFUSED,
        ErrorSample(ShapeError, np.zeros(3), np.zeros(3), np.ones(2)),
        ErrorSample(ShapeError, np.zeros(3), np.zeros(3), None, np.ones((2, 3))),
    ),
)
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of the probability ``sigmoid(input)`` of 1 with ``target``, stable for large inputs.

    Of each element, ``weight * (pos_weight * target * softplus(-input) + (1 - target) * softplus(input))``.

    Args:
        input: floating logits, of any shape.
        target: floating, in [0, 1], of the same shape.
        weight: of each element; broadcasts to the shape.
        pos_weight: of the part of the loss where the target is 1; broadcasts to the shape.
        reduction: ``"mean"`` or ``"sum"`` over all elements, or ``"none"``.

    Returns:
        A 0-d tensor, or of the shape of ``input``. The mean of no elements is NaN.

    Raises:
        ShapeError: if the shapes of input and target differ, or a weight does not broadcast to them.
        ArgumentError: if there is no such reduction.
    """
    loss = _elements(widen(input), widen(target), pos_weight)
    return _reduced(loss if weight is None else loss * weight, reduction, input)


def _elements(x: Tensor, target: Tensor, pos_weight: Tensor | None) -> Tensor:
    for_one = target * _softplus(-x)
    return (for_one if pos_weight is None else pos_weight * for_one) + (1 - target) * _softplus(x)


def _softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``, to its last digits for large ``x`` too."""
    return softplus(x, threshold=math.inf)


def _weighted(ct: Tensor, weight: Tensor | None, reduction: str, like: Spec) -> Tensor:
    each = _each(ct, reduction, like)
    return each if weight is None else each * weight


@binary_cross_entropy_with_logits.defvjp("input")
def _(
    ct: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    *,
    reduction: str,
) -> Tensor:
    x, t = widen(input), widen(target)
    for_one = t * sigmoid(-x)
    slope = (1 - t) * sigmoid(x) - (for_one if pos_weight is None else pos_weight * for_one)
    return slope * _weighted(ct, weight, reduction, input.spec)


@binary_cross_entropy_with_logits.defvjp("target")
def _(
    ct: Tensor, input: Tensor, weight: Tensor | None, pos_weight: Tensor | None, *, reduction: str
) -> Tensor:
    x = widen(input)
    slope = -x if pos_weight is None else pos_weight * _softplus(-x) - _softplus(x)
    return slope * _weighted(ct, weight, reduction, input.spec)


@binary_cross_entropy_with_logits.defvjp("weight")
def _(
    ct: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Spec,
    pos_weight: Tensor | None,
    *,
    reduction: str,
) -> Tensor:
    loss = _elements(widen(input), widen(target), pos_weight)
    return sum_to(loss * _each(ct, reduction, input.spec), weight.shape)


@binary_cross_entropy_with_logits.defvjp("pos_weight")
def _(
    ct: Tensor, input: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Spec, *, reduction: str
) -> Tensor:
    slope = widen(target) * _softplus(-widen(input))
    return sum_to(slope * _weighted(ct, weight, reduction, input.spec), pos_weight.shape)


__all__ = ["binary_cross_entropy_with_logits", "huber_loss", "l1_loss", "mse_loss"]
