"""Philox 4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
easy as 1, 2, 3" (SC 2011): a bijection of 128-bit counters, chosen by a 64-bit key, of ten rounds.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from plugrad_numpy import _parallel

__all__ = ["philox", "random_bits"]

Array = np.ndarray[Any, Any]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

_MASK = 0xFFFFFFFF

_FEW = 8
"""Blocks up to which Python's integers are faster than NumPy's calls, which take 60 us for any number."""

_CHUNK = 1 << 13
"""Counters worked on at once: the temporaries take 330 kB."""

_WORTH = 1 << 15
"""Counters that are worth a thread."""


def philox(key: tuple[int, int], counter: int, n: int, out: Array | None = None) -> Array:
    """``n`` words of 32 bits: word i is word i % 4 of the block of counter ``counter`` + i // 4.

    Args:
        key: its two words, the first the low one.
        counter: the first counter, below 2**128; counters wrap around there.
        n: the number of words.
        out: a contiguous uint32 array of ``n`` elements to write, or None.
    """
    if out is None:
        out = np.empty(n, np.uint32)
    whole = n // 4
    if n <= 4 * _FEW:
        out[:] = [word for i in range(-(-n // 4)) for word in _block(key, counter + i)][:n]
        return out
    blocks = out[: 4 * whole].reshape(whole, 4)

    def work(part: slice) -> None:
        for start in range(part.start, part.stop, _CHUNK):
            stop = min(start + _CHUNK, part.stop)
            _blocks(key, counter + start, blocks[start:stop])

    _parallel.run(work, _parallel.pieces(whole, _WORTH))
    if n % 4:
        out[4 * whole :] = _block(key, counter + whole)[: n % 4]
    return out


def random_bits(key: Array, counter: Array, *, shape: tuple[int, ...], into: Array | None = None) -> Array:
    """uint32 words of ``shape``, in row-major order, of the stream of ``key`` that starts at ``counter``.

    Args:
        key: (2,) uint32, least significant word first.
        counter: (4,) uint32, least significant word first.
        shape: of the result.
        into: a uint32 array of that shape to write, or None.
    """
    low, high = (int(word) for word in key)
    start = sum(int(word) << 32 * i for i, word in enumerate(counter))
    size = prod(shape)
    if into is None:
        return philox((low, high), start, size).reshape(shape)
    if into.flags.c_contiguous:
        philox((low, high), start, size, into.reshape(-1))
    else:
        into[...] = philox((low, high), start, size).reshape(shape)
    return into


def _block(key: tuple[int, int], counter: int) -> list[int]:
    """The block of one counter."""
    k0, k1 = key
    c0, c1, c2, c3 = counter & _MASK, counter >> 32 & _MASK, counter >> 64 & _MASK, counter >> 96 & _MASK
    for _ in range(_ROUNDS):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & _MASK, p0 >> 32 ^ c3 ^ k1, p0 & _MASK
        k0, k1 = k0 + _WEYL[0] & _MASK, k1 + _WEYL[1] & _MASK
    return [c0, c1, c2, c3]


def _blocks(key: tuple[int, int], counter: int, out: Array) -> None:
    """Write the blocks of the counters from ``counter`` on to ``out`` (n, 4)."""
    n = len(out)
    c0, c1, c2, c3 = _counters(counter, n)
    product = np.empty(n, np.uint64)
    k0, k1 = key
    for _ in range(_ROUNDS):
        # (c0, c1, c2, c3) becomes (high(M1 c2) ^ c1 ^ k0, low(M1 c2), high(M0 c0) ^ c3 ^ k1, low(M0 c0)).
        np.multiply(c2, _MULTIPLIERS[1], out=product)
        np.multiply(c0, _MULTIPLIERS[0], out=c0)
        np.right_shift(product, _HALF, out=c2)
        c1 ^= c2
        c1 ^= np.uint64(k0)
        np.right_shift(c0, _HALF, out=c2)
        c3 ^= c2
        c3 ^= np.uint64(k1)
        product &= _LOW
        c0 &= _LOW
        c0, c1, c2, c3, product = c1, product, c3, c0, c2
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    for column, word in enumerate((c0, c1, c2, c3)):
        out[:, column] = word


def _counters(counter: int, n: int) -> list[Array]:
    """The four words, each as 64 bits, of ``n`` counters from ``counter`` on, modulo 2**128."""
    words = [counter >> 32 * i & 0xFFFFFFFF for i in range(4)]
    columns = [np.full(n, word, np.uint64) for word in words]
    columns[0] += np.arange(n, dtype=np.uint64)
    if words[0] + n > 1 << 32:
        for low, high in pairwise(columns):
            high += low >> _HALF
        for column in columns:
            column &= _LOW
    return columns
