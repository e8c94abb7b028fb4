"""Oracles of the losses of numbers, and of cross-entropy."""

from __future__ import annotations

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle
from plugrad_conformance.oracles.softmax import logsumexp


def _reduced(loss: Array, reduction: str) -> Array:
    """The loss of all from that of each; the mean of none is NaN."""
    if reduction == "none":
        return np.asarray(loss)
    total = np.sum(loss)
    return np.asarray(total / np.float64(loss.size) if reduction == "mean" else total)


@oracle("mse_loss")
@np.errstate(all="ignore")
def _mse_loss(input: Array, target: Array, *, reduction: str) -> Array:
    return _reduced(np.square(input - target), reduction)


@oracle("l1_loss")
@np.errstate(all="ignore")
def _l1_loss(input: Array, target: Array, *, reduction: str) -> Array:
    return _reduced(np.abs(input - target), reduction)


@oracle("huber_loss")
@np.errstate(all="ignore")
def _huber_loss(input: Array, target: Array, *, reduction: str, delta: float) -> Array:
    error = np.abs(input - target)
    return _reduced(np.where(error <= delta, 0.5 * error * error, delta * (error - 0.5 * delta)), reduction)


@oracle("binary_cross_entropy_with_logits")
@np.errstate(all="ignore")
def _binary_cross_entropy_with_logits(
    input: Array, target: Array, weight: Array | None, pos_weight: Array | None, *, reduction: str
) -> Array:
    # The logarithm of 1 + exp(x) is the surprise at 0, that of 1 + exp(-x) the one at 1.
    for_one = target * np.logaddexp(0.0, -input)
    for_zero = (1 - target) * np.logaddexp(0.0, input)
    loss = (for_one if pos_weight is None else pos_weight * for_one) + for_zero
    return _reduced(loss if weight is None else weight * loss, reduction)


@oracle("cross_entropy")
@np.errstate(all="ignore")
def _cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Array:
    axis = 0 if input.ndim == 1 else 1
    # Classes last, and one row for each distribution.
    surprise = np.moveaxis(logsumexp(input, axis=axis, keepdims=True) - input, axis, -1)
    space, classes = surprise.shape[:-1], surprise.shape[-1]
    surprise = surprise.reshape(-1, classes)
    weights = np.ones(classes) if weight is None else weight
    rows = np.arange(len(surprise))
    counted = np.ones(len(surprise))
    if target.dtype.kind == "i":
        labels = target.reshape(-1)
        counts = labels != ignore_index
        if np.any(labels[counts] < 0) or np.any(labels[counts] >= classes):
            raise IndexError(f"labels {labels} for {classes} classes and ignore_index {ignore_index}")
        labels = np.where(counts, labels, 0)
        loss = (1 - label_smoothing) * weights[labels] * surprise[rows, labels]
        if label_smoothing:
            loss = loss + label_smoothing / classes * np.sum(weights * surprise, axis=1)
        loss = np.where(counts, loss, 0.0)
        counted = np.where(counts, weights[labels], 0.0)
    else:
        shares = np.moveaxis(target, axis, -1).reshape(-1, classes)
        if label_smoothing:
            shares = (1 - label_smoothing) * shares + label_smoothing / classes
        loss = np.sum(weights * shares * surprise, axis=1)
    if reduction == "mean":
        return np.asarray(np.sum(loss) / np.sum(counted))
    return np.asarray(np.sum(loss) if reduction == "sum" else loss.reshape(space))
