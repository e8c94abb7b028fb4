"""Kernels that select and cast."""

from __future__ import annotations

from typing import Any

from plugrad import ops
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp
    kernels.add(library.function("where"), ops.where)

    @kernels(ops.astype)
    def _(x: Array, *, dtype: Any) -> Array:
        return xp.astype(x, library.dtype(dtype), copy=True)
