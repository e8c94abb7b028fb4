"""Convolution of 1 to 3 spatial dimensions: forward, and its adjoints in the data and in the weight.

Arrays are addressed as (N, C, *S). The layout in memory that needs no copies is channels-last: an array
of that shape whose memory runs (N, *S, C). Any strides are taken; results are channels-last.

The method is im2col in blocks that stay in the cache, and one matrix product a block. A patch matrix
has one row for each output position. It is stored with the channels innermost, where runs of
(last kernel axis x channels) elements are copied at once, or with the positions innermost, where there
are few channels and runs along the last spatial axis are longer. The adjoint in the data is the same
routine: for a stride s it falls into prod(s) correlations of stride 1 ("phases"), each of the cotangent with
those kernel positions that reach one residue class of the input, so that nothing is multiplied by the zeros
of a dilated cotangent and nothing is scattered. float16 and bfloat16 are computed in float32 and rounded once.

In float32, 3 by 3 kernels at stride 1 over enough channels take fewer multiplications: see `_winograd`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import gcd, prod
from typing import Any

import numpy as np

from plugrad_numpy import _depthwise, _parallel, _winograd
from plugrad_numpy._blas import can_limit, matmul, single_threaded
from plugrad_numpy._chunks import compute_dtype
from plugrad_numpy._parallel import scratch
from plugrad_numpy._patches import Patches, channels_last

__all__ = ["conv", "conv_dw", "conv_dx"]

Array = np.ndarray[Any, Any]
Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Finish = Callable[[slice], None]
"""Is called for the images of a result that a thread made, all at once, by that thread: block by block, threads would meet
at Python's lock so often that a kernel of its own were faster."""

_LEAST = 512
"""Output positions that a block has at least, so that packing the weight in each product stays cheap."""

_WORTH = 2 << 20
"""Multiply-adds that are worth a thread: about what is done while one wakes up."""

_FINISH = 32
"""Multiply-adds that what finishes a result costs as much as, by element."""

_WIDE = 1024
"""Elements from which rows of memory pay for the step from one to the next."""


def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: Array | None = None,
    finish: Finish | None = None,
) -> Array:
    """Cross-correlation of ``x`` with ``weight``, plus ``bias`` per output channel.

    Args:
        x: (N, C, *S), floating.
        weight: (O, C / groups, *K).
        bias: (O,) or None.
        stride: a positive integer per spatial axis.
        padding: zeros before and after each spatial axis.
        dilation: the distance of kernel elements per spatial axis.
        groups: divides C and O; block g of the output channels sees block g of the input channels.
        into: where to write the result, of any strides; None allocates a channels-last array.
        finish: is called for images of the result by the thread that made them, once they are there.

    Returns:
        (N, O, *So) with So = (S + before + after - dilation * (K - 1) - 1) // stride + 1.
    """
    space = tuple(
        (n + a + b - d * (k - 1) - 1) // s + 1
        for n, (a, b), d, k, s in zip(x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True)
    )
    y, y_last = _result(into, x.shape[0], weight.shape[0], space, x.dtype)
    x_last = channels_last(x)
    rest = [slice(0, len(x))]  # images that are left
    if _winograd.takes(x_last, weight.shape[0], weight.shape[2:], stride, padding, dilation, groups):
        rest = _by_tiles(x_last, _winograd.transformed(weight), bias, y_last, padding, finish)
    for images in rest:
        own = _shifted(finish, images.start)
        _correlate(x_last[images], weight, bias, y_last[images], stride, padding, dilation, groups, own)
    return y


