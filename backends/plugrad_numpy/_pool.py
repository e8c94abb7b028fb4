"""Pooling over 1 to 3 spatial dimensions, and its vjps, in PyTorch's meaning.

Arrays are (N, C, *S); the result has the layout of the input, channels-last in, channels-last out. A maximum or a sum
over a window is taken axis after axis, each as a few ufuncs on shifted slices, cut where they would reach the padding.
16-bit dtypes are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from plugrad_numpy import _parallel
from plugrad_numpy._chunks import compute_dtype
from plugrad_numpy._parallel import scratch

__all__ = ["avg_pool", "avg_pool_vjp", "max_pool", "max_pool_vjp"]

Array = np.ndarray[Any, Any]
Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

Finish = Callable[[slice], None]
"""Is called for images of a result by the thread that made them, once they are there."""

_BYTES = 1 << 21
"""Bytes of the largest operand worked on at once. Rows of windows are short: smaller blocks cost more Python than the
second-level cache saves."""

_WORTH = 1 << 18
"""Elements of input that are worth a thread."""

_BOOL = np.dtype(np.bool_)


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
        for i in range(len(kernel)):
            size = y.shape[first + i]
            into = direct if i == len(kernel) - 1 else None
            x = _slide(
                np.maximum, lowest, x, first + i, size, kernel[i], stride[i], padding[i][0], dilation[i], into
            )
        if direct is None:
            y[...] = x

    _each(work, compute_dtype(x.dtype), _apart(kernel, stride, padding, dilation), x, y)
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
    finish: Finish | None = None,
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
        finish: is called for images of the result by the thread that made them, once they are there.
    """
    dx = np.empty_like(x) if into is None else into
    wide = compute_dtype(x.dtype)
    bits = np.dtype(f"i{wide.itemsize}")
    before = tuple(a for a, _ in padding)
    disjoint = all(s > (k - 1) * d for k, s, d in zip(kernel, stride, dilation, strict=True))
    tiles = stride == kernel and not any(before) and all(d == 1 for d in dilation)

    def work(ct: Array, x: Array, y: Array, dx: Array, first: int) -> None:
        size, space = (a.shape[first : first + len(kernel)] for a in (x, y))
        cuts = _taps(size, space, kernel, stride, before, dilation)
        total = dx if dx.dtype == wide else scratch("pool.total", dx.shape, wide)
        if not tiles or size != tuple(o * k for o, k in zip(space, kernel, strict=True)):
            total[...] = 0
        missing = bool(np.isnan(np.maximum.reduce(y, axis=None)))
        taken = scratch("pool.taken", y.shape, _BOOL)
        if not cuts or cuts[0][0] is not None:
            taken[...] = False
        lead = (slice(None),) * first
        for i, (outs, ins) in enumerate(cuts):
            window = x[(*lead, *ins)]
            part = total[(*lead, *ins)]
            at, wanted, left = taken, y, ct
            if outs is not None:
                at, wanted, left = (a[(*lead, *outs)] for a in (taken, y, ct))
            if i and i == len(cuts) - 1 and outs is None:
                # What no other element was the largest of, this one is.
                found = np.logical_not(taken, out=taken)
            else:
                found = at if not i and outs is None else scratch("pool.found", at.shape, _BOOL)
                np.equal(window, wanted, out=found)
                if missing:
                    np.logical_or(found, np.isnan(window), out=found)
                if found is not at:
                    np.greater(found, at, out=found)
                    np.logical_or(at, found, out=at)
            # Bits are selected by integer arithmetic: no NaN or infinity of ct can spread.
            if disjoint:
                np.multiply(left.view(bits), found, out=part.view(bits))
            else:
                share = np.multiply(left.view(bits), found, out=scratch("pool.part", left.shape, bits))
                part += share.view(wide)
        if total is not dx:
            dx[...] = total

    _each(work, wide, _apart(kernel, stride, padding, dilation), ct, x, y, dx, finish=finish)
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
        direct = y if y.dtype == x.dtype else None
        for i in range(len(kernel)):
            size = y.shape[first + i]
            into = direct if i == len(kernel) - 1 else None
            x = _slide(np.add, 0, x, first + i, size, kernel[i], stride[i], padding[i][0], 1, into)
        np.divide(x, _beside(count, first), out=x)
        if direct is None:
            y[...] = x

    _each(work, wide, 0 if count.ndim else _apart(kernel, stride, padding, ones), x, y)
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
    ones = (1,) * len(kernel)
    dx = _like(ct, x_shape[2:]) if into is None else into
    wide = compute_dtype(ct.dtype)
    count = _counts(x_shape[2:], ct.shape[2:], kernel, stride, padding, count_include_pad, wide)

    def work(ct: Array, dx: Array, first: int) -> None:
        part = np.divide(ct, _beside(count, first), out=scratch("pool.part", ct.shape, wide))
        for i in reversed(range(len(kernel))):
            axis = first + i
            size, out = dx.shape[axis], part.shape[axis]
            shape = (*part.shape[:axis], size, *part.shape[axis + 1 :])
            direct = i == 0 and dx.dtype == wide
            whole = dx if direct else scratch(f"pool.{i}", shape, wide)
            alone = stride[i] == kernel[i] and not padding[i][0] and size == out * kernel[i]
            if not alone:
                whole[...] = 0
            for t in range(kernel[i]):
                cut = _reach(size, out, stride[i], padding[i][0], 1, t)
                if cut is None:
                    continue
                target, share = whole[_at(axis, cut[1])], part[_at(axis, cut[0])]
                if alone:
                    np.copyto(target, share)
                else:
                    target += share
            part = whole
        if part is not dx:
            dx[...] = part

    _each(work, wide, 0 if count.ndim else _apart(kernel, stride, padding, ones), ct, dx)
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


