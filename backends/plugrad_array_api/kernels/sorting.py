"""Orders along an axis. NaN is the largest and -0 equals 0, which the standard leaves open."""

from __future__ import annotations

import math

from plugrad import ops
from plugrad.dtypes import int32, int64, uint8
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._places import places_along
from plugrad_array_api.kernels._table import Kernels


def _along(library: Library, x: Array, indices: Array, axis: int) -> Array:
    """The elements of ``x`` that ``indices``, of the same shape, name along ``axis``."""
    places = places_along(library, "argsort", indices, x.shape, axis)
    taken = library.xp.take(library.xp.reshape(x, (math.prod(x.shape),)), places, axis=0)
    return library.xp.reshape(taken, x.shape)


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    def ascending(x: Array, axis: int) -> Array:
        """The indices that sort ``x``, equal elements in their order."""
        index, small = library.dtype(int64), library.first(uint8, int32, int64)
        if library.kind(x) == "bool":
            x = library.cast(x, small)
        if not library.is_floating(x):
            return library.cast(xp.argsort(x, axis=axis, stable=True), index)
        nan = xp.isnan(x)
        zero = library.scalar(0, x)
        order = library.cast(xp.argsort(xp.where(nan, zero, x + zero), axis=axis, stable=True), index)
        if not bool(xp.any(nan)):
            return order
        # Then NaN behind all others, which keep their order.
        behind = _along(library, library.cast(nan, small), order, axis)
        last = library.cast(xp.argsort(behind, axis=axis, stable=True), index)
        return _along(library, order, last, axis)

    @kernels(ops.argsort)
    def _(x: Array, *, axis: int, descending: bool, stable: bool) -> Array:
        del stable
        if not descending:
            return ascending(x, axis)
        # The order of the elements from the last to the first, read backwards, keeps that of equal ones. Not all
        # libraries that are near the standard take its descending=.
        backwards = xp.flip(ascending(xp.flip(x, axis=axis), axis), axis=axis)
        return x.shape[axis] - 1 - backwards
