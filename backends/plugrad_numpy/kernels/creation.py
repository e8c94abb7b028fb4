"""Kernels that make tensors from nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from plugrad import ops

from plugrad_numpy.kernels._table import table

Array = Any


@table(ops.full)
def _(
    *, shape: tuple[int, ...], fill_value: Any, dtype: Any, device: Any, into: Array | None = None
) -> Array:
    del device
    if into is None:
        return np.full(shape, fill_value, dtype.numpy) if fill_value else np.zeros(shape, dtype.numpy)
    into.fill(fill_value)
    return into


@table(ops.iota)
def _(*, length: int, dtype: Any, device: Any, into: Array | None = None) -> Array:
    del device
    result = np.arange(length).astype(dtype.numpy)
    if into is None:
        return result
    np.copyto(into, result)
    return into