def conv_dx(
    ct: Array,
    weight: Array,
    x_shape: Ints,
    bias: Array | None = None,
    *,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: Array | None = None,
    finish: Finish | None = None,
) -> Array:
    """The adjoint of `conv` in ``x``, which is also the transposed convolution of ``ct``.

    Args:
        ct: (N, O, *So), the cotangent of the result of `conv`.
        weight: (O, C / groups, *K).
        x_shape: (N, C, *S), the shape of the result.
        bias: (C,), added to the result, or None.
        stride: as of `conv`.
        padding: as of `conv`.
        dilation: as of `conv`.
        groups: as of `conv`.
        into: where to write the result, of any strides; None allocates a channels-last array.
        finish: as of `conv`.
    """
    batch, channels, *size = x_shape
    dx, dx_last = _result(into, batch, channels, tuple(size), ct.dtype)
    ct_last = channels_last(ct)
    kernel = weight.shape[2:]
    turned_padding = tuple((k - 1 - a, k - 1 - b) for k, (a, b) in zip(kernel, padding, strict=True))
    rest = [slice(0, batch)]
    if _winograd.takes(ct_last, channels, kernel, stride, turned_padding, dilation, groups):
        u = _winograd.transformed(weight, turned=True)
        rest = _by_tiles(ct_last, u, bias, dx_last, turned_padding, finish)
    for images in rest:
        own = _shifted(finish, images.start)
        _adjoint(ct_last[images], weight, bias, dx_last[images], stride, padding, dilation, groups, own)
    return dx


