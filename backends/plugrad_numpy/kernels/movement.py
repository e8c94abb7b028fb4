"""Kernels that move elements. Most give views."""

from __future__ import annotations

from typing import Any

import numpy as np
from plugrad import ops

from plugrad_numpy.kernels._table import table

Array = Any


def _given(result: Array, into: Array | None) -> Array:
    if into is None:
        return result
    np.copyto(into, result)
    return into


@table(ops.reshape)
def _(x: Array, *, shape: tuple[int, ...], into: Array | None = None) -> Array:
    return _given(np.reshape(x, shape), into)


@table(ops.permute_dims)
def _(x: Array, *, axes: tuple[int, ...], into: Array | None = None) -> Array:
    return _given(np.transpose(x, axes), into)


@table(ops.broadcast_to)
def _(x: Array, *, shape: tuple[int, ...], into: Array | None = None) -> Array:
    return _given(np.broadcast_to(x, shape), into)


def _slices(bounds: Any) -> tuple[slice, ...]:
    return tuple(slice(a, None if c < 0 and b < 0 else b, c) for a, b, c in bounds)


@table(ops.strided_slice)
def _(x: Array, *, bounds: Any, into: Array | None = None) -> Array:
    return _given(np.asarray(x)[_slices(bounds)], into)


@table(ops.scatter_slice)
def _(x: Array, *, shape: tuple[int, ...], bounds: Any, into: Array | None = None) -> Array:
    if into is None:
        into = np.zeros(shape, x.dtype)
    else:
        into[...] = 0
    into[_slices(bounds)] = x
    return into


@table(ops.concat)
def _(arrays: list[Array], *, axis: int, into: Array | None = None) -> Array:
    return np.concatenate(arrays, axis=axis, out=into)