@lru_cache(256)
def _taps(
    size: Ints, space: Ints, kernel: Ints, stride: Ints, before: Ints, dilation: Ints
) -> list[tuple[tuple[slice, ...] | None, tuple[slice, ...]]]:
    """For each element of a window: the outputs for which it lies in the input, None for all, and those elements."""
    found = []
    for tap in product(*map(range, kernel)):
        axes = zip(size, space, stride, before, dilation, tap, strict=True)
        cuts = [cut for axis in axes if (cut := _reach(*axis)) is not None]
        if len(cuts) == len(kernel):
            outs, ins = tuple(cut[0] for cut in cuts), tuple(cut[1] for cut in cuts)
            found.append((None if outs == tuple(slice(0, n) for n in space) else outs, ins))
    return found


def _at(axis: int, cut: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, cut)


@lru_cache(256)
def _along(
    axis: int, size: int, out: int, kernel: int, stride: int, before: int, dilation: int
) -> tuple[list[tuple[tuple[slice, ...], tuple[slice, ...]]], int]:
    """`_reach` of all elements of a window, as indices; those that all outputs have come first, and how many they are."""
    reached = (_reach(size, out, stride, before, dilation, t) for t in range(kernel))
    cuts = [(_at(axis, cut[0]), _at(axis, cut[1])) for cut in reached if cut is not None]
    whole = [cut for cut in cuts if cut[0] == _at(axis, slice(0, out))]
    return whole + [cut for cut in cuts if cut not in whole], len(whole)


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
    cuts, whole = _along(axis, x.shape[axis], out, kernel, stride, before, dilation)
    y = into
    if y is None:
        y = scratch(f"pool.{axis}", (*x.shape[:axis], out, *x.shape[axis + 1 :]), x.dtype)
    if whole > 1:
        ufunc(x[cuts[0][1]], x[cuts[1][1]], out=y)
    elif whole:
        np.copyto(y, x[cuts[0][1]])
    else:
        y[...] = start
    for outs, ins in cuts[min(whole, 2) :]:
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
    return not x.flags.c_contiguous and x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous


