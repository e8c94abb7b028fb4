"""Random bits for data: a pure function of a seed, a purpose, an epoch and a batch.

The generator is Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
counter-based: the key is (seed, epoch), the upper half of the counter is (purpose, batch), and what is drawn
counts up in the lower half. So nothing has to be replayed to reach a position, and no two purposes share
bits.
"""

from __future__ import annotations

import operator
from enum import IntEnum
from typing import Any

import numpy as np

from plugrad.errors import ArgumentError

Indices = np.ndarray[tuple[int], np.dtype[np.int64]]


class Purpose(IntEnum):
    """What bits are drawn for."""

    ORDER = 0
    AUGMENT = 1
    SPLIT = 2


def check_int(what: str, value: Any, low: int, high: int | None = None) -> int:
    """``value`` as an int of at least ``low`` and, if given, below ``high``.

    Raises:
        ArgumentError: if it is no such integer.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, (bool, np.bool_)) or number < low or (high is not None and number >= high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high - 1}"
        raise ArgumentError(f"{what}: got {value!r}, takes an integer {bounds}")
    return number


def check_seed(what: str, seed: Any) -> int:
    """``seed`` as an int of 64 bits.

    Raises:
        ArgumentError: if it is no integer from 0 to 2**64 - 1.
    """
    return check_int(f"{what}: seed", seed, 0, 2**64)


def generator(seed: int, purpose: Purpose, epoch: int = 0, batch: int = 0) -> np.random.Generator:
    """The generator at a position."""
    key = np.array([seed, epoch], np.uint64)
    counter = np.array([0, 0, purpose, batch], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def permutation(n: int, seed: int, purpose: Purpose, epoch: int = 0) -> Indices:
    """The numbers 0 to n - 1 in random order: sorted by n raw words of 64 bits, ties by number.

    `numpy.random.Generator.permutation` may change from one NumPy release to the next; the raw words of a bit
    generator may not, so an order made from them is the same for good.
    """
    words = generator(seed, purpose, epoch).bit_generator.random_raw(n)
    order: Indices = np.argsort(words, kind="stable").astype(np.int64, copy=False)
    return order
