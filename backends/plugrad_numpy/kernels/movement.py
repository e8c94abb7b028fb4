"""Kernels that move elements. Most give views."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.errors import ArgumentError
from plugrad_array_api.kernels.movement import Bounds, key, select, strided_slice
from plugrad_numpy.kernels._table import table

Array = Any

_SMALL: Final = 8192
"""Elements that are copied faster than NumPy makes a broadcast view, which takes it 2 us."""


def _given(result: Array, into: Array | None) -> Array:
    if into is None:
        return result
    np.copyto(into, result)
    return into


@table(ops.reshape)
def _(x: Array, *, shape: tuple[int, ...], copy: bool | None, into: Array | None = None) -> Array:
    if copy is None:
        result = x.reshape(shape)
    else:
        try:
            result = x.reshape(shape, copy=copy)
        except ValueError:
            raise ArgumentError(
                f"reshape: copy=False, but the elements of this tensor have to be copied for shape {shape}"
            ) from None
    return result if into is None else _given(result, into)


@table(ops.permute_dims)
def _(x: Array, *, axes: tuple[int, ...], into: Array | None = None) -> Array:
    return x.transpose(axes) if into is None else _given(x.transpose(axes), into)


@table(ops.broadcast_to)
def _(x: Array, *, shape: tuple[int, ...], into: Array | None = None) -> Array:
    if into is None:
        if math.prod(shape) > _SMALL:
            return np.broadcast_to(x, shape)
        into = np.empty(shape, x.dtype)
    into[...] = x
    return into


table(ops.strided_slice)(strided_slice)
table(ops.select)(select)


@table(ops.scatter_slice)
def _(x: Array, *, shape: tuple[int, ...], bounds: Bounds, into: Array | None = None) -> Array:
    if into is None:
        into = np.zeros(shape, x.dtype)
    else:
        into[...] = 0
    into[key(bounds)] = x
    return into


@table(ops.select.vjp)
def _(ct: Array, *, x: Any, index: int, axis: int, into: Array | None = None) -> Array:
    if into is None:
        into = np.zeros(x.shape, ct.dtype)
    else:
        into[...] = 0
    into[(slice(None),) * axis + (index,)] = ct
    return into


@table(ops.concatenate)
def _(arrays: list[Array], *, axis: int, into: Array | None = None) -> Array:
    return np.concatenate(arrays, axis=axis, out=into)


def _copied(x: Array, into: Array | None) -> Array:
    if into is None:
        return np.array(x, order="C")
    np.copyto(into, x)
    return into


@table(ops.update_slice, inplace=("x",))
def _(x: Array, value: Array, *, bounds: Bounds, into: Array | None = None) -> Array:
    out = _copied(x, into)
    out[key(bounds)] = value
    return out
