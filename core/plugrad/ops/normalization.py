"""Normalization: over the last axes, and over groups of channels. That over a batch stands beside.

Signatures and meaning are PyTorch's; arrays are (N, C, spatial ...). Statistics of 16-bit floats are float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.dispatch.factors import SUM, Factor, aligned
from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import FLOATING, finfo
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops._rules import integer, size, widened
from plugrad.ops.broadcasting import sum
from plugrad.ops.casting import widen
from plugrad.ops.movement import reshape
from plugrad.ops.reduction import mean
from plugrad.ops.transcendental import sqrt
from plugrad.spec import Shape, Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

AFFINE: Final = ("x", "weight", "bias")


def eps_value(call: Any, value: Any) -> float:
    """What keeps a divisor from 0: a number that is at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ArgumentError(f"{call.op.name}: eps takes a number that is at least 0, got {value!r}")
    return float(value)


def _eps_or_none(call: Any, value: Any) -> float:
    return finfo(widened(call.x.dtype)).eps if value is None else eps_value(call, value)


def _last_axes(call: Any, value: Any) -> Shape:
    given = value if isinstance(value, (tuple, list)) else (value,)
    shape = tuple(integer(call, "normalized_shape", v) for v in given)
    x: Spec = call.x
    if not shape or x.shape[x.ndim - len(shape) :] != shape:
        raise ShapeError(
            f"{call.op.name}: normalized_shape {shape} for x of shape {x.shape}; takes the sizes of its last axes"
        )
    if not size(shape):
        raise ShapeError(f"{call.op.name}: normalized_shape {shape} is empty, and has no mean")
    return shape


def check_affine(call: Any, shape: Shape, what: str) -> None:
    """Raise unless weight and bias, where there are any, have ``shape``."""
    for name in ("weight", "bias"):
        spec = getattr(call, name, None) if name in call.__dict__ else None
        if spec is not None and spec.shape != shape:
            raise ShapeError(f"{call.op.name}: {name} has shape {spec.shape}; takes {shape}, {what}")


def statistics(spec: Spec, shape: Shape) -> Spec:
    """Statistics of ``shape`` of a value of ``spec``."""
    return Spec(shape, widened(spec.dtype), spec.device)


def _axes(x: Spec, shape: Shape) -> tuple[int, ...]:
    """The last axes, those of ``shape``."""
    return tuple(range(x.ndim - len(shape), x.ndim))


def _reciprocal_deviation(centred: Tensor, axis: int | tuple[int, ...], eps: float) -> Tensor:
    return 1.0 / sqrt(mean(centred * centred, axis=axis, keepdims=True) + eps)


def _normalized_over_last(call: Any) -> Any:
    x: Spec = call.x
    count = len(call.normalized_shape)
    check_affine(call, call.normalized_shape, "normalized_shape")
    rows = statistics(x, (*x.shape[: x.ndim - count], *(1,) * count))
    return (x, *(rows for _ in call.op.residuals)) if call.residuals else x


def _layer_samples(rng: np.random.Generator) -> list[Sample]:
    n = rng.standard_normal
    return [
        Sample(n((3, 5)), n(5), n(5), normalized_shape=5),
        Sample(n((2, 3, 4)), n((3, 4)), n((3, 4)), normalized_shape=(3, 4), eps=0.1),
        Sample(n((2, 3, 4)), None, None, normalized_shape=(4,)),
        Sample(n((3, 4)), n(4), None, normalized_shape=(4,)),
        Sample(n((3, 4)), None, n(4), normalized_shape=(4,)),
        Sample(n(6), n(6), n(6), normalized_shape=(6,)),
        Sample(n((0, 4)), n(4), n(4), normalized_shape=(4,)),
    ]


def _leading(call: Any) -> range:
    return range(call.x.ndim - len(call.normalized_shape))


def _images(call: Any) -> range:
    del call
    return range(1)


