"""Kernels that move elements."""

from __future__ import annotations

import math
from typing import Any

from plugrad import ops
from plugrad.errors import ArgumentError
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels

Shape = tuple[int, ...]
Bounds = tuple[tuple[int, int, int], ...]


def _key(bounds: Bounds) -> Any:
    """What indexes the part within ``bounds``, as the standard has it: a slice for each axis."""
    return tuple(slice(a, None if b < 0 else b, c) for a, b, c in bounds) or ...


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    @kernels(ops.reshape)
    def _(x: Array, *, shape: Shape, copy: bool | None) -> Array:
        if copy is None or not math.prod(shape):
            return xp.reshape(x, shape)
        try:
            return xp.reshape(x, shape, copy=copy)
        # The standard has a ValueError here, and array-api-strict an AttributeError.
        except (ValueError, AttributeError):
            raise ArgumentError(
                f"reshape: copy=False, but the elements of this tensor have to be copied for shape {shape}"
            ) from None

    @kernels(ops.permute_dims)
    def _(x: Array, *, axes: Shape) -> Array:
        return xp.permute_dims(x, axes)

    @kernels(ops.broadcast_to)
    def _(x: Array, *, shape: Shape) -> Array:
        return xp.broadcast_to(x, shape)

    @kernels(ops.concatenate)
    def _(arrays: list[Array], *, axis: int) -> Array:
        return xp.concat(arrays, axis=axis)

    @kernels(ops.strided_slice)
    def _(x: Array, *, bounds: Bounds) -> Array:
        return x[_key(bounds)]

    @kernels(ops.scatter_slice)
    def _(x: Array, *, shape: Shape, bounds: Bounds) -> Array:
        out = library.zeros(shape, x)
        out[_key(bounds)] = x
        return out

    @kernels(ops.update_slice)
    def _(x: Array, value: Array, *, bounds: Bounds) -> Array:
        out = library.copied(x)
        out[_key(bounds)] = value
        return out

    @kernels(ops.select)
    def _(x: Array, *, index: int, axis: int) -> Array:
        return x[(slice(None),) * axis + (index,) + (slice(None),) * (x.ndim - axis - 1)]
