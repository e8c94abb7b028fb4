"""Kernels that find elements."""

from __future__ import annotations

from collections.abc import Callable

from plugrad import ops
from plugrad.dtypes import int32, int64, uint8
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._places import gathered
from plugrad_array_api.kernels._table import Kernels


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    def first(extremum: Callable[..., Array], search: Callable[..., Array]) -> Callable[..., Array]:
        def kernel(x: Array, *, axis: int | None, keepdims: bool) -> Array:
            if library.is_floating(x):
                # The standard does not say where NaN stands. The extremum is NaN where there is one.
                hits = xp.logical_or(x == extremum(x, axis=axis, keepdims=True), xp.isnan(x))
                found = xp.argmax(
                    library.cast(hits, library.first(uint8, int32, int64)), axis=axis, keepdims=keepdims
                )
            else:
                found = search(x, axis=axis, keepdims=keepdims)
            return library.cast(found, library.dtype(int64))

        return kernel

    kernels.add(first(library.function("max"), library.function("argmax")), ops.argmax)
    kernels.add(first(library.function("min"), library.function("argmin")), ops.argmin)

    @kernels(ops.nonzero_indices)
    def _(x: Array) -> Array:
        index = library.dtype(int64)
        found = xp.nonzero(xp.reshape(x, x.shape or (1,)) != library.scalar(0, x))
        if not x.shape:
            return xp.zeros((0, *found[0].shape), dtype=index, device=x.device)
        return library.cast(xp.stack(found), index)

    @kernels(ops.searchsorted)
    def _(x1: Array, x2: Array, sorter: Array | None, *, side: str) -> Array:
        index = library.dtype(int64)
        if sorter is not None:
            x1 = gathered(library, "searchsorted", x1, [sorter], 0)
        if library.kind(x1) != "float":
            return library.cast(xp.searchsorted(x1, x2, side=side), index)
        # Only what is not NaN, and without -0: their order is the library's own.
        n, nan = x1.shape[0], xp.isnan(x2)
        numbers = n - int(xp.sum(library.cast(xp.isnan(x1), index)))
        zero = library.scalar(0, x1)
        found = xp.searchsorted(x1[:numbers] + zero, xp.where(nan, zero, x2 + zero), side=side)
        behind = library.scalar(numbers if side == "left" else n, found)
        return library.cast(xp.where(nan, behind, found), index)
