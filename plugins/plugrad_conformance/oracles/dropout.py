"""Dropout: two decisions of each random word."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plugrad_conformance.oracles._elementwise import elementwise
from plugrad_conformance.oracles.drawing import Shape, words


def _kept(key: np.ndarray, counter: np.ndarray, shape: Shape, threshold: int) -> np.ndarray:
    n = math.prod(shape)
    drawn = words(key, counter, -(-n // 2))
    halves = np.stack([drawn % np.uint64(2**16), drawn >> np.uint64(16)], axis=1)
    return (halves.reshape(-1)[:n] >= np.uint64(threshold)).reshape(shape)


@elementwise("dropout_mask")
def dropout_mask(key: np.ndarray, counter: np.ndarray, *, shape: Shape, p: float = 0.5) -> Any:
    """Which half words are at least the probability."""
    return _kept(key, counter, shape, round(p * 2**16))


@elementwise("masked_scale")
def masked_scale(x: np.ndarray, mask: np.ndarray, *, scale: float) -> Any:
    """``x * scale``, or 0 where the mask does not hold."""
    return np.where(mask, x * scale, 0.0)


@elementwise("dropout")
def dropout(x: np.ndarray, key: np.ndarray, counter: np.ndarray, *, p: float = 0.5) -> Any:
    """``x`` over the probability of what is kept, or 0."""
    threshold = round(p * 2**16)
    return np.where(_kept(key, counter, x.shape, threshold), x / np.float64(1 - threshold / 2**16), 0.0)
