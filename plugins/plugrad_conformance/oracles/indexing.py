"""Oracles of reading, adding and assigning at places that integers name. NumPy raises for an index out of range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plugrad.dtypes import DType
from plugrad_conformance.oracles._held import Array, held
from plugrad_conformance.oracles._register import oracle


def _key(indices: Sequence[Any], axis: int) -> tuple[Any, ...]:
    """The index that names axes ``axis``, ``axis + 1``, ... together."""
    return (*(slice(None),) * axis, *indices)


@oracle("gather_nd")
def _gather_nd(x: Array, indices: Sequence[Array], *, axis: int) -> Array:
    return np.array(x[_key(indices, axis)])


@oracle("scatter_nd")
@np.errstate(all="ignore")
def _scatter_nd(x: Array, indices: Sequence[Array], *, shape: tuple[int, ...], axis: int) -> Array:
    out = np.zeros(shape, x.dtype)
    np.add.at(out, _key(indices, axis), x)
    return out


@oracle("update_nd")
def _update_nd(x: Array, indices: Sequence[Array], value: Array, *, axis: int) -> Array:
    out = np.array(x)
    place = np.shape(indices[0])
    whole = np.broadcast_to(value, (*x.shape[:axis], *place, *x.shape[axis + len(indices) :]))
    # One index after the other, so that the last of several for one place stays.
    for i in np.ndindex(place):
        out[_key([index[i] for index in indices], axis)] = whole[_key(i, axis)]
    return out


@oracle("take")
def _take(x: Array, indices: Array, *, axis: int) -> Array:
    return np.asarray(np.take(x, indices, axis=axis))


@oracle("take_along_axis")
def _take_along_axis(x: Array, indices: Array, *, axis: int) -> Array:
    return np.take_along_axis(x, indices, axis=axis)


@oracle("scatter_add")
@np.errstate(all="ignore")
def _scatter_add(x: Array, indices: Array, updates: Array, *, axis: int) -> Array:
    out = np.array(x)
    along, added = np.broadcast_arrays(indices, updates)
    key: list[Array] = list(np.indices(along.shape, sparse=True))
    key[axis] = along
    np.add.at(out, tuple(key), added)
    return out


def _from_zero(x: Array, n: int) -> Array:
    """``x``, none of which counts from the end.

    Raises:
        IndexError: if one is outside [0, n).
    """
    if np.any(x < 0) or np.any(x >= n):
        raise IndexError(f"indices from {x.min()} to {x.max()} for {n} places")
    return x


@oracle("one_hot")
def _one_hot(x: Array, *, num_classes: int, dtype: DType) -> Array:
    found = _from_zero(x, num_classes)
    return np.asarray(np.expand_dims(found, -1) == np.arange(num_classes), held(dtype))


@oracle("embedding")
def _embedding(x: Array, weight: Array, *, padding_idx: int | None) -> Array:
    # The row named is read like any other: it only gets no gradient.
    del padding_idx
    return np.array(weight[_from_zero(x, len(weight))])


@oracle("nonzero_indices")
def _nonzero_indices(x: Array) -> Array:
    return np.ascontiguousarray(np.argwhere(x != 0).T, np.int64)
