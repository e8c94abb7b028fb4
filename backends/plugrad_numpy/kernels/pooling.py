"""Pooling and its vjps; see `plugrad_numpy._pool`."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from plugrad import ops
from plugrad.graph.ir import Graph
from plugrad_numpy import _pool
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels._tail import Images, tail_of_images

Array = Any
Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def _reached(padding: Pairs, overhang: Ints) -> Pairs:
    """The padding with what the last windows reach beyond it, or what they leave over of it."""
    return tuple((a, b + more) for (a, b), more in zip(padding, overhang, strict=True))


@table(ops.max_pool, spreads=True)
@silent
def _(
    x: Array,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    ceil_mode: Ints,
    into: Array | None = None,
) -> Array:
    return _pool.max_pool(
        x,
        kernel=kernel_size,
        stride=stride,
        padding=_reached(padding, ceil_mode),
        dilation=dilation,
        into=into,
    )


def _max_pool_vjp_with_tail(graph: Graph) -> Callable[..., Any] | None:
    """The cotangent of what is pooled, and what follows it."""
    tail = tail_of_images(graph)
    if tail is None:
        return None

    @silent
    def kernel(
        ct: Array,
        x: Array,
        out: Array,
        *others: Array,
        kernel_size: Ints,
        stride: Ints,
        padding: Pairs,
        dilation: Ints,
        ceil_mode: Ints,
        into: Any = None,
    ) -> Any:
        reached = _reached(padding, ceil_mode)

        def pulled(place: Array, finish: Any) -> None:
            _pool.max_pool_vjp(
                ct,
                x,
                out,
                kernel=kernel_size,
                stride=stride,
                padding=reached,
                dilation=dilation,
                into=place,
                finish=finish,
            )

        return tail.run(pulled, others, into, Images(tail.shape, x))

    return kernel


@table(ops.max_pool.vjp, spreads=True, epilogue=_max_pool_vjp_with_tail)
@silent
def _(
    ct: Array,
    x: Array,
    out: Array,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    ceil_mode: Ints,
    into: Array | None = None,
) -> Array:
    return _pool.max_pool_vjp(
        ct,
        x,
        out,
        kernel=kernel_size,
        stride=stride,
        padding=_reached(padding, ceil_mode),
        dilation=dilation,
        into=into,
    )


def _factor(size: Ints, space: Ints, kernel: Ints, stride: Ints, padding: Pairs) -> Array:
    """By what the mean over whole windows is too small where they reach beyond the padding."""
    factors = []
    for n, o, k, s, (before, after) in zip(size, space, kernel, stride, padding, strict=True):
        first = np.arange(o) * s
        factors.append(k / (np.minimum(first + k, before + n + after) - first))
    return reduce(np.multiply.outer, factors)


@table(ops.avg_pool, spreads=True)
@silent
def _(
    x: Array,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    ceil_mode: Ints,
    count_include_pad: bool,
    into: Array | None = None,
) -> Array:
    beyond = count_include_pad and any(over > 0 for over in ceil_mode)
    out = _pool.avg_pool(
        widened(x) if beyond else x,
        kernel=kernel_size,
        stride=stride,
        padding=_reached(padding, ceil_mode),
        count_include_pad=count_include_pad,
        into=None if beyond else into,
    )
    if not beyond:
        return out
    out *= _factor(x.shape[2:], out.shape[2:], kernel_size, stride, padding).astype(out.dtype)
    return given(out.astype(x.dtype, copy=False), into)


@table(ops.avg_pool.vjp, spreads=True)
@silent
def _(
    ct: Array,
    *,
    x: Any,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    ceil_mode: Ints,
    count_include_pad: bool,
    into: Array | None = None,
) -> Array:
    beyond, dtype = count_include_pad and any(over > 0 for over in ceil_mode), ct.dtype
    if beyond:
        factor = _factor(x.shape[2:], ct.shape[2:], kernel_size, stride, padding)
        ct = widened(ct)
        ct = ct * factor.astype(ct.dtype)
    dx = _pool.avg_pool_vjp(
        ct,
        x.shape,
        kernel=kernel_size,
        stride=stride,
        padding=_reached(padding, ceil_mode),
        count_include_pad=count_include_pad,
        into=None if beyond else into,
    )
    return given(dx.astype(dtype, copy=False), into) if beyond else dx
