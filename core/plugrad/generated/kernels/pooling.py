"""The largest element and the mean of windows. Images whose channels lie side by side give such images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from plugrad import ops
from plugrad.generated.array import StridedArray, empty
from plugrad.generated.kernels._convolution import image
from plugrad.generated.kernels._run import cast, computable, copied, filled, group_of
from plugrad.generated.kernels._table import table
from plugrad.graph.source import avg_pool, avg_pool_derivative, max_pool, max_pool_derivative
from plugrad.ops._windows import counted
from plugrad.spec import Shape

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def _like(x: StridedArray, shape: Shape) -> StridedArray:
    """A new array in the order of ``x``, of the dtype of its arithmetic."""
    dtype = x.dialect.computed(x.dtype)
    return image(x.device, shape, dtype) if _lies_wide(x) else empty(x.device, shape, dtype)


def _lies_wide(x: StridedArray) -> bool:
    return x.strides[1] == 1 and x.shape[1] > 1


def _run(
    template: Any,
    arrays: Sequence[StridedArray],
    geometry: Sequence[Ints],
    lines: Shape,
    *options: bool,
) -> StridedArray:
    """Launch a kernel over lines along the last of these axes.

    Args:
        template: the kernel.
        arrays: of one dtype, the result last.
        geometry: the sizes of the result, of the image, of the window, stride, dilation, padding before, and what the
            kernel says.
        lines: the sizes of the axes whose lines have a work-item each.
        options: what else the template takes.
    """
    out = arrays[-1]
    n, channels = out.shape[:2]
    wide = out.dtype in out.dialect.lanes and all(_lies_wide(x) for x in arrays)
    block = channels if wide else 1
    count = n * -(-channels // block) * math.prod(lines)
    arguments: list[Any] = []
    for x in arrays:
        arguments += [x.memory, x.start, *x.strides]
    for sizes in geometry:
        arguments += sizes
    source = template(out.dialect, out.dtype, len(out.shape) - 2, wide, *options)
    group = 1 if wide else group_of(count)
    out.device.launch(source, (count,), (group,), [*arguments, channels, block, count])
    return out


def _given(out: StridedArray, x: StridedArray, into: StridedArray | None) -> StridedArray:
    """The result in the dtype of ``x``, or in ``into``."""
    if out.dtype is not x.dtype:
        target = StridedArray(
            out.device, out.device.allocate(out.size * x.dtype.itemsize), x.dtype, out.shape, out.strides
        )
        return cast(out, target if into is None else into)
    return out if into is None or into is out else copied(out, into)


def _target(x: StridedArray, shape: Shape, into: StridedArray | None) -> StridedArray:
    """Where a kernel writes: ``into``, if that lies as ``x`` does."""
    direct = (
        into is not None and into.dtype is x.dialect.computed(x.dtype) and _lies_wide(into) == _lies_wide(x)
    )
    return into if into is not None and direct else _like(x, shape)


def _around(padding: Pairs, ceil_mode: Ints) -> Pairs:
    return tuple((a, b + more) for (a, b), more in zip(padding, ceil_mode, strict=True))


def _before(padding: Pairs) -> Ints:
    return tuple(a for a, _ in padding)


@table(ops.max_pool)
def _(
    x: StridedArray,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    ceil_mode: Ints,
    into: StridedArray | None = None,
) -> StridedArray:
    space = counted(x.shape[2:], kernel_size, stride, _around(padding, ceil_mode), dilation)
    out = _target(x, (*x.shape[:2], *space), into)
    if out.size:
        geometry = (space, x.shape[2:], kernel_size, stride, dilation, _before(padding))
        _run(max_pool, [computable(x), out], geometry, space[:-1])
    return _given(out, x, into)


@table(ops.max_pool.vjp_for("x"))
def _(
    ct: StridedArray,
    x: StridedArray,
    out: StridedArray,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    ceil_mode: Ints,
    into: StridedArray | None = None,
) -> StridedArray:
    del ceil_mode
    result = filled(0, _target(x, x.shape, into))
    space = out.shape[2:]
    apart = all(s >= (k - 1) * d + 1 for s, k, d in zip(stride, kernel_size, dilation, strict=True))
    if out.size:
        arrays = [computable(a) for a in (x, out, ct)]
        geometry = (space, x.shape[2:], kernel_size, stride, dilation, _before(padding))
        _run(max_pool_derivative, [*arrays, result], geometry, space[:-1] if apart else (), apart)
    return _given(result, x, into)


def _counting(
    x: Shape, kernel_size: Ints, stride: Ints, padding: Pairs, space: Ints, count_include_pad: bool
) -> tuple[Ints, ...]:
    """The geometry of a mean: what is seen, and which elements count."""
    pairs = zip(x[2:], padding, strict=True)
    bounds = [(-a, n + b) if count_include_pad else (0, n) for n, (a, b) in pairs]
    low, high = tuple(a for a, _ in bounds), tuple(b for _, b in bounds)
    return space, x[2:], kernel_size, stride, (1,) * len(space), _before(padding), low, high


@table(ops.avg_pool)
def _(
    x: StridedArray,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    ceil_mode: Ints,
    count_include_pad: bool,
    into: StridedArray | None = None,
) -> StridedArray:
    space = counted(x.shape[2:], kernel_size, stride, _around(padding, ceil_mode), (1,) * len(stride))
    out = _target(x, (*x.shape[:2], *space), into)
    if out.size:
        geometry = _counting(x.shape, kernel_size, stride, padding, space, count_include_pad)
        _run(avg_pool, [computable(x), out], geometry, space[:-1])
    return _given(out, x, into)


@table(ops.avg_pool.vjp_for("x"))
def _(
    ct: StridedArray,
    *,
    x: Any,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    ceil_mode: Ints,
    count_include_pad: bool,
    into: StridedArray | None = None,
) -> StridedArray:
    del ceil_mode
    result = _target(ct, x.shape, into)
    if result.size:
        geometry = _counting(x.shape, kernel_size, stride, padding, ct.shape[2:], count_include_pad)
        _run(avg_pool_derivative, [computable(ct), result], geometry, x.shape[2:-1])
    return _given(result, ct, into)
