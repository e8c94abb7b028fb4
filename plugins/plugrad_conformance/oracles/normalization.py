"""Oracles of normalization: over the last axes, over groups of channels, and over a batch."""

from __future__ import annotations

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle


def _affine(x: Array, weight: Array | None, bias: Array | None) -> Array:
    """``x * weight + bias``, without what is None."""
    scaled = x if weight is None else x * weight
    return np.asarray(scaled if bias is None else scaled + bias)


def _by_channel(x: Array, weight: Array | None, bias: Array | None) -> Array:
    """As `_affine` of (N, C, ...), with one weight and one bias for each channel."""
    shape = (-1, *(1,) * (x.ndim - 2))
    return _affine(
        x, None if weight is None else weight.reshape(shape), None if bias is None else bias.reshape(shape)
    )


def _normal(x: Array, axis: tuple[int, ...], eps: float) -> Array:
    """``x`` with mean 0 and variance 1 over ``axis``, but for ``eps``."""
    centred = x - np.mean(x, axis=axis, keepdims=True)
    variance = np.mean(centred * centred, axis=axis, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + eps))


def _last(x: Array, normalized_shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(x.ndim - len(normalized_shape), x.ndim))


@oracle("layer_norm")
@np.errstate(all="ignore")
def _layer_norm(
    x: Array, weight: Array | None, bias: Array | None, *, normalized_shape: tuple[int, ...], eps: float
) -> Array:
    return _affine(_normal(x, _last(x, normalized_shape), eps), weight, bias)


@oracle("rms_norm")
@np.errstate(all="ignore")
def _rms_norm(x: Array, weight: Array | None, *, normalized_shape: tuple[int, ...], eps: float) -> Array:
    square = np.mean(x * x, axis=_last(x, normalized_shape), keepdims=True)
    return _affine(x / np.sqrt(square + eps), weight, None)


@oracle("group_norm")
@np.errstate(all="ignore")
def _group_norm(x: Array, weight: Array | None, bias: Array | None, *, num_groups: int, eps: float) -> Array:
    channels, *space = x.shape[1:]
    grouped = x.reshape(x.shape[0], num_groups, channels // num_groups, *space)
    normal = _normal(grouped, tuple(range(2, grouped.ndim)), eps).reshape(x.shape)
    return _by_channel(normal, weight, bias)


@oracle("batch_norm_training")
@np.errstate(all="ignore")
def _batch_norm_training(
    x: Array, weight: Array | None, bias: Array | None, *, eps: float
) -> tuple[Array, Array, Array]:
    axis = (0, *range(2, x.ndim))
    normal = _normal(x, axis, eps)
    out = _by_channel(normal, weight, bias)
    return out, np.asarray(np.mean(x, axis=axis)), np.asarray(np.var(x, axis=axis, ddof=1))


@oracle("batch_norm_inference")
@np.errstate(all="ignore")
def _batch_norm_inference(
    x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, *, eps: float
) -> Array:
    channels = (-1, *(1,) * (x.ndim - 2))
    normal = (x - mean.reshape(channels)) / np.sqrt(var.reshape(channels) + eps)
    return _by_channel(normal, weight, bias)
