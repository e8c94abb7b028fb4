"""Pooling over 1 to 3 spatial dimensions, and its vjps, in PyTorch's meaning.

Arrays are (N, C, *S); the result has the layout of the input, channels-last in, channels-last out. A maximum or a sum
over a window is taken axis after axis, each as a few ufuncs on shifted slices, cut where they would reach the padding.
16-bit dtypes are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np

from plugrad_numpy import _parallel
from plugrad_numpy._chunks import compute_dtype, memory_order

__all__ = ["avg_pool", "avg_pool_vjp", "max_pool", "max_pool_vjp"]

Array = np.ndarray[Any, Any]
Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

_BYTES = 1 << 20
"""Bytes of input worked on at once."""

_WORTH = 1 << 17
"""Elements of input that are worth a thread."""


def max_pool(
    x: Array, *, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, into: Array | None = None
) -> Array:
    """The largest element of each window; NaN where the window holds one.

    Args:
        x: (N, C, *S).
        kernel: the size of a window per spatial axis.
        stride: the step of the windows per spatial axis.
        dilation: the distance of the window's elements per spatial axis.
        padding: elements before and after each spatial axis, smaller than all others.
        into: where to write the result, of any strides; None allocates an array of the layout of ``x``.

    Returns:
        (N, C, *So) with So = (S + before + after - dilation * (K - 1) - 1) // stride + 1.
    """
    space = _space(x.shape[2:], kernel, stride, padding, dilation)
    y = _like(x, space) if into is None else into
    integer = np.issubdtype(x.dtype, np.integer)
    lowest: Any = np.iinfo(x.dtype).min if integer else -np.inf

    def work(x: Array, y: Array, first: int) -> None:
        direct = y if y.dtype == x.dtype else None
        for i, size in enumerate(space):
            into = direct if i == len(space) - 1 else None
            x = _slide(
                np.maximum, lowest, x, first + i, size, kernel[i], stride[i], padding[i][0], dilation[i], into
            )
        if direct is None:
            y[...] = x

    _each(work, compute_dtype(x.dtype), x, y)
    return y


def max_pool_vjp(
    ct: Array,
    x: Array,
    y: Array,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    into: Array | None = None,
) -> Array:
    """The cotangent of ``x``: each element of ``ct`` goes to the first of the largest elements of its window.

    First is in row-major order of the window; where the window holds NaN, its first NaN.

    Args:
        ct: (N, C, *So), the cotangent of the result.
        x: (N, C, *S), floating.
        y: (N, C, *So), the result of `max_pool`.
        kernel: as of `max_pool`.
        stride: as of `max_pool`.
        padding: as of `max_pool`.
        dilation: as of `max_pool`.
        into: where to write the result, of any strides; None allocates an array of the layout of ``x``.
    """
    dx = np.empty_like(x) if into is None else into
    wide = compute_dtype(x.dtype)
    bits = np.dtype(f"i{wide.itemsize}")
    axes = list(zip(x.shape[2:], ct.shape[2:], stride, [a for a, _ in padding], dilation, strict=True))
    disjoint = all(s > (k - 1) * d for k, s, d in zip(kernel, stride, dilation, strict=True))

    def work(ct: Array, x: Array, y: Array, dx: Array, first: int) -> None:
        # Bits are selected by integer arithmetic: no NaN or infinity of ct can spread, and what a position
        # has taken is no longer there for the later ones.
        rest = np.array(ct, wide, order="C", copy=True)
        total = dx if dx.dtype == wide else np.empty(dx.shape, wide)
        total[...] = 0
        missing = bool(np.isnan(y).any())
        for tap in product(*map(range, kernel)):
            cuts = [cut for axis, t in zip(axes, tap, strict=True) if (cut := _reach(*axis, t)) is not None]
            if len(cuts) < len(axes):
                continue
            outs = (slice(None),) * first + tuple(cut[0] for cut in cuts)
            ins = (slice(None),) * first + tuple(cut[1] for cut in cuts)
            window = x[ins]
            found = window == y[outs]
            if missing:
                found |= window != window
            left = rest.view(bits)[outs]
            part = total[ins]
            if disjoint:
                left -= np.multiply(left, found, out=part.view(bits))
            else:
                taken = np.multiply(left, found)
                left -= taken
                part += taken.view(wide)
        if total is not dx:
            dx[...] = total

    _each(work, wide, ct, x, y, dx)
    return dx


def avg_pool(
    x: Array,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Pairs,
    count_include_pad: bool,
    into: Array | None = None,
) -> Array:
    """The mean of each window.

    Args:
        x: (N, C, *S), floating.
        kernel: the size of a window per spatial axis.
        stride: the step of the windows per spatial axis.
        padding: zeros before and after each spatial axis.
        count_include_pad: whether the zeros count, or only the elements of ``x`` are averaged.
        into: where to write the result, of any strides; None allocates an array of the layout of ``x``.

    Returns:
        (N, C, *So) with So = (S + before + after - K) // stride + 1.
    """
    ones = (1,) * len(kernel)
    space = _space(x.shape[2:], kernel, stride, padding, ones)
    y = _like(x, space) if into is None else into
    wide = compute_dtype(x.dtype)
    count = _counts(x.shape[2:], space, kernel, stride, padding, count_include_pad, wide)

    def work(x: Array, y: Array, first: int) -> None:
        for i, size in enumerate(space):
            x = _slide(np.add, 0, x, first + i, size, kernel[i], stride[i], padding[i][0], 1)
        if y.dtype == x.dtype:
            np.divide(x, _beside(count, first), out=y)
        else:
            y[...] = x / _beside(count, first)

    _each(work, wide, x, y)
    return y


def avg_pool_vjp(
    ct: Array,
    x_shape: Ints,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Pairs,
    count_include_pad: bool,
    into: Array | None = None,
) -> Array:
    """The cotangent of ``x``: each element of ``ct``, over the count of its window, goes to all of the window.

    Args:
        ct: (N, C, *So), the cotangent of the result.
        x_shape: (N, C, *S), the shape of the result.
        kernel: as of `avg_pool`.
        stride: as of `avg_pool`.
        padding: as of `avg_pool`.
        count_include_pad: as of `avg_pool`.
        into: where to write the result, of any strides; None allocates an array of the layout of ``ct``.
    """
    size, space = x_shape[2:], ct.shape[2:]
    dx = _like(ct, size) if into is None else into
    wide = compute_dtype(ct.dtype)
    count = _counts(size, space, kernel, stride, padding, count_include_pad, wide)

    def work(ct: Array, dx: Array, first: int) -> None:
        part = ct / _beside(count, first)
        for i in reversed(range(len(size))):
            axis = first + i
            whole = np.zeros((*part.shape[:axis], size[i], *part.shape[axis + 1 :]), wide)
            for t in range(kernel[i]):
                cut = _reach(size[i], space[i], stride[i], padding[i][0], 1, t)
                if cut is not None:
                    target = whole[_at(axis, cut[1])]
                    target += part[_at(axis, cut[0])]
            part = whole
        dx[...] = part

    _each(work, wide, ct, dx)
    return dx


def _space(size: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Ints:
    return tuple(
        (n + a + b - d * (k - 1) - 1) // s + 1
        for n, k, s, (a, b), d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


def _reach(
    size: int, out: int, stride: int, before: int, dilation: int, tap: int
) -> tuple[slice, slice] | None:
    """Of one axis: the outputs whose element ``tap`` of the window lies in the input, and those elements."""
    offset = tap * dilation - before
    low = max(0, -(offset // stride))
    high = min(out, (size - 1 - offset) // stride + 1)
    if low >= high:
        return None
    return slice(low, high), slice(low * stride + offset, (high - 1) * stride + offset + 1, stride)


def _at(axis: int, cut: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, cut)


def _slide(
    ufunc: np.ufunc,
    start: Any,
    x: Array,
    axis: int,
    out: int,
    kernel: int,
    stride: int,
    before: int,
    dilation: int,
    into: Array | None = None,
) -> Array:
    """``ufunc`` over the windows along one axis of ``x``; ``start`` is its neutral element."""
    reached = (_reach(x.shape[axis], out, stride, before, dilation, t) for t in range(kernel))
    cuts = [(_at(axis, cut[0]), _at(axis, cut[1])) for cut in reached if cut is not None]
    whole = _at(axis, slice(0, out))
    cuts.sort(key=lambda cut: cut[0] != whole)
    y = np.empty((*x.shape[:axis], out, *x.shape[axis + 1 :]), x.dtype) if into is None else into
    if len(cuts) > 1 and cuts[1][0] == whole:
        ufunc(x[cuts[0][1]], x[cuts[1][1]], out=y)
        del cuts[:2]
    elif cuts and cuts[0][0] == whole:
        y[...] = x[cuts[0][1]]
        del cuts[:1]
    else:
        y[...] = start
    for outs, ins in cuts:
        target = y[outs]
        ufunc(target, x[ins], out=target)
    return y


def _counts(
    size: Ints, space: Ints, kernel: Ints, stride: Ints, padding: Pairs, include: bool, dtype: np.dtype[Any]
) -> Array:
    """The divisor of each window, of shape ``space``, or () where it is one for all."""
    if include or not any(map(any, padding)):
        return np.array(prod(kernel), dtype)
    count = np.ones(space, dtype)
    for axis, (n, out, k, s, (before, _)) in enumerate(
        zip(size, space, kernel, stride, padding, strict=True)
    ):
        first = np.arange(out) * s - before
        real = np.minimum(first + k, n) - np.maximum(first, 0)
        # A window wholly in the padding has the sum 0.
        count *= np.maximum(real, 1).astype(dtype).reshape(-1, *(1,) * (len(space) - axis - 1))
    return count


def _beside(count: Array, first: int) -> Array:
    """``count`` with an axis for the channels where they come last."""
    return count[..., None] if first == 1 and count.ndim else count


def _channels_last(x: Array) -> bool:
    order = memory_order(x)
    return order is not None and not x.flags.c_contiguous and order == (0, *range(2, x.ndim), 1)


def _like(x: Array, space: Ints) -> Array:
    """An array (N, C, *space) of the dtype and the layout of ``x``."""
    if _channels_last(x):
        last = np.empty((x.shape[0], *space, x.shape[1]), x.dtype)
        return last.transpose(0, last.ndim - 1, *range(1, last.ndim - 1))
    return np.empty((*x.shape[:2], *space), x.dtype)


def _each(work: Callable[..., None], wide: np.dtype[Any], *arrays: Array) -> None:
    """Call ``work(*arrays, first)`` on blocks of images, spread over threads.

    The last array is the result. All are views in the memory order of the largest; ``first`` is the first
    spatial axis. Operands of 16 bits come in ``wide``.
    """
    largest = max(arrays, key=lambda x: x.size)
    if any(x.size == 0 for x in arrays):
        if arrays[-1].size:
            arrays[-1][...] = 0
        return
    first = 2
    if _channels_last(largest):
        first = 1
        arrays = tuple(x.transpose(0, *range(2, x.ndim), 1) for x in arrays)
    images = len(largest)
    several = max(1, _BYTES * images // (largest.size * wide.itemsize))

    def blocks(part: slice) -> Iterator[tuple[Array, ...]]:
        for n in range(part.start, part.stop, several):
            cut = slice(n, min(n + several, part.stop))
            yield tuple(x[cut].astype(wide, copy=False) for x in arrays[:-1]) + (arrays[-1][cut],)

    def spread(part: slice) -> None:
        with np.errstate(all="ignore"):
            for block in blocks(part):
                work(*block, first)

    _parallel.run(spread, _parallel.pieces(images, -(-_WORTH * images // largest.size)))
