"""Kernels that make tensors from nothing."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.dtypes import int64
from plugrad.ops.ranges import range_length
from plugrad_numpy.kernels._precision import given
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any

_FEW: Final = 2048
"""Numbers that are counted in int64: NumPy's quickest start. Of more, int32 casts two to three times as fast."""


@table(ops.full)
def _(
    *, shape: tuple[int, ...], fill_value: Any, dtype: Any, device: Any, into: Array | None = None
) -> Array:
    del device
    if into is None:
        if fill_value == 0 and math.copysign(1, fill_value) > 0:
            return np.zeros(shape, dtype.numpy)
        into = np.empty(shape, dtype.numpy)
    into.fill(fill_value)
    return into


@table(ops.iota)
def _(*, length: int, dtype: Any, device: Any, into: Array | None = None) -> Array:
    del device
    whole = np.int32 if _FEW < length <= 1 << 31 and dtype is not int64 else np.int64
    return given(np.arange(length, dtype=whole).astype(dtype.numpy, copy=False), into)


@table(ops.arange)
@silent
def _(*, start: Any, stop: Any, step: Any, dtype: Any, device: Any, into: Array | None = None) -> Array:
    del device
    if dtype.is_integer:
        return given(np.arange(start, stop, step, dtype=dtype.numpy), into)
    length = range_length(start, stop, step)
    return given((np.arange(length) * float(step) + float(start)).astype(dtype.numpy), into)


@table(ops.linspace)
@silent
def _(
    *, start: float, stop: float, num: int, dtype: Any, device: Any, endpoint: bool, into: Array | None = None
) -> Array:
    del device
    steps = max(num - 1 if endpoint else num, 1)
    i = np.arange(num, dtype=np.float64)
    half = (stop / 2 - start / 2) / steps
    low = (i * 2) * half + start
    high = stop - ((steps - i) * 2) * half
    return given(np.where(i * 2 < steps, low, high).astype(dtype.numpy), into)


@table(ops.eye)
def _(*, n_rows: int, n_cols: int, k: int, dtype: Any, device: Any, into: Array | None = None) -> Array:
    del device
    return given(np.eye(n_rows, n_cols, k, dtype.numpy), into)
