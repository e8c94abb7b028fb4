"""Losses. Meaning and argument positions are PyTorch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrad.dispatch.op import Autocast, op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import FLOATING, int32, int64
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from plugrad.ops.activation import softplus
from plugrad.ops.arithmetic import abs, minimum
from plugrad.ops.arrangement import moveaxis
from plugrad.ops.broadcasting import sum
from plugrad.ops.comparison import not_equal, where
from plugrad.ops.indexing import take, take_along_axis
from plugrad.ops.lookup import one_hot
from plugrad.ops.movement import expand_dims, reshape
from plugrad.ops.reduction import mean
from plugrad.ops.softmax import log_softmax, softmax
from plugrad.spec import Spec

if TYPE_CHECKING:
    import numpy as np

    from plugrad.tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


def _reduced(name: str, loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return mean(loss)
    if reduction == "sum":
        return sum(loss)
    if reduction == "none":
        return loss
    raise ArgumentError(f"{name}: reduction takes 'mean', 'sum' or 'none', got {reduction!r}")


def _same_shape(name: str, input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        raise ShapeError(
            f"{name}: input has shape {input.shape}, target {target.shape}; they must be the same"
        )


def _pair_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((4, 3)), rng.standard_normal((4, 3))),
        Sample(rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), reduction="sum"),
        Sample(rng.standard_normal((2, 3)), rng.standard_normal((2, 3)), reduction="none"),
    ]


@op(dtypes=FLOATING, samples=_pair_samples)
def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Squared error ``(input - target) ** 2``.

    Args:
        input: floating, of any shape.
        target: floating, of the same shape.
        reduction: ``"mean"`` or ``"sum"`` over all elements, or ``"none"``.

    Raises:
        ShapeError: if the shapes differ.
    """
    _same_shape("mse_loss", input, target)
    difference = input - target
    return _reduced("mse_loss", difference * difference, reduction)


@op(dtypes=FLOATING, samples=_pair_samples)
def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Absolute error ``|input - target|``; the derivative at 0 is 0.

    Args:
        input: floating, of any shape.
        target: floating, of the same shape.
        reduction: ``"mean"`` or ``"sum"`` over all elements, or ``"none"``.

    Raises:
        ShapeError: if the shapes differ.
    """
    _same_shape("l1_loss", input, target)
    return _reduced("l1_loss", abs(input - target), reduction)


@op(
    dtypes=FLOATING,
    samples=lambda rng: [
        Sample(rng.standard_normal((4, 3)), 3 * rng.standard_normal((4, 3))),
        Sample(rng.standard_normal((4, 3)), 3 * rng.standard_normal((4, 3)), reduction="none", delta=0.5),
    ],
)
def huber_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Half the squared error up to ``delta``, then linear (Huber 1964).

    Args:
        input: floating, of any shape.
        target: floating, of the same shape.
        reduction: ``"mean"`` or ``"sum"`` over all elements, or ``"none"``.
        delta: where the two pieces meet, above 0.

    Raises:
        ShapeError: if the shapes differ.
        ArgumentError: if ``delta`` is not above 0.
    """
    _same_shape("huber_loss", input, target)
    if not delta > 0:
        raise ArgumentError(f"huber_loss: delta takes a number above 0, got {delta}")
    error = abs(input - target)
    near = minimum(error, delta)
    return _reduced("huber_loss", near * (error - near * 0.5), reduction)


def _logit_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((4, 3)), rng.uniform(0, 1, (4, 3))),
        Sample(10 * rng.standard_normal((4,)), rng.uniform(0, 1, (4,)), reduction="none"),
        Sample(
            rng.standard_normal((4, 3)),
            rng.uniform(0, 1, (4, 3)),
            rng.uniform(0.5, 1, (3,)),
            rng.uniform(0.5, 2, (3,)),
            reduction="sum",
        ),
    ]


