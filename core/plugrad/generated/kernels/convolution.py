"""Convolutions and their adjoints. What they give has its channels side by side, so that the next one need not move them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plugrad import ops
from plugrad.generated.array import StridedArray, permuted
from plugrad.generated.kernels._convolution import (
    Geometry,
    constant,
    convolve,
    convolve_weight,
    image,
    spread,
)
from plugrad.generated.kernels._run import cast, computable, copied, filled, room, rounding
from plugrad.generated.kernels._table import table
from plugrad.ops._windows import counted
from plugrad.spec import Shape

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def _geometry(kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Geometry:
    return Geometry(kernel, stride, dilation, tuple(a for a, _ in padding), groups)


def _grouped(weight: StridedArray, groups: int) -> StridedArray:
    """The view whose first axis is cut into groups."""
    n, step = weight.shape[0] // groups, weight.strides[0]
    return weight.view((groups, n, *weight.shape[1:]), (n * step, step, *weight.strides[1:]))


def _turned(weight: StridedArray, groups: int) -> StridedArray:
    """The weight of an adjoint, its channels in the order of a convolution's."""
    grouped = _grouped(weight, groups)
    return permuted(grouped, (0, 2, 1, *range(3, len(grouped.shape))))


def _written(
    function: Callable[[StridedArray], Any], x: StridedArray, shape: Shape, into: StridedArray | None
) -> StridedArray:
    """Let ``function`` write an image in the dtype of the arithmetic; the image in that of ``x``, or ``into``."""
    dtype = x.dialect.computed(x.dtype)
    if into is not None and dtype is into.dtype and into.strides[1] == 1:
        function(into)
        return into
    out = image(x.device, shape, dtype)
    if out.size:
        function(out)
    if dtype is not x.dtype:
        return cast(out, image(x.device, shape, x.dtype) if into is None else into)
    return out if into is None else copied(out, into)


def _widened(*arrays: StridedArray | None) -> list[Any]:
    return [None if x is None else computable(x) for x in arrays]


@table(ops.conv)
def _(
    x: StridedArray,
    weight: StridedArray,
    bias: StridedArray | None,
    *,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: StridedArray | None = None,
) -> StridedArray:
    geometry = _geometry(weight.shape[2:], stride, padding, dilation, groups)
    shape = (x.shape[0], weight.shape[0], *counted(x.shape[2:], weight.shape[2:], stride, padding, dilation))

    def run(out: StridedArray) -> StridedArray:
        wide, matrix, b = _widened(x, weight, bias)
        if not wide.size:
            return constant(out, b)
        return convolve(wide, _grouped(matrix, groups), geometry, out, b)

    return _written(run, x, shape, into)


def _adjoint(
    x: StridedArray,
    weight: StridedArray,
    bias: StridedArray | None,
    geometry: Geometry,
    shape: Shape,
    into: StridedArray | None,
) -> StridedArray:
    def run(out: StridedArray) -> StridedArray:
        wide, matrix, b = _widened(x, weight, bias)
        if not wide.size:
            return constant(out, b)
        return spread(wide, _turned(matrix, geometry.groups), geometry, out, b)

    return _written(run, x, shape, into)


@table(ops.conv_transpose)
def _(
    x: StridedArray,
    weight: StridedArray,
    bias: StridedArray | None,
    *,
    stride: Ints,
    padding: Pairs,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
    into: StridedArray | None = None,
) -> StridedArray:
    geometry = _geometry(weight.shape[2:], stride, padding, dilation, groups)
    space = tuple(
        (n - 1) * s - a - b + d * (k - 1) + 1 + more
        for n, s, (a, b), d, k, more in zip(
            x.shape[2:], stride, padding, dilation, geometry.kernel, output_padding, strict=True
        )
    )
    return _adjoint(x, weight, bias, geometry, (x.shape[0], weight.shape[1] * groups, *space), into)


@table(ops.conv.vjp_for("x"))
def _(
    ct: StridedArray,
    weight: StridedArray,
    *,
    x: Any,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: StridedArray | None = None,
) -> StridedArray:
    geometry = _geometry(weight.shape[2:], stride, padding, dilation, groups)
    return _adjoint(ct, weight, None, geometry, x.shape, into)


def _weight(x: StridedArray, y: StridedArray, geometry: Geometry, into: StridedArray | None) -> StridedArray:
    shape = (y.shape[1], x.shape[1] // geometry.groups, *geometry.kernel)
    out = room(x.device, shape, x.dtype, into)

    def run(wide: StridedArray) -> StridedArray:
        image, ct = _widened(x, y)
        if image.size and ct.size:
            convolve_weight(image, ct, geometry, _grouped(wide, geometry.groups))
        else:
            filled(0, wide)
        return wide

    return rounding(run, out) if out.size else out


@table(ops.conv_weight)
def _(
    x: StridedArray,
    y: StridedArray,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: StridedArray | None = None,
) -> StridedArray:
    return _weight(x, y, _geometry(kernel_size, stride, padding, dilation, groups), into)


@table(ops.conv.vjp_for("weight"))
def _(
    ct: StridedArray,
    x: StridedArray,
    *,
    weight: Any,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: StridedArray | None = None,
) -> StridedArray:
    return _weight(x, ct, _geometry(weight.shape[2:], stride, padding, dilation, groups), into)
