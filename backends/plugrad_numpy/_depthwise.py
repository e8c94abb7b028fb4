"""Depthwise convolution (one input channel a group), by shifted multiply-adds over the kernel's positions.

A matrix product would have one column here. Arrays are (N, *S, C), of any strides; images are spread over
threads, in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np

from plugrad_numpy import _parallel

__all__ = ["correlate", "weight_gradient"]

Array = np.ndarray[Any, Any]
Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

_BLOCK = 1 << 20
"""Bytes of a block of results. Smaller ones stay closer, but then threads wait for the interpreter lock between
the calls: 3.3 ms with 1 MB for 32 images of 64 channels, 28 by 28, and 3 by 3 positions; 7.7 with 128 kB."""


def correlate(
    x: Array,
    weight: Array,
    bias: Array | None,
    y: Array,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    dtype: np.dtype[Any],
) -> None:
    """Write the depthwise cross-correlation of ``x`` with ``weight``, plus ``bias``, to ``y``.

    Args:
        x: (N, *S, C).
        weight: (C * M, 1, *K); channel c makes the outputs c * M to c * M + M - 1.
        bias: (C * M,) of ``dtype``, or None.
        y: (N, *So, C * M).
        stride: the step per spatial axis.
        padding: zeros before and after each spatial axis.
        dilation: the distance of kernel elements per spatial axis.
        dtype: what to compute in.
    """
    channels = x.shape[-1]
    several = weight.shape[0] // channels
    kernel, space = weight.shape[2:], y.shape[1:-1]
    taps = weight.reshape(channels, several, -1).transpose(1, 2, 0).astype(dtype)
    # Weights repeated along the last spatial axis make that axis and the channels one contiguous run.
    tiled = np.repeat(taps[:, :, None, :], space[-1], axis=2)
    biases = None if bias is None else bias.reshape(channels, several).T

    def work(images: slice) -> None:
        for block, rows, windows in _windows(x, images, kernel, space, stride, padding, dilation, dtype):
            for m in range(several):
                total = term = None
                for window, tap in zip(windows, tiled[m], strict=True):
                    if total is None:
                        total = np.multiply(window, tap)
                    else:
                        term = np.multiply(window, tap, out=term)
                        total += term
                assert total is not None
                if biases is not None:
                    total += biases[m]
                y[block, rows, ..., m::several] = total

    _parallel.run(work, _parallel.pieces(len(x), _least(y)))


def weight_gradient(
    x: Array,
    ct: Array,
    dw: Array,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    dtype: np.dtype[Any],
) -> None:
    """Write the adjoint of `correlate` in the weight to ``dw`` (C * M, 1, *K), given ``ct`` (N, *So, C * M)."""
    channels = x.shape[-1]
    several = ct.shape[-1] // channels
    kernel, space = dw.shape[2:], ct.shape[1:-1]
    sums: dict[int, Array] = {}

    def work(images: slice) -> None:
        total = sums[images.start] = np.zeros((several, prod(kernel), channels), dtype)
        term = None
        for block, rows, windows in _windows(x, images, kernel, space, stride, padding, dilation, dtype):
            ones = np.ones(windows[0].size // channels, dtype)
            for m in range(several):
                part = np.ascontiguousarray(ct[block, rows, ..., m::several], dtype)
                for k, window in enumerate(windows):
                    if term is None or term.shape != part.shape:
                        term = np.empty_like(part)
                    np.multiply(window, part, out=term)
                    total[m, k] += ones @ term.reshape(-1, channels)

    _parallel.run(work, _parallel.pieces(len(x), _least(ct)))
    total = np.add.reduce([sums[start] for start in sorted(sums)])
    dw.reshape(channels, several, *kernel)[...] = total.transpose(2, 0, 1).reshape(channels, several, *kernel)


def _least(y: Array) -> int:
    """Images that are worth a thread: about 100,000 results."""
    return -(-100_000 // max(1, int(prod(y.shape[1:]))))


def _windows(
    x: Array,
    images: slice,
    kernel: Ints,
    space: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    dtype: np.dtype[Any],
) -> Iterator[tuple[slice, slice, list[Array]]]:
    """Yield images, rows of the first spatial axis, and per kernel position what it is multiplied with there."""
    row = prod(space[1:]) * x.shape[-1] * dtype.itemsize
    several = max(1, min(images.stop - images.start, _BLOCK // max(1, row * space[0])))
    height = space[0] if several > 1 else max(1, min(space[0], _BLOCK // max(1, row)))
    padded = any(map(any, padding))
    buffer = within = None
    if padded or x.dtype != dtype or x.strides[-1] != x.itemsize:
        size = tuple(a + n + b for n, (a, b) in zip(x.shape[1:-1], padding, strict=True))
        buffer = np.zeros((several, *size, x.shape[-1]), dtype)
        within = buffer[:, *(slice(a, a + n) for n, (a, _) in zip(x.shape[1:-1], padding, strict=True))]
    for n in range(images.start, images.stop, several):
        block = slice(n, min(n + several, images.stop))
        source = x[block]
        if buffer is not None and within is not None:
            within[: block.stop - n] = source
            source = buffer[: block.stop - n]
        for r in range(0, space[0], height):
            rows = slice(r, min(r + height, space[0]))
            counts = (rows.stop - r, *space[1:])
            starts = (r * stride[0], *(0,) * (len(space) - 1))
            windows = []
            for tap in product(*map(range, kernel)):
                lows = [a + t * d for a, t, d in zip(starts, tap, dilation, strict=True)]
                cut = (slice(a, a + (c - 1) * s + 1, s) for a, c, s in zip(lows, counts, stride, strict=True))
                windows.append(source[:, *cut])
            yield block, rows, windows
