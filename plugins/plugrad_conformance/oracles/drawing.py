"""Random numbers of Philox 4x32-10, and what is made of them.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3 and table 2.
Words of keys and counters are stored from the least significant on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plugrad import dtypes
from plugrad_conformance.oracles._elementwise import elementwise
from plugrad_conformance.oracles._register import oracle

Shape = tuple[int, ...]


def _from_words(parts: np.ndarray) -> int:
    return sum(int(word) << 32 * i for i, word in enumerate(parts))


def _to_words(value: int) -> np.ndarray:
    return np.array([value >> 32 * i & 0xFFFFFFFF for i in range(4)], np.uint32)


def _philox(key: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """The blocks, uint64 (n, 4), of counters (n, 4): ten rounds of multiplication and exchange."""
    low = np.uint64(0xFFFFFFFF)
    a, b, c, d = counters.astype(np.uint64).T
    key0, key1 = (int(word) for word in key)
    for _ in range(10):
        # A product of two words fits 64 bits: its halves are the "mulhi" and "mullo" of the paper.
        left, right = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (
            right >> np.uint64(32) ^ b ^ np.uint64(key0),
            right & low,
            left >> np.uint64(32) ^ d ^ np.uint64(key1),
            left & low,
        )
        key0, key1 = (key0 + 0x9E3779B9) % 2**32, (key1 + 0xBB67AE85) % 2**32
    return np.stack([a, b, c, d], axis=1)


def words(key: np.ndarray, counter: np.ndarray, n: int) -> np.ndarray:
    """The first ``n`` random words, in uint64."""
    start = _from_words(counter)
    counters = [_to_words(start + i) for i in range(-(-n // 4))]
    return _philox(key, np.array(counters, np.uint32).reshape(-1, 4)).reshape(-1)[:n]


@oracle("advance_counter")
def advance_counter(counter: np.ndarray, *, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """The counter, and the one after ``blocks`` blocks."""
    return np.array(counter), _to_words(_from_words(counter) + blocks)


@elementwise("random_bits")
def random_bits(key: np.ndarray, counter: np.ndarray, *, shape: Shape) -> Any:
    """Random words."""
    return words(key, counter, math.prod(shape)).astype(np.uint32).reshape(shape)


def _53_bits(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The upper 27 bits of the one word and the upper 26 of the other, as a fraction."""
    bits = (upper >> np.uint64(5) << np.uint64(26)) + (lower >> np.uint64(6))
    return np.ldexp(bits.astype(np.float64), -53)


def _24_bits(word: np.ndarray) -> np.ndarray:
    """The upper 24 bits of a word, as a fraction."""
    return np.ldexp((word >> np.uint64(8)).astype(np.float64), -24)


@elementwise("random_uniform")
def random_uniform(
    key: np.ndarray,
    counter: np.ndarray,
    *,
    shape: Shape,
    dtype: dtypes.DType = dtypes.float32,
    low: float = 0.0,
    high: float = 1.0,
) -> Any:
    """Uniform numbers of [low, high)."""
    n = math.prod(shape)
    if dtype is dtypes.float64:
        fraction = _53_bits(*words(key, counter, 2 * n).reshape(2, n))
    else:
        fraction = _24_bits(words(key, counter, n))
    start, limit = (np.asarray(value, dtype.numpy) for value in (low, high))
    below = np.nextafter(limit, np.asarray(-np.inf, dtype.numpy)).astype(np.float64)
    start, limit = start.astype(np.float64), limit.astype(np.float64)
    return np.minimum(fraction * (limit - start) + start, below).reshape(shape)


@elementwise("random_normal")
def random_normal(
    key: np.ndarray,
    counter: np.ndarray,
    *,
    shape: Shape,
    dtype: dtypes.DType = dtypes.float32,
    mean: float = 0.0,
    std: float = 1.0,
) -> Any:
    """Normal numbers, by the transform of Box and Muller."""
    n = math.prod(shape)
    m = -(-n // 2)
    if dtype is dtypes.float64:
        w0, w1, w2, w3 = words(key, counter, 4 * m).reshape(4, m)
        # A half of the last bit keeps the logarithm's operand from 0.
        u, turn = _53_bits(w0, w1) + 2.0**-54, _53_bits(w2, w3)
    else:
        w0, w1 = words(key, counter, 2 * m).reshape(2, m)
        # The word is a float32 first: where u is close to 1, its rounding decides whether the radius is 0.
        u = np.ldexp((w0.astype(np.float32) + np.float32(0.5)).astype(np.float64), -32)
        turn = _24_bits(w1)
    radius = np.sqrt(-2.0 * np.log(u))
    both = np.concatenate([radius * np.cos(math.tau * turn), radius * np.sin(math.tau * turn)])
    return (both[:n] * std + mean).reshape(shape)


@elementwise("random_bernoulli")
def random_bernoulli(key: np.ndarray, counter: np.ndarray, *, shape: Shape, p: float = 0.5) -> Any:
    """Whether each word is less than the probability."""
    return (words(key, counter, math.prod(shape)) < np.uint64(round(p * 2**32))).reshape(shape)


@elementwise("random_permutation")
def random_permutation(key: np.ndarray, counter: np.ndarray, *, n: int) -> Any:
    """The order of ``n`` words of 64 bits."""
    upper, lower = words(key, counter, 2 * n).reshape(2, n)
    return np.argsort(upper << np.uint64(32) | lower, kind="stable").astype(np.int64)


@elementwise("random_integers")
def random_integers(
    key: np.ndarray,
    counter: np.ndarray,
    *,
    shape: Shape,
    low: int,
    high: int,
    dtype: dtypes.DType = dtypes.int64,
) -> Any:
    """Integers of [low, high), by exact integers of Python."""
    n, span = math.prod(shape), high - low
    each = 2 if span <= 2**32 else 3
    rows = words(key, counter, each * n).reshape(each, n)
    fractions = (_from_words(column[::-1]) for column in rows.T)
    numbers = [low + (fraction * span >> 32 * each) for fraction in fractions]
    return np.array(numbers, dtype.numpy).reshape(shape)
