"""Convolution and its adjoints; see `plugrad_numpy._conv`."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from plugrad import ops
from plugrad.graph.ir import Graph
from plugrad_numpy import _conv
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels._tail import Images, tail_of_images
from plugrad_numpy.kernels.linear_algebra import column_sums

Array = Any
Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def _conv_with_tail(graph: Graph) -> Callable[..., Any] | None:
    """A convolution and what follows it."""
    tail = tail_of_images(graph)
    if tail is None:
        return None

    @silent
    def kernel(
        x: Array, weight: Array, bias: Array | None, *others: Array, into: Any = None, **geometry: Any
    ) -> Any:
        def convolved(place: Array, finish: Any) -> None:
            _conv.conv(x, weight, bias, **geometry, into=place, finish=finish)

        return tail.run(convolved, others, into, Images(tail.shape))

    return kernel


table(ops.conv, spreads=True, epilogue=_conv_with_tail)(silent(_conv.conv))


@table(ops.conv_transpose, spreads=True)
@silent
def _(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Ints,
    padding: Pairs,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
    into: Array | None = None,
) -> Array:
    space = (
        (n - 1) * s - before - after + d * (k - 1) + 1 + rest
        for n, s, (before, after), d, k, rest in zip(
            x.shape[2:], stride, padding, dilation, weight.shape[2:], output_padding, strict=True
        )
    )
    shape = (x.shape[0], weight.shape[1] * groups, *space)
    return _conv.conv_dx(
        x, weight, shape, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, into=into
    )


@table(ops.conv_weight, spreads=True)
@silent
def _(
    x: Array,
    y: Array,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: Array | None = None,
) -> Array:
    shape = (y.shape[1], x.shape[1] // groups, *kernel_size)
    return _conv.conv_dw(
        y, x, shape, stride=stride, padding=padding, dilation=dilation, groups=groups, into=into
    )


def _adjoint_with_tail(graph: Graph) -> Callable[..., Any] | None:
    """The cotangent of the data and what follows it."""
    tail = tail_of_images(graph)
    if tail is None:
        return None

    @silent
    def kernel(ct: Array, weight: Array, *others: Array, x: Any, into: Any = None, **geometry: Any) -> Any:
        def adjoint(place: Array, finish: Any) -> None:
            _conv.conv_dx(ct, weight, x.shape, **geometry, into=place, finish=finish)

        return tail.run(adjoint, others, into, Images(tail.shape))

    return kernel


@table(ops.conv.vjp_for("x"), spreads=True, epilogue=_adjoint_with_tail)
@silent
def _(
    ct: Array,
    weight: Array,
    *,
    x: Any,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: Array | None = None,
) -> Array:
    return _conv.conv_dx(
        ct, weight, x.shape, stride=stride, padding=padding, dilation=dilation, groups=groups, into=into
    )


@table(ops.conv.vjp_for("weight"), spreads=True)
@silent
def _(
    ct: Array,
    x: Array,
    *,
    weight: Any,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: Array | None = None,
) -> Array:
    return _conv.conv_dw(
        ct, x, weight.shape, stride=stride, padding=padding, dilation=dilation, groups=groups, into=into
    )


@table(ops.conv.vjp_for("bias"), ops.conv_transpose.vjp_for("bias"))
@silent
def _(ct: Array, *, into: Array | None = None) -> Array:
    wide = widened(ct)
    last = wide.transpose(0, *range(2, wide.ndim), 1)
    if last.flags.c_contiguous:
        out = column_sums(last.reshape(prod(last.shape[:-1]), last.shape[-1]))
    else:
        out = np.add.reduce(wide, axis=(0, *range(2, wide.ndim)))
    return given(out.astype(ct.dtype, copy=False), into)
