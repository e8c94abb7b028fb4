"""Oracles of the updates of optimizers. ``lr`` and ``step``, the number of the update from 1, are 0-d arrays."""

from __future__ import annotations

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle


@oracle("sgd_update")
@np.errstate(all="ignore")
def _sgd_update(param: Array, grad: Array, lr: Array, *, weight_decay: float) -> Array:
    return np.asarray(param - lr * _decayed(param, grad, weight_decay))


def _decayed(param: Array, grad: Array, weight_decay: float) -> Array:
    """The gradient with that of ``weight_decay / 2`` times the squared norm; infinities take no part in a decay of 0."""
    return grad + weight_decay * param if weight_decay else grad


@oracle("sgd_momentum_update")
@np.errstate(all="ignore")
def _sgd_momentum_update(
    param: Array,
    grad: Array,
    velocity: Array,
    step: Array,
    lr: Array,
    *,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> tuple[Array, Array]:
    grad = _decayed(param, grad, weight_decay)
    share = 1.0 if step == 1 else 1 - dampening
    velocity = np.asarray(momentum * velocity + share * grad)
    direction = grad + momentum * velocity if nesterov else velocity
    return np.asarray(param - lr * direction), velocity


@oracle("adam_update")
@np.errstate(all="ignore")
def _adam_update(
    param: Array,
    grad: Array,
    mean: Array,
    square: Array,
    step: Array,
    lr: Array,
    *,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> tuple[Array, Array, Array]:
    if decoupled:
        param = param - lr * weight_decay * param
    else:
        grad = _decayed(param, grad, weight_decay)
    mean = np.asarray(beta1 * mean + (1 - beta1) * grad)
    square = np.asarray(beta2 * square + (1 - beta2) * grad * grad)
    unbiased_mean = mean / _left(beta1, step)
    unbiased_square = square / _left(beta2, step)
    return np.asarray(param - lr * unbiased_mean / (np.sqrt(unbiased_square) + eps)), mean, square


def _left(beta: float, step: Array) -> Array:
    """``1 - beta ** step``, without cancellation; 1 for a ``beta`` of 0."""
    return np.asarray(-np.expm1(step * np.log(np.float64(beta))))


@oracle("rmsprop_update")
@np.errstate(all="ignore")
def _rmsprop_update(
    param: Array,
    grad: Array,
    square: Array,
    mean: Array,
    velocity: Array,
    lr: Array,
    *,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
) -> tuple[Array, Array, Array, Array]:
    grad = _decayed(param, grad, weight_decay)
    square = np.asarray(alpha * square + (1 - alpha) * grad * grad)
    spread = square
    if centered:
        mean = np.asarray(alpha * mean + (1 - alpha) * grad)
        spread = square - mean * mean
    direction = grad / (np.sqrt(spread) + eps)
    if momentum:
        direction = velocity = np.asarray(momentum * velocity + direction)
    return np.asarray(param - lr * direction), square, mean, velocity


@oracle("adagrad_update")
@np.errstate(all="ignore")
def _adagrad_update(
    param: Array,
    grad: Array,
    total: Array,
    step: Array,
    lr: Array,
    *,
    lr_decay: float,
    eps: float,
    weight_decay: float,
) -> tuple[Array, Array]:
    grad = _decayed(param, grad, weight_decay)
    total = np.asarray(total + grad * grad)
    rate = lr / (1 + (step - 1) * lr_decay)
    return np.asarray(param - rate * grad / (np.sqrt(total) + eps)), total