def _adjoint(
    ct: Array,
    weight: Array,
    bias: Array | None,
    dx: Array,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    finish: Finish | None,
) -> None:
    """Write the adjoint in the data of ``ct`` (N, *So, O), plus ``bias``, to ``dx`` (N, *S, C), phase by phase."""
    size, channels = dx.shape[1:-1], dx.shape[-1]
    outs, inner, *kernel = weight.shape
    turned = weight.reshape(groups, outs // groups, inner, *kernel).swapaxes(1, 2)
    befores = [before for before, _ in padding]
    phases = list(product(*map(_phases, size, ct.shape[1:-1], kernel, stride, befores, dilation)))
    # Images are finished with the only phase that there is, or when all phases are done.
    own = finish if len(phases) == 1 and all(axis.taps is not None for axis in phases[0]) else None
    for phase in phases:
        part = dx[:, *(axis.target for axis in phase)]
        if part.size == 0:
            continue
        if any(axis.taps is None for axis in phase):
            part[...] = 0 if bias is None else bias
            continue
        taps = turned[..., *(axis.taps for axis in phase)]
        _correlate(
            ct[:, *(axis.source for axis in phase)],
            taps.reshape(channels, outs // groups, *taps.shape[3:]),
            bias,
            part,
            (1,) * len(size),
            tuple(axis.padding for axis in phase),
            tuple(axis.dilation for axis in phase),
            groups,
            own,
        )
    if finish is not None and own is None and dx.size:
        _spread(finish, len(dx), dx.size * _FINISH)


def conv_dw(
    ct: Array,
    x: Array,
    weight_shape: Ints,
    *,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    into: Array | None = None,
) -> Array:
    """The adjoint of `conv` in ``weight``.

    Args:
        ct: (N, O, *So), the cotangent of the result of `conv`.
        x: (N, C, *S).
        weight_shape: (O, C / groups, *K), the shape of the result.
        stride: as of `conv`.
        padding: as of `conv`.
        dilation: as of `conv`.
        groups: as of `conv`.
        into: where to write the result; None allocates a row-major array.
    """
    outs, inner, *kernel = weight_shape
    dw = np.empty(weight_shape, x.dtype) if into is None else into
    if dw.size == 0 or ct.size == 0:
        dw[...] = 0
        return dw
    x_last, ct_last, dtype = channels_last(x), channels_last(ct), compute_dtype(x.dtype)
    if groups > 1 and inner == 1:
        _depthwise.weight_gradient(x_last, ct_last, dw, stride, padding, dilation, dtype)
        return dw
    if _winograd.takes(x_last, outs, tuple(kernel), stride, padding, dilation, groups):
        _by_tiles_dw(x_last, ct_last, dw, padding)
        if np.isfinite(np.dot(dw.reshape(-1), dw.reshape(-1))):
            return dw
    patches = Patches(x_last, tuple(kernel), ct.shape[2:], stride, padding, dilation, groups, dtype)
    totals: dict[int, Array] = {}

    def work(batch: slice) -> None:
        more = None
        for images, rows, matrix in patches.blocks(batch, 2 * _LEAST):
            block = np.ascontiguousarray(ct_last[images, rows], dtype).reshape(-1, groups, outs // groups)
            part = matmul(matrix.transpose(0, 2, 1), block.transpose(1, 0, 2), out=more)
            if batch.start in totals:
                more = part
                totals[batch.start] += part
            else:
                totals[batch.start] = part

    _spread(work, len(x), ct.size * prod(weight_shape[1:]))
    first, *others = (totals[start] for start in sorted(totals))
    for other in others:
        first += other
    dw.reshape(groups, outs // groups, inner, *kernel)[...] = patches.as_weight(first)
    return dw


def _by_tiles(
    x: Array, u: Array, bias: Array | None, y: Array, padding: Pairs, finish: Finish | None
) -> list[slice]:
    """`_winograd.correlate` over all images, spread over threads."""
    rest: list[slice] = []

    def work(batch: slice) -> None:
        left = _winograd.correlate(x, u, bias, y, padding, batch)
        rest.extend(left)
        if finish is not None:
            for images in _without(batch, left):
                finish(images)

    _spread(work, len(x), y.size * u.shape[1] * 4)
    return rest


def _by_tiles_dw(x: Array, ct: Array, dw: Array, padding: Pairs) -> None:
    """Write to ``dw`` the gradient of the kernels by `_winograd`, spread over threads."""
    parts = _pieces(len(x), ct.size * x.shape[-1] * 4)
    totals = scratch("totals", (len(parts), 16, ct.shape[-1], x.shape[-1]), x.dtype)

    def work(index: int) -> None:
        _winograd.add_products(x, ct, padding, parts[index], totals[index])

    _run(work, range(len(parts)))
    for other in totals[1:]:
        totals[0] += other
    _winograd.kernel_gradient(totals[0], dw)


def _shifted(finish: Finish | None, images: int) -> Finish | None:
    """``finish`` for blocks whose images are counted from another one."""
    if finish is None or images == 0:
        return finish
    return lambda part: finish(slice(part.start + images, part.stop + images))


def _without(batch: slice, left: Sequence[slice]) -> list[slice]:
    """The ranges of ``batch`` between those that are ``left``."""
    bounds = [batch.start, *(b for s in sorted(left, key=_start) for b in (s.start, s.stop)), batch.stop]
    return [slice(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if a < b]


def _start(part: slice) -> int:
    return int(part.start)


def _spread(work: Callable[[slice], None], batch: int, products: int) -> None:
    """Call ``work`` on ranges that make up ``batch`` images, one a thread where the work is worth it.

    Then each thread makes its patches and its products alone: a product that runs on several cores would fetch
    half of the patches from another core's cache, which takes as long as making them (measured: 1.4 to 2.5
    times slower in all).
    """
    _run(work, _pieces(batch, products))


def _pieces(batch: int, products: int) -> list[slice]:
    """Ranges that make up ``batch`` images, one a thread where so many multiply-adds are worth it."""
    if not can_limit():
        return [slice(0, batch)]
    parts = _parallel.pieces(batch, -(-_WORTH * batch // max(1, products)))
    return [part for part in parts if part.start < part.stop] or parts[:1]


def _run(work: Callable[[Any], None], parts: Sequence[Any]) -> None:
    """Call ``work`` on each part, side by side."""
    if len(parts) == 1:
        work(parts[0])
        return
    with single_threaded():
        _parallel.run(work, parts)


def _result(
    into: Array | None, batch: int, channels: int, space: Ints, dtype: np.dtype[Any]
) -> tuple[Array, Array]:
    """The result as (N, C, *S) and as (N, *S, C)."""
    if into is not None:
        return into, channels_last(into)
    last = np.empty((batch, *space, channels), dtype)
    return last.transpose(0, last.ndim - 1, *range(1, last.ndim - 1)), last


class _Phase:
    """One residue class of one spatial axis of the input, and the correlation that makes its gradient.

    Attributes:
        target: which input positions.
        source: which part of the cotangent reaches them, the rest being cropped.
        taps: which kernel positions do, in the order of the correlation; None if none does.
        padding: zeros before and after the cropped cotangent.
        dilation: the distance in the cotangent between consecutive taps.
    """

    __slots__ = ("dilation", "padding", "source", "taps", "target")

    def __init__(
        self, size: int, out: int, kernel: int, stride: int, before: int, dilation: int, residue: int
    ) -> None:
        first = (residue - before) % stride
        self.target = slice(first, size, stride)
        self.taps: slice | None = None
        start = next((t for t in range(kernel) if (t * dilation - residue) % stride == 0), None)
        if start is None:
            return
        common = gcd(stride, dilation)
        step = stride // common
        self.dilation = dilation // common
        count = (kernel - 1 - start) // step + 1
        reach = (count - 1) * self.dilation
        # Input first + stride * m is reached by output shift + m - dilation' * j through tap start + step * j.
        shift = (first + before - start * dilation) // stride
        low = reach - shift
        high = len(range(first, size, stride)) - out + reach - low
        self.source = slice(max(0, -low), out - max(0, -high))
        self.padding = (max(0, low), max(0, high))
        if self.source.start < self.source.stop:
            self.taps = slice(start + step * (count - 1), None, -step)


def _phases(size: int, out: int, kernel: int, stride: int, before: int, dilation: int) -> list[_Phase]:
    return [_Phase(size, out, kernel, stride, before, dilation, residue) for residue in range(stride)]


def _correlate(
    x: Array,
    weight: Array,
    bias: Array | None,
    y: Array,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    finish: Finish | None = None,
) -> None:
    """Write the cross-correlation of ``x`` (N, *S, C) with ``weight`` (O, C / groups, *K) to ``y`` (N, *So, O)."""
    if y.size == 0:
        return
    outs, inner, *kernel = weight.shape
    dtype = compute_dtype(x.dtype)
    if bias is not None:
        bias = bias.astype(dtype, copy=False)
    if x.size == 0 or weight.size == 0:
        y[...] = 0 if bias is None else bias
        if finish is not None:
            finish(slice(0, len(y)))
        return
    if groups > 1 and inner == 1:
        _depthwise.correlate(x, weight, bias, y, stride, padding, dilation, dtype)
        if finish is not None:
            _spread(finish, len(y), y.size * _FINISH)
        return
    patches = Patches(x, tuple(kernel), y.shape[1:-1], stride, padding, dilation, groups, dtype)
    matrix_of_weight = patches.as_matrix(weight)
    direct = y.dtype == dtype and y.flags.c_contiguous

    def work(batch: slice) -> None:
        for images, rows, matrix in patches.blocks(batch, _LEAST):
            part = y[images, rows]
            out = part.reshape(-1, outs) if direct else scratch("result", (matrix.shape[1], outs), dtype)
            matmul(matrix, matrix_of_weight, out=out.reshape(-1, groups, outs // groups).transpose(1, 0, 2))
            if bias is not None:
                _add_to_rows(out, bias)
            if not direct:
                part[...] = out.reshape(part.shape)
        if finish is not None:
            finish(batch)

    _spread(work, len(x), y.size * prod(weight.shape[1:]))


def _add_to_rows(x: Array, row: Array) -> None:
    """``x += row``, several rows of ``x``, which is contiguous, at once where they are short."""
    times = gcd(len(x), 1 << max(0, (_WIDE - 1) // len(row)).bit_length())
    wide = x.reshape(-1, times * len(row))
    np.add(wide, np.tile(row, times), out=wide)