@op(dtypes=FLOATING, autocast=Autocast.FULL, samples=_logit_samples)
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of the probability ``sigmoid(input)`` of 1 with ``target``, stable for large inputs.

    Args:
        input: floating logits, of any shape.
        target: floating, in [0, 1], of the same shape.
        weight: of each element, broadcast to the shape.
        pos_weight: of the part of the loss where the target is 1, broadcast to the shape.
        reduction: ``"mean"`` or ``"sum"`` over all elements, or ``"none"``.

    Raises:
        ShapeError: if the shapes differ.
    """
    _same_shape("binary_cross_entropy_with_logits", input, target)
    if pos_weight is None:
        loss = softplus(input) - input * target
    else:
        loss = (1 - target) * input + ((pos_weight - 1) * target + 1) * softplus(-input)
    if weight is not None:
        loss = loss * weight
    return _reduced("binary_cross_entropy_with_logits", loss, reduction)


def _per_label(call: Any) -> Spec:
    x: Spec = call.input
    if x.ndim < 1 or call.target.shape != (*x.shape[:1], *x.shape[2:])[: max(x.ndim - 1, 0)]:
        raise ShapeError(
            f"cross_entropy: input of shape {x.shape} takes labels of shape "
            f"{(*x.shape[:1], *x.shape[2:])}, got {call.target.shape}"
        )
    if not 0 <= call.label_smoothing <= 1:
        raise ArgumentError(
            f"cross_entropy: label_smoothing takes a number in [0, 1], got {call.label_smoothing}"
        )
    return Spec(call.target.shape, x.dtype, x.device)


def _label_samples(rng: np.random.Generator) -> list[Sample]:
    labels = rng.integers(0, 5, (4,))
    ignored = labels.copy()
    ignored[1] = -100
    return [
        Sample(rng.standard_normal((4, 5)), labels, ignore_index=-100, label_smoothing=0.0),
        Sample(rng.standard_normal((4, 5)), ignored, ignore_index=-100, label_smoothing=0.1),
        Sample(
            rng.standard_normal((2, 5, 3)),
            rng.integers(0, 5, (2, 3)).astype("int32"),
            ignore_index=2,
            label_smoothing=0.2,
        ),
    ]


@op(
    infer=_per_label,
    dtypes={"input": FLOATING, "target": (int32, int64)},
    autocast=Autocast.FULL,
    samples=_label_samples,
)
def label_cross_entropy(
    input: Tensor, target: Tensor, *, ignore_index: int, label_smoothing: float
) -> Tensor:
    """Cross-entropy of ``softmax(input, axis=1)`` with each label; 0 where the label is ``ignore_index``.

    What `cross_entropy` is made of for labels without class weights.

    Args:
        input: scores (N, C, ...).
        target: labels (N, ...), int32 or int64, in [0, C) or ``ignore_index``.
        ignore_index: the label of what does not count.
        label_smoothing: share of the probability that is spread evenly over all classes.

    Raises:
        IndexRangeError: if a label is outside the range.
    """
    logs = log_softmax(input, axis=1)
    valid = not_equal(target, ignore_index)
    labels = where(valid, target, 0)
    picked = take_along_axis(logs, expand_dims(labels, axis=1), axis=1)
    loss = reshape(picked, target.shape) * (label_smoothing - 1)
    if label_smoothing:
        loss = loss - mean(logs, axis=1) * label_smoothing
    return where(valid, loss, 0.0)


@label_cross_entropy.defvjp("input")
def _(ct: Tensor, input: Tensor, target: Tensor, *, ignore_index: int, label_smoothing: float) -> Tensor:
    classes = input.shape[1]
    valid = not_equal(target, ignore_index)
    hot = one_hot(where(valid, target, 0), classes, dtype=input.dtype)
    hot = moveaxis(hot, -1, 1) * (1 - label_smoothing) + label_smoothing / classes
    return (softmax(input, axis=1) - hot) * expand_dims(where(valid, ct, 0.0), axis=1)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of ``softmax(input, axis=1)`` with ``target``.

    Args:
        input: scores (N, C, ...), or (C,) for one example.
        target: labels (N, ...), int32 or int64, in [0, C) or ``ignore_index``; or probabilities of the shape of
            ``input``.
        weight: of each class, (C,).
        ignore_index: the label of what does not count; labels alone.
        reduction: ``"mean"``: over what counts, weighted by the weights of the labels; ``"sum"`` or ``"none"``.
        label_smoothing: share of the probability that is spread evenly over all classes, in [0, 1].

    Returns:
        A 0-d tensor, or (N, ...). The mean over nothing that counts is NaN.

    Raises:
        ShapeError: if the shapes do not fit.
        IndexRangeError: if a label is outside the range.
        DTypeError: if ``input`` is not floating, or ``target`` is neither floating nor int32 or int64.
    """
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"cross_entropy: reduction takes 'mean', 'sum' or 'none', got {reduction!r}")
    if input.ndim == 0:
        raise ShapeError("cross_entropy: takes scores (N, C, ...) or (C,), got a tensor of no axes")
    if input.ndim == 1:
        loss = cross_entropy(
            expand_dims(input, axis=0),
            expand_dims(target, axis=0),
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
        return reshape(loss, ()) if reduction == "none" else loss
    if weight is not None and weight.shape != (input.shape[1],):
        raise ShapeError(f"cross_entropy: weight takes shape {(input.shape[1],)}, got {weight.shape}")
    if target.dtype.is_floating:
        return _with_probabilities(input, target, weight, reduction, label_smoothing)
    if target.dtype not in (int32, int64):
        raise DTypeError(
            f"cross_entropy: target takes int32 or int64 labels or probabilities, got {target.dtype}"
        )
    if weight is not None:
        return _with_weights(input, target, weight, ignore_index, reduction, label_smoothing)
    loss = label_cross_entropy(input, target, ignore_index=ignore_index, label_smoothing=label_smoothing)
    if reduction != "mean":
        return _reduced("cross_entropy", loss, reduction)
    return sum(loss) / sum(not_equal(target, ignore_index).astype(loss.dtype))


def _with_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    if input.shape != target.shape:
        raise ShapeError(
            f"cross_entropy: probabilities take the shape of input, {input.shape}, got {target.shape}"
        )
    classes = input.shape[1]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    terms = log_softmax(input, axis=1) * target
    if weight is not None:
        terms = terms * reshape(weight, (classes, *(1,) * (input.ndim - 2)))
    loss = -sum(terms, axis=1)
    if reduction == "mean":
        return sum(loss) / (input.size // classes if classes else 0)
    return _reduced("cross_entropy", loss, reduction)


def _with_weights(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    classes = input.shape[1]
    valid = not_equal(target, ignore_index)
    labels = where(valid, target, 0)
    logs = log_softmax(input, axis=1)
    own = where(valid, take(weight, labels, axis=0), 0.0)
    picked = reshape(take_along_axis(logs, expand_dims(labels, axis=1), axis=1), target.shape)
    loss = own * picked * (label_smoothing - 1)
    if label_smoothing:
        spread = sum(logs * reshape(weight, (classes, *(1,) * (input.ndim - 2))), axis=1)
        loss = loss - where(valid, spread, 0.0) * (label_smoothing / classes)
    if reduction == "mean":
        return sum(loss) / sum(own)
    return _reduced("cross_entropy", loss, reduction)


__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "l1_loss",
    "label_cross_entropy",
    "mse_loss",
]
