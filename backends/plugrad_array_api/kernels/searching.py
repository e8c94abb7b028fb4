"""Kernels that find elements."""

from __future__ import annotations

from collections.abc import Callable

from plugrad import ops
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    def first(extremum: Callable[..., Array], search: Callable[..., Array]) -> Callable[..., Array]:
        def kernel(x: Array, *, axis: int | None, keepdims: bool) -> Array:
            if library.is_floating(x):
                # The standard does not say where NaN stands. The extremum is NaN where there is one.
                hits = xp.logical_or(x == extremum(x, axis=axis, keepdims=True), xp.isnan(x))
                found = xp.argmax(library.cast(hits, library.dtypes["uint8"]), axis=axis, keepdims=keepdims)
            else:
                found = search(x, axis=axis, keepdims=keepdims)
            return library.cast(found, library.dtypes["int64"])

        return kernel

    kernels.add(first(library.function("max"), library.function("argmax")), ops.argmax)
    kernels.add(first(library.function("min"), library.function("argmin")), ops.argmin)

    @kernels(ops.nonzero_indices)
    def _(x: Array) -> Array:
        int64 = library.dtypes["int64"]
        found = xp.nonzero(xp.reshape(x, x.shape or (1,)) != library.scalar(0, x))
        if not x.shape:
            return xp.zeros((0, *found[0].shape), dtype=int64, device=x.device)
        return library.cast(xp.stack(found), int64)
