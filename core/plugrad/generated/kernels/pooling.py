"""The largest element and the mean of windows. Images whose channels lie side by side give such images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from plugrad import ops
from plugrad.generated.array import StridedArray, empty
from plugrad.generated.kernels._convolution import image, side_by_side
from plugrad.generated.kernels._run import cast, computable, copied, filled, group_of
from plugrad.generated.kernels._table import table
from plugrad.graph.source import avg_pool, avg_pool_derivative, max_pool, max_pool_derivative
from plugrad.graph.source.pooling import Window
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
    window: Window,
    sizes: Sequence[Ints],
    lines: Shape,
    *options: bool,
) -> StridedArray:
    """Launch a kernel over lines along the last of these axes.

    Args:
        template: the kernel.
        arrays: of one dtype, the result last.
        window: how windows lie.
        sizes: of the result, of the image, and what the kernel says.
        lines: the sizes of the axes whose lines have a work-item each.
        options: what else the template takes.
    """
    out = arrays[-1]
    n, channels = out.shape[:2]
    if _lies_wide(out):
        arrays = [*(side_by_side(x) for x in arrays[:-1]), out]
    wide = out.dtype in out.dialect.lanes and all(_lies_wide(x) for x in arrays)
    block = channels if wide else 1
    count = n * -(-channels // block) * math.prod(lines)
    arguments: list[Any] = []
    for x in arrays:
        arguments += [x.memory, x.start, *x.strides]
    for each in sizes:
        arguments += each
    source = template(out.dialect, out.dtype, window, wide, *options)
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


def _window(
    kernel_size: Ints, stride: Ints, dilation: Ints, padding: Pairs, image: Shape, space: Ints
) -> Window:
    ends = zip(image, space, kernel_size, stride, dilation, padding, strict=True)
    inside = all(not b and (n - 1) * s + (k - 1) * d < h for h, n, k, s, d, (b, _) in ends)
    return Window(kernel_size, stride, dilation, tuple(b for b, _ in padding), inside)


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
        window = _window(kernel_size, stride, dilation, padding, x.shape[2:], space)
        _run(max_pool, [computable(x), out], window, (space, x.shape[2:]), space[:-1])
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
    result, space = _target(x, x.shape, into), out.shape[2:]
    window = _window(kernel_size, stride, dilation, padding, x.shape[2:], space)
    apart = all(s >= (k - 1) * d + 1 for s, k, d in zip(stride, kernel_size, dilation, strict=True))
    sizes = zip(kernel_size, stride, space, x.shape[2:], strict=True)
    whole = window.inside and all(k == s and n * s == h for k, s, n, h in sizes)
    if not whole:
        filled(0, result)
    if out.size:
        arrays = [computable(a) for a in (x, out, ct)]
        lines = space[:-1] if apart else ()
        _run(max_pool_derivative, [*arrays, result], window, (space, x.shape[2:]), lines, apart, whole)
    return _given(result, x, into)


def _counting(x: Shape, padding: Pairs, count_include_pad: bool) -> tuple[Ints, Ints]:
    """From where on, and before where, elements count."""
    pairs = zip(x[2:], padding, strict=True)
    bounds = [(-a, n + b) if count_include_pad else (0, n) for n, (a, b) in pairs]
    return tuple(a for a, _ in bounds), tuple(b for _, b in bounds)


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
        window = _window(kernel_size, stride, (1,) * len(stride), padding, x.shape[2:], space)
        sizes = (space, x.shape[2:], *_counting(x.shape, padding, count_include_pad))
        _run(avg_pool, [computable(x), out], window, sizes, space[:-1])
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
        window = _window(kernel_size, stride, (1,) * len(stride), padding, x.shape[2:], ct.shape[2:])
        sizes = (ct.shape[2:], x.shape[2:], *_counting(x.shape, padding, count_include_pad))
        _run(avg_pool_derivative, [computable(ct), result], window, sizes, x.shape[2:-1])
    return _given(result, ct, into)
