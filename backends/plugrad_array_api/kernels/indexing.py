"""Reading and adding at places that integers name, with what the standard has: one-dimensional ``take``.

Indices are checked before they are used, which waits for their values.
"""

from __future__ import annotations

import math
from typing import Any

from plugrad import ops
from plugrad.spec import broadcast_shapes
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._places import flat, from_zero, gathered, ordered, places_along, summed
from plugrad_array_api.kernels._table import Kernels

Shape = tuple[int, ...]


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    @kernels(ops.gather_nd)
    def _(x: Array, indices: list[Array], *, axis: int) -> Array:
        return gathered(library, "gather_nd", x, indices, axis)

    @kernels(ops.take)
    def _(x: Array, indices: Array, *, axis: int) -> Array:
        return gathered(library, "take", x, [indices], axis)

    @kernels(ops.take_along_axis)
    def _(x: Array, indices: Array, *, axis: int) -> Array:
        others = broadcast_shapes("", [(*s[:axis], 1, *s[axis + 1 :]) for s in (x.shape, indices.shape)])
        x = xp.broadcast_to(x, (*others[:axis], x.shape[axis], *others[axis + 1 :]))
        shape = (*others[:axis], indices.shape[axis], *others[axis + 1 :])
        places = places_along(library, "take_along_axis", xp.broadcast_to(indices, shape), x.shape, axis)
        return xp.reshape(xp.take(xp.reshape(x, (math.prod(x.shape),)), places, axis=0), shape)

    @kernels(ops.scatter_nd)
    def _(x: Array, indices: list[Array], *, shape: Shape, axis: int) -> Array:
        stop = axis + len(indices)
        places = flat(library, "scatter_nd", indices, shape, axis)
        if not math.prod(shape) or not math.prod(x.shape):
            return library.zeros(shape, x)
        lead, count, rest = math.prod(shape[:axis]), math.prod(shape[axis:stop]), math.prod(shape[stop:])
        rows = xp.reshape(library.widened(x), (lead, places.shape[0], rest))
        sums = summed(library, xp.permute_dims(rows, (1, 0, 2)), places, count)
        return library.cast(xp.reshape(xp.permute_dims(sums, (1, 0, 2)), shape), x.dtype)

    @kernels(ops.scatter_add)
    def _(x: Array, indices: Array, updates: Array, *, axis: int) -> Array:
        shape = broadcast_shapes("", [indices.shape, updates.shape])
        places = places_along(library, "scatter_add", xp.broadcast_to(indices, shape), x.shape, axis)
        if not math.prod(shape):
            return library.copied(x)
        rows = xp.reshape(xp.broadcast_to(library.widened(updates), shape), (math.prod(shape), 1, 1))
        sums = xp.reshape(summed(library, rows, places, math.prod(x.shape)), x.shape)
        return library.cast(library.widened(x) + sums, x.dtype)

    @kernels(ops.update_nd)
    def _(x: Array, indices: list[Array], value: Array, *, axis: int) -> Array:
        stop = axis + len(indices)
        places = flat(library, "update_nd", indices, x.shape, axis)
        lead, sizes, rest = x.shape[:axis], x.shape[axis:stop], x.shape[stop:]
        if not math.prod(x.shape) or not math.prod(places.shape):
            return library.copied(x)
        # Of the values that meet in one place the last one stays.
        order, starts, stops = ordered(library, places, math.prod(sizes))
        last = xp.take(order, xp.where(stops > 0, stops - 1, stops), axis=0)
        value = xp.broadcast_to(value, (*lead, *indices[0].shape, *rest))
        value = xp.take(xp.reshape(value, (*lead, places.shape[0], *rest)), last, axis=axis)
        hit = xp.reshape(stops > starts, (*(1,) * axis, *sizes, *(1,) * len(rest)))
        return xp.where(hit, xp.reshape(value, x.shape), x)

    @kernels(ops.one_hot)
    def _(x: Array, *, num_classes: int, dtype: Any) -> Array:
        from_zero(library, "one_hot", x, num_classes, "classes")
        hot = xp.expand_dims(x, axis=-1) == library.range(num_classes, x)
        return library.cast(hot, library.dtype(dtype))

    @kernels(ops.embedding)
    def _(x: Array, weight: Array, *, padding_idx: int | None) -> Array:
        del padding_idx
        from_zero(library, "embedding", x, weight.shape[0], "rows of weight")
        return gathered(library, "embedding", weight, [x], 0)
