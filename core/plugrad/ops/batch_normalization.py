"""Normalization over a batch, channel by channel: with the statistics of the batch, or with given ones.

Signatures and meaning are PyTorch's; arrays are (N, C, spatial ...). Statistics of 16-bit floats are float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dispatch.modes import changed
from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import FLOATING
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops.broadcasting import sum
from plugrad.ops.casting import widen
from plugrad.ops.movement import reshape
from plugrad.ops.normalization import (
    AFFINE,
    affine,
    all_but_channels,
    check_affine,
    eps_value,
    per_channel,
    statistics,
)
from plugrad.ops.reduction import mean
from plugrad.ops.transcendental import sqrt
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _batch(call: Any) -> Any:
    x: Spec = call.x
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: x has shape {x.shape}; takes (N, C, ...)")
    check_affine(call, x.shape[1:2], "one element per channel")
    if x.size < 2 * max(1, x.shape[1]):
        raise ShapeError(
            f"batch_norm: x of shape {x.shape} has fewer than 2 values per channel, which have no variance; "
            "train on larger batches, or normalize with training=False"
        )
    channels = statistics(x, x.shape[1:2])
    return x, channels, channels


def _batch_samples(rng: np.random.Generator) -> list[Sample]:
    n = rng.standard_normal
    return [
        Sample(n((4, 3)), n(3), n(3)),
        Sample(n((2, 3, 4)), n(3), n(3), eps=0.1),
        Sample(n((2, 3, 2, 3)), None, None),
        Sample(n((1, 2, 2, 1, 2)), n(2), None),
        Sample(n((3, 2, 2)), None, n(2)),
    ]


@op(
    kind=Kind.OTHER,
    infer=_batch,
    dtypes=FLOATING,
    promote=AFFINE,
    attributes={"eps": eps_value},
    outputs=("out", "mean", "var"),
    autocast=Autocast.FULL,
    samples=_batch_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros(3)),
        ErrorSample(ShapeError, np.zeros((1, 3))),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros(2)),
        ErrorSample(ArgumentError, np.zeros((2, 3)), eps=-1e-5),
    ),
)
def batch_norm_training(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """``(x - mean) / sqrt(biased variance + eps) * weight + bias``, and the statistics, over all but the channels.

    Args:
        x: (N, C, ...), floating, of at least 2 values per channel.
        weight: (C,), promoted with ``x``, or None.
        bias: as ``weight``.
        eps: keeps the divisor from 0.

    Returns:
        As ``x``; the mean of each channel, (C,); its unbiased variance, (C,), that running statistics are made of.
        All three carry gradients. The statistics of 16-bit floats are float32.

    Raises:
        ShapeError: if ``x`` has fewer than 2 axes or 2 values per channel, or weight or bias differ from (C,).
        ArgumentError: if ``eps`` is negative.

    Source: Ioffe, Szegedy, "Batch normalization" (2015).
    """
    axis = all_but_channels(x.spec)
    degrees = x.spec.size // x.spec.shape[1] - 1
    wide = widen(x)
    centre = mean(wide, axis=axis, keepdims=True)
    centred = wide - centre
    squares = sum(centred * centred, axis=axis, keepdims=True)
    normal = centred / sqrt(squares * (1 / (degrees + 1)) + eps)
    out = affine(normal, per_channel(weight, x.spec), per_channel(bias, x.spec)).astype(x.spec.dtype)
    return out, reshape(centre, -1), reshape(squares, -1) / degrees


@batch_norm_training.defvjp()
def _(
    ct_out: Tensor,
    ct_mean: Tensor,
    ct_var: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    var: Tensor,
    *,
    eps: float,
    wrt: tuple[str, ...],
) -> Any:
    axis = all_but_channels(x.spec)
    count = x.spec.size // x.spec.shape[1]
    rstd = per_channel(1.0 / sqrt(var * ((count - 1) / count) + eps), x.spec)
    centred = widen(x) - per_channel(mean, x.spec)
    normal = centred * rstd
    ct = widen(ct_out)
    total = sum(ct, axis=axis)
    along = sum(ct * normal, axis=axis)
    out = []
    for name in wrt:
        if name == "x":
            spread = ct - per_channel(total / count, x.spec) - normal * per_channel(along / count, x.spec)
            through = affine(spread * rstd, per_channel(weight, x.spec), None)
            moments = per_channel(ct_mean / count, x.spec) + centred * per_channel(
                ct_var * (2 / (count - 1)), x.spec
            )
            out.append(through + moments)
        else:
            out.append(along if name == "weight" else total)
    return tuple(out)


def _batch_inference(call: Any) -> Spec:
    x: Spec = call.x
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: x has shape {x.shape}; takes (N, C, ...)")
    check_affine(call, x.shape[1:2], "one element per channel")
    for name in ("mean", "var"):
        shape = getattr(call, name).shape
        if shape != x.shape[1:2]:
            raise ShapeError(
                f"batch_norm: the running {name} has shape {shape}; takes {x.shape[1:2]}, one per channel"
            )
    return x


def _inference_samples(rng: np.random.Generator) -> list[Sample]:
    n, u = rng.standard_normal, rng.uniform
    return [
        Sample(n((4, 3)), n(3), u(0.5, 2, 3), n(3), n(3)),
        Sample(n((2, 3, 2, 3)), n(3), u(0.5, 2, 3), None, None, eps=0.1),
        Sample(n((1, 2, 3)), n(2), u(0.5, 2, 2), n(2), None),
        Sample(n((1, 2)), n(2), u(0.5, 2, 2), None, n(2)),
        Sample(n((0, 2, 3)), n(2), u(0.5, 2, 2), n(2), n(2)),
    ]


@op(
    kind=Kind.OTHER,
    infer=_batch_inference,
    dtypes=FLOATING,
    promote=AFFINE,
    attributes={"eps": eps_value},
    autocast=Autocast.FULL,
    samples=_inference_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros(3), np.zeros(3), np.ones(3)),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros(3), np.ones(2)),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros(3), np.ones(3), None, np.zeros((3, 1))),
        ErrorSample(ArgumentError, np.zeros((2, 3)), np.zeros(3), np.ones(3), eps=-1e-5),
    ),
)
def batch_norm_inference(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` with the statistics of each channel given.

    Args:
        x: (N, C, ...), floating.
        mean: (C,), floating; takes no part in promotion.
        var: as ``mean``.
        weight: (C,), promoted with ``x``, or None.
        bias: as ``weight``.
        eps: keeps the divisor from 0.

    Returns:
        As ``x``.

    Raises:
        ShapeError: if ``x`` has fewer than 2 axes, or another operand differs from (C,).
        ArgumentError: if ``eps`` is negative.
    """
    rstd = 1.0 / sqrt(widen(var) + eps)
    scale = per_channel(rstd if weight is None else rstd * weight, x.spec)
    centred = widen(x) - per_channel(widen(mean), x.spec)
    return affine(centred * scale, None, per_channel(bias, x.spec)).astype(x.spec.dtype)


