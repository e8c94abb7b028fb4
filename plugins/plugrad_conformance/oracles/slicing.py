"""Oracles of slices, of their adjoints, and of assignment to them.

A kernel gets bounds as `slice.indices` gives them: a negative stop of a negative step means past the first element.
"""

from __future__ import annotations

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle

Bounds = tuple[tuple[int, int, int], ...]


def _key(bounds: Bounds) -> tuple[slice, ...]:
    """The index of the place that ``bounds`` name."""
    return tuple(slice(start, None if stop < 0 else stop, step) for start, stop, step in bounds)


@oracle("strided_slice")
def _strided_slice(x: Array, *, bounds: Bounds) -> Array:
    return np.array(x[_key(bounds)])


@oracle("scatter_slice")
def _scatter_slice(x: Array, *, shape: tuple[int, ...], bounds: Bounds) -> Array:
    out = np.zeros(shape, x.dtype)
    out[_key(bounds)] = x
    return out


@oracle("update_slice")
def _update_slice(x: Array, value: Array, *, bounds: Bounds) -> Array:
    out = np.array(x)
    out[_key(bounds)] = value
    return out


@oracle("select")
def _select(x: Array, *, index: int, axis: int) -> Array:
    return np.asarray(np.take(x, index, axis=axis))
