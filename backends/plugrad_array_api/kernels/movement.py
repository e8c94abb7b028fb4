"""Kernels that move elements.

Those that need no function of the library stand by themselves: any array of the standard will do.
"""

from __future__ import annotations

import math
from typing import Any

from plugrad import ops
from plugrad.errors import ArgumentError
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels

Shape = tuple[int, ...]
Bounds = tuple[tuple[int, int, int], ...]


def key(bounds: Bounds) -> Any:
    """What indexes the part within ``bounds``, as the standard has it: a slice for each axis."""
    return tuple([slice(a, None if b < 0 else b, c) for a, b, c in bounds]) or ...


def _written(result: Array, into: Array) -> Array:
    into[...] = result
    return into


def strided_slice(x: Array, *, bounds: Bounds, into: Array | None = None) -> Array:
    """The kernel of the op of this name."""
    result = x[key(bounds)]
    return result if into is None else _written(result, into)


def select(x: Array, *, index: int, axis: int, into: Array | None = None) -> Array:
    """The kernel of the op of this name."""
    result = x[index, ...] if axis == 0 else x[(slice(None),) * axis + (index, ...)]
    return result if into is None else _written(result, into)


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp
    # They do no arithmetic that could warn, and write to ``into`` themselves.
    kernels.table(ops.strided_slice)(strided_slice)
    kernels.table(ops.select)(select)

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

    @kernels(ops.scatter_slice)
    def _(x: Array, *, shape: Shape, bounds: Bounds) -> Array:
        out = library.zeros(shape, x)
        out[key(bounds)] = x
        return out

    @kernels(ops.update_slice)
    def _(x: Array, value: Array, *, bounds: Bounds) -> Array:
        out = library.copied(x)
        out[key(bounds)] = value
        return out
