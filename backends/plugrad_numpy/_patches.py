"""The patch matrix of a convolution (im2col), block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from plugrad_numpy._parallel import scratch

__all__ = ["Patches", "channels_first", "channels_last"]

Array = np.ndarray[Any, Any]
Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

_BLOCK = 1 << 20
"""Bytes of a block of the patch matrix, about the cache of one core."""


def channels_last(x: Array) -> Array:
    """``x`` (N, C, *S) as (N, *S, C)."""
    return x.transpose(0, *range(2, x.ndim), 1)


class Patches:
    """The patch matrix of ``x`` (N, *S, C), of shape (groups, positions, K * C / groups), block by block.

    Attributes:
        planar: whether the positions, not the channels, are innermost in memory; columns are then in the
            order (channel, kernel position), else (kernel position, channel).
    """

    def __init__(
        self,
        x: Array,
        kernel: Ints,
        space: Sequence[int],
        stride: Ints,
        padding: Pairs,
        dilation: Ints,
        groups: int,
        dtype: np.dtype[Any],
    ) -> None:
        self.x, self.kernel, self.space, self.groups, self.dtype = x, kernel, tuple(space), groups, dtype
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.inner = x.shape[-1] // groups
        self.plain = x.dtype == dtype and groups == 1 and not any(map(any, padding))
        self.pointwise = self.plain and prod(kernel) == 1 and prod(stride) == 1
        # Copies cost about as much by the run as by 80 elements; a strided run costs 0.1 of that an element.
        run = self.inner * (kernel[-1] if dilation[-1] == 1 else 1)
        self.planar = 1 / run > 1 / self.space[-1] + (0.1 if stride[-1] > 1 else 0)
        if self.pointwise:
            self.planar = not x.flags.c_contiguous and channels_first(x).flags.c_contiguous

    def as_matrix(self, weight: Array) -> Array:
        """``weight`` (O, C / groups, *K) as (groups, K * C / groups, O / groups), rows as the patches' columns."""
        outs = weight.shape[0]
        if not self.planar:
            weight = channels_last(weight)
        rows = np.ascontiguousarray(weight, self.dtype).reshape(self.groups, outs // self.groups, -1)
        return rows.transpose(0, 2, 1)

    def as_weight(self, matrix: Array) -> Array:
        """The inverse of `as_matrix`, as (groups, O / groups, C / groups, *K)."""
        groups, _, outs = matrix.shape
        if self.planar:
            shaped = matrix.reshape(groups, self.inner, *self.kernel, outs)
            return shaped.transpose(0, shaped.ndim - 1, *range(1, shaped.ndim - 1))
        shaped = matrix.reshape(groups, *self.kernel, self.inner, outs)
        return shaped.transpose(0, shaped.ndim - 1, shaped.ndim - 2, *range(1, shaped.ndim - 2))

    def blocks(self, batch: slice, least: int) -> Iterator[tuple[slice, slice, Array]]:
        """Yield images of ``batch``, rows of the first spatial axis, and the patch matrix of those outputs.

        The next block overwrites the matrix. ``least`` is a lower bound on its positions, where there are so many.
        """
        space = self.space
        if self.pointwise and self.x.flags.c_contiguous:
            yield batch, slice(0, space[0]), self.x[batch].reshape(1, -1, self.inner)
            return
        if self.pointwise and self.planar:
            planes = channels_first(self.x).reshape(len(self.x), 1, self.inner, -1)
            for n in range(batch.start, batch.stop):
                yield slice(n, n + 1), slice(0, space[0]), planes[n].transpose(0, 2, 1)
            return
        width = prod(self.kernel) * self.inner
        positions, row = prod(space), prod(space[1:])
        count = max(least, _BLOCK // (width * self.groups * self.dtype.itemsize))
        images = _even(batch.stop - batch.start, count // positions)
        height = _even(space[0], count // row) if images == 1 else space[0]
        count = images * height * row
        shape = (self.groups, width, count) if self.planar else (self.groups, count, width)
        buffer = scratch("patches", shape, self.dtype)
        source = _Source(self, images)
        first = len(self.kernel) + 3
        for n in range(batch.start, batch.stop, images):
            several = slice(n, min(n + images, batch.stop))
            windows = source.windows(several)
            for r in range(0, space[0], height):
                rows = slice(r, min(r + height, space[0]))
                shape = (several.stop - n, rows.stop - r, *space[1:])
                if self.planar:
                    matrix = buffer[:, :, : prod(shape)]
                    target = matrix.reshape(self.groups, self.inner, *self.kernel, *shape)
                    np.copyto(target, windows[(slice(None),) * first + (rows,)])
                    yield several, rows, matrix.transpose(0, 2, 1)
                else:
                    matrix = buffer[:, : prod(shape)]
                    target = matrix.reshape(self.groups, *shape, *self.kernel, self.inner)
                    np.copyto(target, windows[:, :, rows])
                    yield several, rows, matrix


class _Source:
    """The padded input in the layout of the patches: the input itself where that will do, else a buffer."""

    def __init__(self, patches: Patches, images: int) -> None:
        x, groups, inner = patches.x, patches.groups, patches.inner
        spatial = range(1, x.ndim - 1)
        split = x.reshape(*x.shape[:-1], groups, inner)
        if patches.planar:
            source = split.transpose(x.ndim - 1, 0, x.ndim, *spatial)
        else:
            source = split.transpose(x.ndim - 1, 0, *spatial, x.ndim)
        self.source, self.target = source, None
        if not patches.plain or source.strides[-1] != source.itemsize:
            size = tuple(a + n + b for n, (a, b) in zip(x.shape[1:-1], patches.padding, strict=True))
            shape = (groups, images, inner, *size) if patches.planar else (groups, images, *size, inner)
            self.buffer = scratch("source", shape, patches.dtype)
            if any(map(any, patches.padding)):
                self.buffer[...] = 0
            within = tuple(slice(a, a + n) for n, (a, _) in zip(x.shape[1:-1], patches.padding, strict=True))
            before = (slice(None),) * (3 if patches.planar else 2)
            self.target = self.buffer[before + within]
            source = self.buffer
        space, kernel = patches.space, patches.kernel
        step_group, step_image, *steps = source.strides
        step_inner = steps.pop(0 if patches.planar else -1)
        moves = tuple(step * s for step, s in zip(steps, patches.stride, strict=True))
        taps = tuple(step * d for step, d in zip(steps, patches.dilation, strict=True))
        self.axis = 0
        count = source.shape[1]
        if patches.planar:
            self.axis = 2 + len(space)
            shape = (groups, inner, *kernel, count, *space)
            strides = (step_group, step_inner, *taps, step_image, *moves)
        else:
            self.axis = 1
            shape = (groups, count, *space, *kernel, inner)
            strides = (step_group, step_image, *moves, *taps, step_inner)
        self.view = as_strided(source, shape, strides, writeable=False)

    def windows(self, images: slice) -> Array:
        """The windows of ``images``: (groups, images, *So, *K, C), or (groups, C, *K, images, *So) if planar."""
        if self.target is not None:
            count = images.stop - images.start
            self.target[:, :count] = self.source[:, images]
            images = slice(0, count)
        return self.view[(slice(None),) * self.axis + (images,)]


def channels_first(x: Array) -> Array:
    """``x`` (N, *S, C) as (N, C, *S)."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def _even(length: int, most: int) -> int:
    """The size of blocks of at most ``most``, and at least 1, that cut ``length`` evenly."""
    count = -(-length // max(1, most))
    return -(-length // count)
