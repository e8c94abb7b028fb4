"""Dropout: masks of random words, made and compared in blocks that stay in the cache."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.ops.dropout import LEVELS
from plugrad_numpy import _parallel
from plugrad_numpy._philox import philox
from plugrad_numpy.kernels._fused import fused
from plugrad_numpy.kernels._masks import keep
from plugrad_numpy.kernels._precision import given
from plugrad_numpy.kernels._table import table

Array = Any

_BLOCK: Final = 1 << 12
"""Counters of a block; each gives eight elements."""

_WORTH: Final = 1 << 14
"""Counters that are worth a thread."""


def _number(words: Array) -> int:
    return sum(int(word) << 32 * i for i, word in enumerate(words.tolist()))


@table(ops.dropout_mask)
def _(key: Array, counter: Array, *, shape: tuple[int, ...], p: float, into: Array | None = None) -> Array:
    threshold, n = round(p * LEVELS), math.prod(shape)
    if threshold in (0, LEVELS):
        return given(np.full(shape, threshold == 0), into)
    mask = np.empty(n, np.bool_)
    low, high = key.tolist()
    start, limit = _number(counter), np.uint16(threshold)

    def work(part: slice) -> None:
        for i in range(part.start, part.stop, _BLOCK):
            target = mask[8 * i : 8 * min(i + _BLOCK, part.stop)]
            count = -(-len(target) // 2)
            words = philox(
                (low, high), start + i, count, _parallel.scratch("dropout", (count,), np.dtype(np.uint32))
            )
            halves = words.astype("<u4", copy=False).view("<u2")[: len(target)]
            np.greater_equal(halves, limit, out=target)

    _parallel.run(work, _parallel.pieces(-(-n // 8), _WORTH))
    return given(mask.reshape(shape), into)


def _scaled(x: Array, mask: Array, into: Array | None, scale: float) -> Array:
    if into is None and x.shape != mask.shape:
        into = np.empty(np.broadcast_shapes(x.shape, mask.shape), x.dtype)
    result = np.multiply(x, x.dtype.type(scale), into)
    return keep(result, mask, result)


@fused(ops.masked_scale, inplace=("x",))
def _(x: Array, mask: Array, into: Array | None, *, scale: float) -> Array:
    return _scaled(x, mask, into, scale)


@fused(ops.masked_scale.vjp_for("x"), inplace=("ct",))
def _(ct: Array, mask: Array, into: Array | None, *, scale: float) -> Array:
    return _scaled(ct, mask, into, scale)