_rows: Final = aligned("x", within=_leading)


def _summed(call: Any, rows: Iterable[Factor]) -> Iterable[Factor]:
    """Of the cotangents, those of weight and bias are sums over the rows."""
    for row in rows:
        yield Factor(row.axes, tuple(row.axes["x"] if n == "x" else SUM for n in call.wrt))


def _row_rule(call: Any, results: Any) -> Iterable[Factor]:
    names = ("x", "ct", "rstd", *(n for n in ("mean",) if hasattr(call, n)))
    return _summed(call, aligned(*names, within=_leading)(call, results))


def _image_rule(call: Any, results: Any) -> Iterable[Factor]:
    return _summed(call, aligned("x", "ct", "mean", "rstd", within=_images)(call, results))


@op(
    kind=Kind.OTHER,
    infer=_normalized_over_last,
    dtypes=FLOATING,
    promote=AFFINE,
    attributes={"normalized_shape": _last_axes, "eps": eps_value},
    residuals=("mean", "rstd"),
    factors=_rows,
    autocast=Autocast.FULL,
    samples=_layer_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), normalized_shape=2),
        ErrorSample(ShapeError, np.zeros((2, 3)), normalized_shape=()),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.ones(2), normalized_shape=3),
        ErrorSample(ArgumentError, np.zeros((2, 3)), normalized_shape=3, eps=-1e-5),
    ),
)
def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    residuals: bool = False,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, mean and biased variance over the last axes.

    Args:
        x: (..., *normalized_shape), floating.
        normalized_shape: the sizes of the axes normalized over.
        weight: of ``normalized_shape``, promoted with ``x``, or None.
        bias: as ``weight``.
        eps: keeps the divisor from 0.
        residuals: also give the mean and the reciprocal deviation of each row; set where the call is recorded.

    Returns:
        As ``x``.

    Raises:
        ShapeError: if ``normalized_shape`` is empty or not the end of the shape of ``x``, or weight or bias differ.
        ArgumentError: if ``eps`` is negative.

    Source: Ba, Kiros, Hinton, "Layer normalization" (2016).
    """
    assert isinstance(normalized_shape, tuple)
    axis = _axes(x.spec, normalized_shape)
    wide = widen(x)
    centre = mean(wide, axis=axis, keepdims=True)
    centred = wide - centre
    rstd = _reciprocal_deviation(centred, axis, eps)
    out = affine(centred * rstd, weight, bias).astype(x.spec.dtype)
    return (out, centre, rstd) if residuals else out  # type: ignore[return-value]


def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """``x * weight + bias``, without what is None."""
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


@layer_norm.defvjp(factors=_row_rule)
def _(
    ct: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    *,
    normalized_shape: Shape,
    wrt: tuple[str, ...],
) -> Any:
    axis = _axes(x.spec, normalized_shape)
    ct = widen(ct)
    normal = (widen(x) - mean) * rstd
    return _pulled(ct, normal, weight, rstd, axis, tuple(range(x.ndim - len(axis))), wrt)


def _pulled(
    ct: Tensor,
    normal: Tensor,
    weight: Tensor | None,
    rstd: Tensor,
    axis: tuple[int, ...],
    rest: tuple[int, ...],
    wrt: tuple[str, ...],
    *,
    centred: bool = True,
) -> tuple[Tensor, ...]:
    """The cotangents of x, weight and bias in ``wrt``, where ``normal`` is x normalized over ``axis``."""
    out = []
    for name in wrt:
        if name == "x":
            inner = ct if weight is None else ct * weight
            along = inner - normal * mean(inner * normal, axis=axis, keepdims=True)
            if centred:
                along = along - mean(inner, axis=axis, keepdims=True)
            out.append(along * rstd)
        else:
            out.append(sum(ct * normal if name == "weight" else ct, axis=rest))
    return tuple(out)


def _rms_samples(rng: np.random.Generator) -> list[Sample]:
    n = rng.standard_normal
    return [
        Sample(n((3, 5)), n(5), normalized_shape=5),
        Sample(n((2, 3, 4)), n((3, 4)), normalized_shape=(3, 4), eps=0.1),
        Sample(n((2, 3, 4)), None, normalized_shape=(4,)),
        Sample(n(6), n(6), normalized_shape=(6,), eps=1e-6),
        Sample(n((0, 4)), n(4), normalized_shape=(4,)),
    ]


@op(
    kind=Kind.OTHER,
    infer=_normalized_over_last,
    dtypes=FLOATING,
    promote=("x", "weight"),
    attributes={"normalized_shape": _last_axes, "eps": _eps_or_none},
    residuals=("rstd",),
    factors=_rows,
    autocast=Autocast.FULL,
    samples=_rms_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), normalized_shape=2),
        ErrorSample(ShapeError, np.zeros((2, 0)), normalized_shape=0),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.ones(2), normalized_shape=3),
        ErrorSample(ArgumentError, np.zeros((2, 3)), normalized_shape=3, eps=-1e-5),
    ),
)
def rms_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    *,
    eps: float | None = None,
    residuals: bool = False,
) -> Tensor:
    """``x / sqrt(mean(x * x) + eps) * weight``, the mean over the last axes.

    Args:
        x: (..., *normalized_shape), floating.
        normalized_shape: the sizes of the axes normalized over.
        weight: of ``normalized_shape``, promoted with ``x``, or None.
        eps: keeps the divisor from 0; by default the machine epsilon of the promoted dtype, of float32 for 16 bits.
        residuals: also give the reciprocal root of each row; set where the call is recorded.

    Returns:
        As ``x``.

    Raises:
        ShapeError: if ``normalized_shape`` is empty or not the end of the shape of ``x``, or weight differs.
        ArgumentError: if ``eps`` is negative.

    Source: Zhang, Sennrich, "Root mean square layer normalization" (2019).
    """
    assert isinstance(normalized_shape, tuple)
    assert eps is not None
    wide = widen(x)
    rstd = _reciprocal_deviation(wide, _axes(x.spec, normalized_shape), eps)
    out = affine(wide * rstd, weight, None).astype(x.spec.dtype)
    return (out, rstd) if residuals else out  # type: ignore[return-value]


@rms_norm.defvjp(factors=_row_rule)
def _(
    ct: Tensor,
    x: Tensor,
    weight: Tensor | None,
    rstd: Tensor,
    *,
    normalized_shape: Shape,
    wrt: tuple[str, ...],
) -> Any:
    axis = _axes(x.spec, normalized_shape)
    rest = tuple(range(x.ndim - len(axis)))
    return _pulled(widen(ct), widen(x) * rstd, weight, rstd, axis, rest, wrt, centred=False)


def _groups(call: Any, value: Any) -> int:
    groups = integer(call, "num_groups", value)
    x: Spec = call.x
    if x.ndim < 2:
        raise ShapeError(f"{call.op.name}: x has shape {x.shape}; takes (N, C, ...)")
    if groups < 1 or x.shape[1] % groups:
        raise ArgumentError(
            f"{call.op.name}: num_groups {groups} for {x.shape[1]} channels; takes a divisor of that"
        )
    if not size(x.shape[1:]):
        raise ShapeError(f"{call.op.name}: a group of x of shape {x.shape} is empty, and has no mean")
    return groups


def _normalized_over_groups(call: Any) -> Any:
    x: Spec = call.x
    check_affine(call, x.shape[1:2], "one element per channel")
    groups = statistics(x, (x.shape[0], call.num_groups))
    return (x, groups, groups) if call.residuals else x


def _group_samples(rng: np.random.Generator) -> list[Sample]:
    n = rng.standard_normal
    return [
        Sample(n((2, 4, 3)), n(4), n(4), num_groups=2),
        Sample(n((2, 4, 2, 3)), n(4), n(4), num_groups=1, eps=0.1),
        Sample(n((2, 3, 4, 2)), None, None, num_groups=3),
        Sample(n((2, 6)), n(6), None, num_groups=2),
        Sample(n((2, 4, 3)), None, n(4), num_groups=2),
        Sample(n((0, 4, 3)), n(4), n(4), num_groups=2),
    ]


@op(
    kind=Kind.OTHER,
    infer=_normalized_over_groups,
    dtypes=FLOATING,
    promote=AFFINE,
    attributes={"num_groups": _groups, "eps": eps_value},
    residuals=("mean", "rstd"),
    factors=aligned("x", within=_images),
    autocast=Autocast.FULL,
    samples=_group_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros(4), num_groups=2),
        ErrorSample(ShapeError, np.zeros((2, 4)), np.ones(3), num_groups=2),
        ErrorSample(ArgumentError, np.zeros((2, 4)), num_groups=3),
        ErrorSample(ArgumentError, np.zeros((2, 4)), num_groups=2, eps=-1e-5),
    ),
)
def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    residuals: bool = False,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, mean and biased variance over each group of channels.

    Args:
        x: (N, C, ...), floating. Each of the N is normalized on its own.
        num_groups: divides C; a group is C / num_groups neighbouring channels. C groups: instance norm.
        weight: (C,), promoted with ``x``, or None.
        bias: as ``weight``.
        eps: keeps the divisor from 0.
        residuals: also give the mean and the reciprocal deviation of each group, (N, num_groups); set where the call is recorded.

    Returns:
        As ``x``.

    Raises:
        ShapeError: if ``x`` has fewer than 2 axes or empty groups, or weight or bias differ from (C,).
        ArgumentError: if ``num_groups`` does not divide C, or ``eps`` is negative.

    Source: Wu, He, "Group normalization" (2018).
    """
    shape = x.spec.shape
    rows = reshape(widen(x), (shape[0], num_groups, size(shape[1:]) // num_groups))
    centre = mean(rows, axis=-1, keepdims=True)
    centred = rows - centre
    rstd = _reciprocal_deviation(centred, -1, eps)
    normal = reshape(centred * rstd, shape)
    out = affine(normal, per_channel(weight, x.spec), per_channel(bias, x.spec)).astype(x.spec.dtype)
    if residuals:
        flat = (shape[0], num_groups)
        return out, reshape(centre, flat), reshape(rstd, flat)  # type: ignore[return-value]
    return out


def per_channel(x: Tensor | None, like: Spec) -> Any:
    """One element per channel, as it broadcasts to (N, C, ...)."""
    return None if x is None else reshape(x, (-1, *(1,) * (like.ndim - 2)))


def all_but_channels(x: Spec) -> tuple[int, ...]:
    """Every axis but that of the channels."""
    return (0, *range(2, x.ndim))


@group_norm.defvjp(factors=_image_rule)
def _(
    ct: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    *,
    num_groups: int,
    wrt: tuple[str, ...],
) -> Any:
    shape = x.spec.shape
    grouped = (shape[0], num_groups, size(shape[1:]) // num_groups)
    each = (shape[0], num_groups, 1)
    rstd = reshape(rstd, each)
    normal = (reshape(widen(x), grouped) - reshape(mean, each)) * rstd
    ct = widen(ct)
    out = []
    for name in wrt:
        if name == "x":
            inner = reshape(affine(ct, per_channel(weight, x.spec), None), grouped)
            (pulled,) = _pulled(inner, normal, None, rstd, (2,), (), ("x",))
            out.append(reshape(pulled, shape))
        else:
            summed = ct * reshape(normal, shape) if name == "weight" else ct
            out.append(sum(summed, axis=all_but_channels(x.spec)))
    return tuple(out)


__all__ = ["group_norm", "layer_norm", "rms_norm"]