@batch_norm_inference.defvjp()
def _(
    ct: Tensor,
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    *,
    eps: float,
    wrt: tuple[str, ...],
) -> Any:
    axis = all_but_channels(x.spec)
    rstd = 1.0 / sqrt(widen(var) + eps)
    scale = rstd if weight is None else rstd * weight
    ct = widen(ct)
    total = sum(ct, axis=axis)
    along = sum(ct * (widen(x) - per_channel(widen(mean), x.spec)), axis=axis) * rstd
    found = {"mean": -scale * total, "var": -0.5 * scale * rstd * along, "weight": along, "bias": total}
    return tuple(ct * per_channel(scale, x.spec) if n == "x" else found[n] for n in wrt)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` for each channel, of the batch or of what it ran on so far.

    In training, mean and biased variance are those of the batch, and the running ones, where given, are bound to
    ``(1 - momentum) * running + momentum * batch``, with the unbiased variance of the batch. Else they are the
    running ones.

    Args:
        x: (N, C, ...), floating; in training of at least 2 values per channel.
        running_mean: (C,), or None in training.
        running_var: as ``running_mean``.
        weight: (C,), promoted with ``x``, or None.
        bias: as ``weight``.
        training: whether to take the statistics of the batch.
        momentum: the weight of the batch in the running statistics, in [0, 1]; or a 0-d tensor, for one that changes.
        eps: keeps the divisor from 0.

    Returns:
        As ``x``.

    Raises:
        ShapeError: if ``x`` has fewer than 2 axes or, in training, 2 values per channel, or another operand
            differs from (C,).
        ArgumentError: if running statistics are missing, ``eps`` is negative or ``momentum`` outside [0, 1].

    Source: Ioffe, Szegedy, "Batch normalization" (2015).
    """
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError("batch_norm: takes running_mean and running_var, unless training=True")
        return batch_norm_inference(x, running_mean, running_var, weight, bias, eps=eps)
    if isinstance(momentum, (int, float)) and not 0 <= momentum <= 1:
        raise ArgumentError(f"batch_norm: momentum {momentum} is outside [0, 1]")
    for name, running in (("mean", running_mean), ("var", running_var)):
        if running is not None and running.spec.shape != x.spec.shape[1:2]:
            raise ShapeError(
                f"batch_norm: the running {name} has shape {running.spec.shape}; takes {x.spec.shape[1:2]}, "
                "one per channel"
            )
    out, *batch = batch_norm_training(x, weight, bias, eps=eps)
    with changed(recording=False):
        for running, now in zip((running_mean, running_var), batch, strict=True):
            if running is not None:
                dtype = running.spec.dtype
                share = momentum if isinstance(momentum, (int, float)) else momentum.astype(dtype)
                running.assign(running * (1 - share) + now.astype(dtype) * share)
    return out


__all__ = ["batch_norm", "batch_norm_inference", "batch_norm_training"]
