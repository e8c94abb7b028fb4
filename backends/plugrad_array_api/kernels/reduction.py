"""Reductions. 16-bit floats accumulate in float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from plugrad import ops
from plugrad.dtypes import int64
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels

Axis = tuple[int, ...]


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    def over(function: Callable[..., Array], x: Array, axis: Axis, keepdims: bool, **options: Any) -> Array:
        """``function`` over ``axis``; over no axes, which the standard leaves open, a copy."""
        return function(x, axis=axis, keepdims=keepdims, **options) if axis else library.copied(x)

    def accumulating(function: Callable[..., Array]) -> Callable[..., Array]:
        def kernel(x: Array, *, axis: Axis, dtype: Any, keepdims: bool) -> Array:
            target = library.dtype(dtype)
            wide = library.wide(target)
            # Cast here, as the standard sums no bools.
            result = over(
                function, library.cast(x, wide), axis, keepdims, **({"dtype": wide} if axis else {})
            )
            return library.cast(result, target)

        return kernel

    kernels.add(accumulating(library.function("sum")), ops.sum)
    kernels.add(accumulating(library.function("prod")), ops.prod)

    def extremum(function: Callable[..., Array]) -> Callable[..., Array]:
        def kernel(x: Array, *, axis: Axis, keepdims: bool) -> Array:
            return over(function, x, axis, keepdims)

        return kernel

    kernels.add(extremum(library.function("max")), ops.max)
    kernels.add(extremum(library.function("min")), ops.min)

    @kernels(ops.mean)
    def _(x: Array, *, axis: Axis, keepdims: bool) -> Array:
        total = over(xp.sum, library.widened(x), axis, keepdims)
        count = math.prod(x.shape[i] for i in axis)
        return library.cast(xp.divide(total, library.scalar(count, total)), x.dtype)

    def truth(x: Array) -> Array:
        return x if library.kind(x) == "bool" else x != 0

    def testing(function: Callable[..., Array]) -> Callable[..., Array]:
        def kernel(x: Array, *, axis: Axis, keepdims: bool) -> Array:
            return over(function, truth(x), axis, keepdims)

        return kernel

    kernels.add(testing(library.function("all")), ops.all)
    kernels.add(testing(library.function("any")), ops.any)

    @kernels(ops.count_nonzero)
    def _(x: Array, *, axis: Axis, keepdims: bool) -> Array:
        return over(xp.sum, library.cast(truth(x), library.dtype(int64)), axis, keepdims)
