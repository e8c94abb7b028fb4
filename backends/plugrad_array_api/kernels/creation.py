"""Kernels that make arrays from nothing."""

from __future__ import annotations

from typing import Any

from plugrad import ops
from plugrad.dtypes import int32, int64
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels

_NUMBER = {"bool": bool, "int": int, "uint": int, "float": float}
"""The Python number for each kind of dtype."""


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    @kernels(ops.full)
    def _(*, shape: tuple[int, ...], fill_value: Any, dtype: Any, device: Any) -> Array:
        value = _NUMBER[dtype.kind](fill_value)
        return xp.full(shape, value, dtype=library.dtype(dtype), device=library.device(device))

    @kernels(ops.iota)
    def _(*, length: int, dtype: Any, device: Any) -> Array:
        where = library.device(device)
        if dtype.is_integer and dtype.itemsize >= 4:
            return xp.arange(length, dtype=library.dtype(dtype), device=where)
        # Counted in integers, as the standard's arange need not wrap around, nor round each number once.
        whole = library.first(int32, int64) if length <= 1 << 31 else library.dtype(int64)
        return library.cast(xp.arange(length, dtype=whole, device=where), library.dtype(dtype))
