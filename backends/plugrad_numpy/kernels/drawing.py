"""Random words and counters, and what is drawn most. The rest are bodies over these."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy._philox import random_bits
from plugrad_numpy.kernels._precision import given
from plugrad_numpy.kernels._table import table

Array = Any
Shape = tuple[int, ...]

table(ops.random_bits)(random_bits)


@table(ops.advance_counter)
def _(counter: Array, *, blocks: int, into: Any = None) -> tuple[Array, Array]:
    w0, w1, w2, w3 = counter.tolist()
    total = w0 + (w1 << 32) + (w2 << 64) + (w3 << 96) + blocks
    following = np.array([total >> 32 * i & 0xFFFFFFFF for i in range(4)], np.uint32)
    return (counter, following) if into is None else (given(counter, into[0]), given(following, into[1]))


def _fraction(key: Array, counter: Array, shape: Shape, double: bool) -> Array:
    """Numbers in [0, 1): of 24 bits in float32, or of 53 in float64."""
    n = math.prod(shape)
    if not double:
        bits = random_bits(key, counter, shape=(n,))
        bits >>= 8
        out = bits.astype(np.float32)
        out *= np.float32(2.0**-24)
    else:
        upper, lower = random_bits(key, counter, shape=(2, n))
        upper >>= 5
        lower >>= 6
        out = upper.astype(np.float64)
        out *= 2.0**26
        out += lower
        out *= 2.0**-53
    return out.reshape(shape)


@table(ops.random_uniform)
def _(
    key: Array,
    counter: Array,
    *,
    shape: Shape,
    dtype: Any,
    low: float,
    high: float,
    into: Array | None = None,
) -> Array:
    out = _fraction(key, counter, shape, dtype.itemsize == 8)
    own = dtype.numpy
    if (low, high) != (0.0, 1.0):
        out *= out.dtype.type(high - low)
        out += out.dtype.type(low)
    elif out.dtype == own:
        return given(out, into)
    below = np.nextafter(own.type(high), own.type(-np.inf))
    # What is rounded above the limit, or to it, is brought below in the narrow dtype.
    np.minimum(out, below.astype(out.dtype), out=out)
    return given(out.astype(own, copy=False), into)


@table(ops.random_bernoulli)
def _(key: Array, counter: Array, *, shape: Shape, p: float, into: Array | None = None) -> Array:
    threshold = round(p * 2**32)
    if threshold == 1 << 32:
        return given(np.ones(shape, np.bool_), into)
    return np.less(random_bits(key, counter, shape=shape), np.uint32(threshold), out=into)
