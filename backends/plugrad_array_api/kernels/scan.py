"""Scans along an axis. 16-bit floats accumulate in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plugrad import ops
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""

    def scanning(function: Callable[..., Array]) -> Callable[..., Array]:
        def kernel(x: Array, *, axis: int, dtype: Any, include_initial: bool) -> Array:
            target = library.dtype(dtype)
            wide = library.wide(target)
            # Cast here, as the standard sums no bools.
            result = function(library.cast(x, wide), axis=axis, dtype=wide, include_initial=include_initial)
            return library.cast(result, target)

        return kernel

    kernels.add(scanning(library.function("cumulative_sum")), ops.cumulative_sum)
    if library.offers("cumulative_prod"):
        kernels.add(scanning(library.function("cumulative_prod")), ops.cumulative_prod)
