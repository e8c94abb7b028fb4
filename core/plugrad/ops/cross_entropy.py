"""Cross-entropy of scores with labels or with probabilities, the loss of classification."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.dispatch.op import Autocast, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import FLOATING, int32, int64
from plugrad.errors import ArgumentError, IndexRangeError, ShapeError
from plugrad.ops._rules import integer, widened
from plugrad.ops.broadcasting import sum
from plugrad.ops.casting import widen
from plugrad.ops.comparison import equal, less, not_equal, where
from plugrad.ops.creation import iota
from plugrad.ops.indexing import take, take_along_axis
from plugrad.ops.loss import reduction_value
from plugrad.ops.movement import expand_dims, reshape
from plugrad.ops.softmax import logsumexp
from plugrad.ops.transcendental import exp
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

LABELS: Final = (int32, int64)
"""The dtypes of labels."""


def _smoothing(call: Any, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ArgumentError(f"{call.op.name}: label_smoothing takes a number in [0, 1], got {value!r}")
    return float(value)


def class_axis(x: Spec) -> int:
    """The axis of the classes in scores (N, C, ...) or (C,)."""
    return 0 if x.ndim == 1 else 1


def _entropy(call: Any) -> Any:
    x: Spec = call.input
    target: Spec = call.target
    if x.ndim == 0:
        raise ShapeError(f"{call.op.name}: input has shape (); takes scores (N, C, ...) or (C,)")
    axis = class_axis(x)
    rows = (*x.shape[:axis], *x.shape[axis + 1 :])
    if not x.shape[axis]:
        raise ShapeError(f"{call.op.name}: input of shape {x.shape} has no classes")
    if target.dtype in LABELS and target.shape != rows:
        raise ShapeError(
            f"{call.op.name}: target has shape {target.shape}; takes labels {rows} for input of shape {x.shape}"
        )
    if target.dtype not in LABELS and target.shape != x.shape:
        raise ShapeError(
            f"{call.op.name}: target has shape {target.shape}; takes probabilities of the shape of input, {x.shape}"
        )
    if call.weight is not None and call.weight.shape != (x.shape[axis],):
        raise ShapeError(
            f"{call.op.name}: weight has shape {call.weight.shape}; takes {(x.shape[axis],)}, one per class"
        )
    out = x.with_shape(rows if call.reduction == "none" else ())
    return (out, Spec(rows, widened(x.dtype), x.device)) if call.residuals else out


def _samples(rng: np.random.Generator) -> list[Sample]:
    n = rng.standard_normal

    def labels(*shape: int, ignored: int = -100) -> Any:
        found = rng.integers(0, 5, shape)
        found.reshape(-1)[1:2] = ignored
        return found

    def shares(*shape: int) -> Any:
        found = rng.uniform(0.1, 1, shape)
        return found / found.sum(axis=1, keepdims=True)

    weight = rng.uniform(0.5, 2, 5)
    smooth = {"label_smoothing": 0.1}
    return [
        Sample(n((4, 5)), labels(4, ignored=3)),
        Sample(n((4, 5)), labels(4), None, reduction="sum", **smooth),
        Sample(n((4, 5)), labels(4), weight, **smooth),
        Sample(n((4, 5)), labels(4), weight, reduction="none"),
        Sample(n((2, 5, 3)), labels(2, 3).astype("int32"), weight, ignore_index=-100),
        Sample(n((2, 5, 3, 2)), labels(2, 3, 2, ignored=2), weight, ignore_index=2, **smooth),
        Sample(n((2, 5, 3)), labels(2, 3), None, reduction="none", **smooth),
        Sample(n(5), labels(), weight, **smooth),
        Sample(n((0, 5)), labels(0), weight, reduction="sum"),
        Sample(n((4, 5)), shares(4, 5)),
        Sample(n((4, 5)), shares(4, 5), weight, **smooth),
        Sample(n((2, 5, 3)), shares(2, 5, 3), weight, reduction="none"),
        Sample(n((2, 5, 3)), shares(2, 5, 3), None, reduction="sum", **smooth),
        Sample(n(5), rng.uniform(0, 1, 5), reduction="none"),
    ]


@op(
    infer=_entropy,
    dtypes={"input": FLOATING, "target": (*LABELS, *FLOATING), "weight": FLOATING},
    promote=("input", "weight"),
    attributes={
        "ignore_index": lambda call, value: integer(call, "ignore_index", value),
        "reduction": reduction_value,
        "label_smoothing": _smoothing,
    },
    residuals=("normalizer",),
    autocast=Autocast.FULL,
    samples=_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.zeros((2, 3)), np.array([0, 3])),
        ErrorSample(IndexRangeError, np.zeros((2, 3)), np.array([-1, 0]), np.ones(3), reduction="none"),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.arange(3)),
        ErrorSample(ShapeError, np.zeros((2, 0)), np.zeros(2, np.int64)),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.arange(2), np.ones(2)),
        ErrorSample(ArgumentError, np.zeros((2, 3)), np.arange(2), reduction="average"),
        ErrorSample(ArgumentError, np.zeros((2, 3)), np.arange(2), label_smoothing=1.5),
    ),
)
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    residuals: bool = False,
) -> Tensor:
    """Cross-entropy of ``softmax(input)`` with ``target``: ``-sum(weight * q * log(softmax(input)))`` over the classes.

    For labels, ``q`` is 1 at the label. Smoothing makes it ``(1 - label_smoothing) * q + label_smoothing / C``. With
    labels, the first part is weighted by the weight of the label.

    Args:
        input: scores (N, C, ...), or (C,) for one example; floating.
        target: labels (N, ...) or (), int32 or int64, in [0, C) or ``ignore_index``; or probabilities of the shape
            of ``input``, floating.
        weight: of each class, (C,), promoted with ``input``, or None.
        ignore_index: the label of what does not count; labels alone.
        reduction: ``"sum"``; ``"mean"``: the sum over the sum of the weights of the labels that count, or over the
            number of distributions; or ``"none"``.
        label_smoothing: the share of probability that is spread evenly over all classes, in [0, 1].
        residuals: also give the logarithm of the sum of exponentials of each row; set where the call is recorded.

    Returns:
        A 0-d tensor, or one loss for each label, 0 for one that does not count. The mean over nothing that counts is
        NaN, and its gradient 0.

    Raises:
        ShapeError: if the shapes do not fit, or there are no classes.
        ArgumentError: if there is no such reduction, or ``label_smoothing`` is outside [0, 1].
        IndexRangeError: if a label is neither in [0, C) nor ``ignore_index``.

    Source: the formulas of PyTorch's `cross_entropy`; smoothing: Szegedy et al., "Rethinking the inception
    architecture" (2015).
    """
    x, axis = widen(input), class_axis(input.spec)
    normalizer = logsumexp(x, axis=axis)
    surprise = expand_dims(normalizer, axis=axis) - x
    if target.spec.dtype in LABELS:
        valid, labels = _labels(target, ignore_index, input.spec)
        picked = take_along_axis(surprise, expand_dims(labels, axis=axis), axis=axis)
        loss = reshape(picked, labels.spec.shape)
        if weight is not None:
            loss = loss * take(weight, labels, axis=0)
        if label_smoothing:
            even = sum(_scaled(surprise, weight, axis), axis=axis) * (label_smoothing / x.shape[axis])
            loss = loss * (1 - label_smoothing) + even
        loss = where(valid, loss, 0.0)
    else:
        shares = _smoothed(target, label_smoothing, axis)
        loss = sum(_scaled(surprise, weight, axis) * shares, axis=axis)
    if reduction == "mean":
        loss = sum(loss) / _counted(loss, target, weight, ignore_index, input.spec)
    elif reduction == "sum":
        loss = sum(loss)
    out = loss.astype(input.spec.dtype)
    return (out, normalizer) if residuals else out  # type: ignore[return-value]


def _labels(target: Tensor, ignore_index: int, x: Spec) -> tuple[Tensor, Tensor]:
    """Which labels count, and the labels, 0 for those that do not. What is negative stays out of range."""
    valid = not_equal(target, ignore_index)
    labels = where(less(target, 0), x.shape[class_axis(x)], target)
    return valid, where(valid, labels, 0)


def _scaled(x: Tensor, weight: Tensor | None, axis: int) -> Tensor:
    """``x`` times the weight of each class."""
    return x if weight is None else x * _of_classes(weight, x.spec, axis)


def _of_classes(values: Tensor, x: Spec, axis: int) -> Tensor:
    """One value per class, as it broadcasts to the scores."""
    return reshape(values, (-1, *(1,) * (x.ndim - axis - 1)))


def _smoothed(target: Tensor, label_smoothing: float, axis: int) -> Tensor:
    target = widen(target)
    if not label_smoothing:
        return target
    return target * (1 - label_smoothing) + label_smoothing / target.shape[axis]


def _counted(
    like: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, x: Spec
) -> Tensor | float:
    """What a mean divides by."""
    if target.spec.dtype not in LABELS:
        return float(x.size // x.shape[class_axis(x)]) or math.nan
    valid, labels = _labels(target, ignore_index, x)
    own = 1.0 if weight is None else take(widen(weight), labels, axis=0)
    return sum(where(valid, own, 0.0).astype(like.spec.dtype))


def _each(
    ct: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, x: Spec
) -> Tensor:
    """The cotangent of the loss of each row, from that of the loss; 0 for a label that does not count."""
    ct = widen(ct)
    if target.spec.dtype not in LABELS:
        return ct / _counted(ct, target, weight, ignore_index, x) if reduction == "mean" else ct
    if reduction == "mean":
        counted = _counted(ct, target, weight, ignore_index, x)
        nothing = equal(counted, 0)
        ct = where(nothing, 0.0, ct / where(nothing, 1.0, counted))
    return where(not_equal(target, ignore_index), ct, 0.0)


def _log_shares(input: Tensor, target: Tensor, normalizer: Tensor, ignore_index: int) -> Tensor:
    """The logarithm of softmax; 0 in the rows that do not count, whose scores may be NaN or infinite."""
    axis = class_axis(input.spec)
    logs = widen(input) - expand_dims(normalizer, axis=axis)
    if target.spec.dtype not in LABELS:
        return logs
    return where(expand_dims(not_equal(target, ignore_index), axis=axis), logs, 0.0)


def _hot(labels: Tensor, x: Spec) -> Tensor:
    """Whether each class is the label."""
    axis = class_axis(x)
    classes = _of_classes(iota(x.shape[axis], dtype=labels.spec.dtype, device=x.device), x, axis)
    return equal(expand_dims(labels, axis=axis), classes)


@cross_entropy.defvjp("input")
def _(
    ct: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    normalizer: Tensor,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    spec, axis = input.spec, class_axis(input.spec)
    each = _each(ct, target, weight, ignore_index, reduction, spec)
    each = expand_dims(each, axis=axis) if each.ndim else each
    shares = exp(_log_shares(input, target, normalizer, ignore_index))
    if target.spec.dtype in LABELS:
        hot = _hot(_labels(target, ignore_index, spec)[1], spec).astype(shares.spec.dtype)
        wanted = _scaled(hot * (1 - label_smoothing) + label_smoothing / spec.shape[axis], weight, axis)
    else:
        wanted = _scaled(_smoothed(target, label_smoothing, axis), weight, axis)
    return (shares * sum(wanted, axis=axis, keepdims=True) - wanted) * each


@cross_entropy.defvjp("target")
def _(
    ct: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    normalizer: Tensor,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    axis = class_axis(input.spec)
    each = _each(ct, target, weight, ignore_index, reduction, input.spec) * (1 - label_smoothing)
    surprise = -_log_shares(input, target, normalizer, ignore_index)
    return _scaled(surprise, weight, axis) * (expand_dims(each, axis=axis) if each.ndim else each)


@cross_entropy.defvjp("weight")
def _(
    ct: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    normalizer: Tensor,
    out: Tensor,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    spec, axis = input.spec, class_axis(input.spec)
    rest = tuple(i for i in range(spec.ndim) if i != axis)
    each = _each(ct, target, weight, ignore_index, reduction, spec)
    each = expand_dims(each, axis=axis) if each.ndim else each
    surprise = -_log_shares(input, target, normalizer, ignore_index)
    if target.spec.dtype not in LABELS:
        return sum(surprise * _smoothed(target, label_smoothing, axis) * each, axis=rest)
    hot = _hot(_labels(target, ignore_index, spec)[1], spec)
    terms = where(hot, surprise, 0.0) * (1 - label_smoothing)
    if label_smoothing:
        terms = terms + surprise * (label_smoothing / spec.shape[axis])
    if reduction == "mean":
        # NaN is the mean over nothing, and then `each` is 0.
        nothing = equal(_counted(ct, target, weight, ignore_index, spec), 0)
        terms = terms - where(hot, where(nothing, 0.0, widen(out)), 0.0)
    return sum(terms * each, axis=rest)


__all__ = ["cross_entropy"]
