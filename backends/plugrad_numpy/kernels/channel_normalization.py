"""Batch norm and group norm: channels scaled and shifted by statistics of theirs, in any layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from plugrad import ops
from plugrad.graph.ir import Graph
from plugrad_numpy.kernels._channels import Channels, merged
from plugrad_numpy.kernels._precision import given
from plugrad_numpy.kernels._rows import slots
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels._tail import same, tail_of

Array = Any


def _double(x: Array | None, otherwise: float) -> Any:
    return otherwise if x is None else np.asarray(x).astype(np.float64)


def _cast(x: Array, dtype: Any, into: Array | None) -> Array:
    return given(x.astype(dtype), into)


def _batch_norm_with_tail(graph: Graph) -> Callable[..., Any] | None:
    """Batch norm and what follows its result."""
    tail = tail_of(graph, same)
    if tail is None:
        return None

    @silent
    def kernel(
        x: Array, weight: Array | None, bias: Array | None, *others: Array, eps: float, into: Any = None
    ) -> Any:
        *places, mean, var = slots(into, tail.count + 2)
        channels = Channels(x, together=True)

        moments: list[Array] = []

        def normalized(place: Array, finish: Any) -> None:
            moments.extend(_batch_norm(channels, x, weight, bias, eps, (place, mean, var), finish)[1:])

        target = None if into is None else places[0] if tail.count == 1 else tuple(places)
        made = tail.run(normalized, others, target, channels)
        return (*(made if tail.count > 1 else (made,)), *moments)

    return kernel


@table(ops.batch_norm_training, epilogue=_batch_norm_with_tail)
@silent
def _(
    x: Array, weight: Array | None, bias: Array | None, *, eps: float, into: Any = None
) -> tuple[Array, Array, Array]:
    return _batch_norm(Channels(x, together=True), x, weight, bias, eps, slots(into, 3))


def _batch_norm(
    channels: Channels,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    where: Sequence[Array | None],
    finish: Callable[[slice, slice], None] | None = None,
) -> tuple[Array, Array, Array]:
    """The result, the means and the variances, to where there is a place for them."""
    view = channels.view(x)
    mean, squares, count = channels.moments(view)
    scale = _double(weight, 1) / np.sqrt(squares / count + eps)
    out = channels.combined([(view, scale)], _double(bias, 0) - mean * scale, where[0], finish)
    wide = channels.wide
    return out, _cast(mean, wide, where[1]), _cast(squares / (count - 1), wide, where[2])


@table(ops.batch_norm_training.vjp)
@silent
def _(
    ct: Array,
    ct_mean: Array,
    ct_var: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    var: Array,
    *,
    eps: float,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[Array, ...]:
    channels = Channels(x, together=True)
    count = x.size // x.shape[1]
    rstd = 1 / np.sqrt(_double(var, 0) * ((count - 1) / count) + eps)
    centre = _double(mean, 0)
    view, cts = channels.view(x), channels.view(ct)
    total, along = channels.sums(cts, view, mean)
    results = []
    for name, where in zip(wrt, slots(into, len(wrt)), strict=True):
        if name == "x":
            scale = rstd * _double(weight, 1)
            slope = _double(ct_var, 0) * (2 / (count - 1)) - scale * rstd * rstd * along / count
            shift = (_double(ct_mean, 0) - scale * total) / count - slope * centre
            results.append(channels.combined([(cts, scale), (view, slope)], shift, where))
        else:
            results.append(_cast(along * rstd if name == "weight" else total, x.dtype, where))
    return tuple(results)


@table(ops.batch_norm_inference)
@silent
def _(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    eps: float,
    into: Array | None = None,
) -> Array:
    channels = Channels(x, together=True)
    scale = _double(weight, 1) / np.sqrt(_double(var, 0) + eps)
    return channels.combined([(channels.view(x), scale)], _double(bias, 0) - _double(mean, 0) * scale, into)


@table(ops.batch_norm_inference.vjp)
@silent
def _(
    ct: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    *,
    eps: float,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[Array, ...]:
    channels = Channels(x, together=True)
    rstd = 1 / np.sqrt(_double(var, 0) + eps)
    scale = rstd * _double(weight, 1)
    cts = channels.view(ct)
    found: dict[str, Array] = {}
    if wrt != ("x",):
        centred = "var" in wrt or "weight" in wrt
        total, along = channels.sums(cts, channels.view(x) if centred else None, mean)
        along *= rstd
        found = {"mean": -scale * total, "var": -0.5 * scale * rstd * along, "weight": along, "bias": total}
    dtypes = {"mean": np.asarray(mean).dtype, "var": np.asarray(var).dtype}
    return tuple(
        channels.combined([(cts, scale)], None, where)
        if name == "x"
        else _cast(found[name], dtypes.get(name, x.dtype), where)
        for name, where in zip(wrt, slots(into, len(wrt)), strict=True)
    )


def _of_groups(x: Array, groups: int) -> Array:
    """One value per channel from one per group, (N, groups)."""
    return np.repeat(x, groups, axis=1)


@table(ops.group_norm)
@silent
def _(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    num_groups: int,
    eps: float,
    residuals: bool,
    into: Any = None,
) -> Any:
    where = slots(into, 3 if residuals else 1)
    channels = Channels(x, together=False)
    view = channels.view(x)
    mean, squares, count = channels.moments(view)
    each = x.shape[1] // num_groups
    grouped = (x.shape[0], num_groups, each)
    mean, squares, count = merged(mean.reshape(grouped), squares.reshape(grouped), count, 2)
    rstd = 1 / np.sqrt(squares / count + eps)
    scale = _of_groups(rstd, each) * _double(weight, 1)
    out = channels.combined([(view, scale)], _double(bias, 0) - _of_groups(mean, each) * scale, where[0])
    if not residuals:
        return out
    return out, _cast(mean, channels.wide, where[1]), _cast(rstd, channels.wide, where[2])


@table(ops.group_norm.vjp)
@silent
def _(
    ct: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    *,
    num_groups: int,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[Array, ...]:
    channels = Channels(x, together=False)
    each = x.shape[1] // num_groups
    grouped = (x.shape[0], num_groups, each)
    view, cts = channels.view(x), channels.view(ct)
    centre = _of_groups(_double(mean, 0), each)
    spread = _double(rstd, 0)
    total, along = channels.sums(cts, view, centre)
    along *= _of_groups(spread, each)
    results = []
    for name, where in zip(wrt, slots(into, len(wrt)), strict=True):
        if name == "x":
            count = each * max(1, x[0, 0].size) if x.size else 1
            scale = _of_groups(spread, each) * _double(weight, 1)
            through = (along * _double(weight, 1)).reshape(grouped).sum(axis=2) / count
            base = (total * _double(weight, 1)).reshape(grouped).sum(axis=2) / count
            slope = -_of_groups(through * spread * spread, each)
            shift = -_of_groups(base * spread, each) - slope * centre
            results.append(channels.combined([(cts, scale), (view, slope)], shift, where))
        else:
            results.append(_cast((along if name == "weight" else total).sum(axis=0), x.dtype, where))
    return tuple(results)