def _like(x: Array, space: Ints) -> Array:
    """An array (N, C, *space) of the dtype and the layout of ``x``."""
    if _channels_last(x):
        last = np.empty((x.shape[0], *space, x.shape[1]), x.dtype)
        return last.transpose(0, last.ndim - 1, *range(1, last.ndim - 1))
    return np.empty((*x.shape[:2], *space), x.dtype)


def _apart(kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> int:
    """How far windows move along the first spatial axis, if there they neither meet nor reach the padding; else 0."""
    return stride[0] if stride[0] > (kernel[0] - 1) * dilation[0] and not padding[0][0] else 0


def _dense(x: Array, wide: np.dtype[Any], slot: str) -> Array:
    """``x`` in row-major order and in ``wide``."""
    if x.dtype == wide and x.flags.c_contiguous:
        return x
    copy = scratch(slot, x.shape, wide)
    np.copyto(copy, x)
    return copy


def _blocks(images: int, rows: int, count: int) -> list[tuple[slice, slice]]:
    """``count`` blocks, or some more, of about equal size: whole images, or rows of one."""
    if count <= images:
        return [(slice(images * i // count, images * (i + 1) // count), slice(0, rows)) for i in range(count)]
    parts = min(rows, -(-count // images))
    bounds = [(rows * i // parts, rows * (i + 1) // parts) for i in range(parts)]
    return [(slice(n, n + 1), slice(a, b)) for n in range(images) for a, b in bounds]


def _each(
    work: Callable[..., None],
    wide: np.dtype[Any],
    apart: int,
    *arrays: Array,
    finish: Finish | None = None,
) -> None:
    """Call ``work(*arrays, first)`` on blocks of images, spread over threads.

    Args:
        work: takes blocks of the arrays in the memory order of the largest, and the first spatial axis. Its operands come
            in ``wide`` and, but for the last, which is the result, without gaps.
        wide: the dtype to compute in.
        apart: where windows of neighbouring rows have nothing in common, by how many elements they are apart: then few
            images are cut into rows of windows. Else 0.
        arrays: the operands and the result, (N, C, ...).
        finish: is called for images of the result by the thread that made them, once they are there.
    """
    largest = max(arrays, key=lambda x: x.size)
    if any(x.size == 0 for x in arrays):
        if arrays[-1].size:
            arrays[-1][...] = 0
            if finish is not None:
                finish(slice(0, len(arrays[-1])))
        return
    first = 2
    if _channels_last(largest):
        first = 1
        arrays = tuple(x.transpose(0, *range(2, x.ndim), 1) for x in arrays)
    sizes = [x.shape[first] for x in arrays]
    windows = min(sizes)
    threads = 1 if _parallel.is_inside() else len(_parallel.pieces(largest.size, _WORTH))
    count = -(-largest.size * wide.itemsize // (_BYTES * threads)) * threads
    blocks = _blocks(len(largest), windows, count if apart else min(count, len(largest)))

    def cut(x: Array, size: int, block: tuple[slice, slice]) -> Array:
        some, part = block
        if part.stop - part.start == windows:
            return x[some]
        if size > windows:
            # The last block takes what is left over.
            part = slice(part.start * apart, size if part.stop == windows else part.stop * apart)
        return x[(some, *(slice(None),) * (first - 1), part)]

    def spread(part: slice) -> None:
        with np.errstate(all="ignore"):
            for block in blocks[part]:
                views = [cut(x, size, block) for x, size in zip(arrays, sizes, strict=True)]
                operands = [_dense(x, wide, f"pool.in.{i}") for i, x in enumerate(views[:-1])]
                work(*operands, views[-1], first)
        if finish is not None and whole:
            finish(slice(blocks[part][0][0].start, blocks[part][-1][0].stop))

    parts = [slice(len(blocks) * i // threads, len(blocks) * (i + 1) // threads) for i in range(threads)]
    whole = all(rows.stop - rows.start == windows for _, rows in blocks) and all(blocks[p] for p in parts)
    _parallel.run(spread, parts)
    if finish is not None and not whole:
        finish(slice(0, len(largest)))
