"""Convolutions and their adjoints. What they give has its channels side by side, so that the next one need not move them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plugrad import ops
from plugrad.ops._windows import counted
from plugrad.spec import Shape
from plugrad_opencl._array import CLArray, permuted
from plugrad_opencl._dialect import OPENCL_C
from plugrad_opencl.kernels._convolution import Geometry, constant, convolve, convolve_weight, image, spread
from plugrad_opencl.kernels._run import cast, computable, copied, filled, room, rounding
from plugrad_opencl.kernels._table import table

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def _geometry(kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Geometry:
    return Geometry(kernel, stride, dilation, tuple(a for a, _ in padding), groups)


def _grouped(weight: CLArray, groups: int) -> CLArray:
    """The view whose first axis is cut into groups."""
    n, step = weight.shape[0] // groups, weight.strides[0]
    return weight.view((groups, n, *weight.shape[1:]), (n * step, step, *weight.strides[1:]))


def _turned(weight: CLArray, groups: int) -> CLArray:
    """The weight of an adjoint, its channels in the order of a convolution's."""
    grouped = _grouped(weight, groups)
    return permuted(grouped, (0, 2, 1, *range(3, len(grouped.shape))))


def _written(function: Callable[[CLArray], Any], x: CLArray, shape: Shape, into: CLArray | None) -> CLArray:
    """Let ``function`` write an image in the dtype of the arithmetic; the image in that of ``x``, or ``into``."""
    dtype = OPENCL_C.computed(x.dtype)
    if into is not None and dtype is into.dtype and into.strides[1] == 1:
        function(into)
        return into
    out = image(x.device, shape, dtype)
    if out.size:
        function(out)
    if dtype is not x.dtype:
        return cast(out, image(x.device, shape, x.dtype) if into is None else into)
    return out if into is None else copied(out, into)


def _widened(*arrays: CLArray | None) -> list[Any]:
    return [None if x is None else computable(x) for x in arrays]


@table(ops.conv)
def _(
    x: CLArray,
    weight: CLArray,
    bias: CLArray | None,
    *,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: CLArray | None = None,
) -> CLArray:
    geometry = _geometry(weight.shape[2:], stride, padding, dilation, groups)
    shape = (x.shape[0], weight.shape[0], *counted(x.shape[2:], weight.shape[2:], stride, padding, dilation))

    def run(out: CLArray) -> CLArray:
        wide, matrix, b = _widened(x, weight, bias)
        if not wide.size:
            return constant(out, b)
        return convolve(wide, _grouped(matrix, groups), geometry, out, b)

    return _written(run, x, shape, into)


def _adjoint(
    x: CLArray, weight: CLArray, bias: CLArray | None, geometry: Geometry, shape: Shape, into: CLArray | None
) -> CLArray:
    def run(out: CLArray) -> CLArray:
        wide, matrix, b = _widened(x, weight, bias)
        if not wide.size:
            return constant(out, b)
        return spread(wide, _turned(matrix, geometry.groups), geometry, out, b)

    return _written(run, x, shape, into)


@table(ops.conv_transpose)
def _(
    x: CLArray,
    weight: CLArray,
    bias: CLArray | None,
    *,
    stride: Ints,
    padding: Pairs,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
    into: CLArray | None = None,
) -> CLArray:
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
    ct: CLArray,
    weight: CLArray,
    *,
    x: Any,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: CLArray | None = None,
) -> CLArray:
    geometry = _geometry(weight.shape[2:], stride, padding, dilation, groups)
    return _adjoint(ct, weight, None, geometry, x.shape, into)


def _weight(x: CLArray, y: CLArray, geometry: Geometry, into: CLArray | None) -> CLArray:
    shape = (y.shape[1], x.shape[1] // geometry.groups, *geometry.kernel)
    out = room(x.device, shape, x.dtype, into)

    def run(wide: CLArray) -> CLArray:
        image, ct = _widened(x, y)
        if image.size and ct.size:
            convolve_weight(image, ct, geometry, _grouped(wide, geometry.groups))
        else:
            filled(0, wide)
        return wide

    return rounding(run, out) if out.size else out


@table(ops.conv_weight)
def _(
    x: CLArray,
    y: CLArray,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: CLArray | None = None,
) -> CLArray:
    return _weight(x, y, _geometry(kernel_size, stride, padding, dilation, groups), into)


@table(ops.conv.vjp_for("weight"))
def _(
    ct: CLArray,
    x: CLArray,
    *,
    weight: Any,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: CLArray | None = None,
) -> CLArray:
    return _weight(x, ct, _geometry(weight.shape[2:], stride, padding, dilation, groups), into)
