"""Casting to another dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from plugrad import dtypes
from plugrad_conformance.oracles._elementwise import elementwise


@elementwise("astype")
def astype(x: np.ndarray, *, dtype: dtypes.DType) -> Any:
    """The value in ``dtype``; of a floating one, in float64 and not rounded to it."""
    if dtype.is_floating:
        return x.astype(np.float64)
    if dtype is dtypes.bool:
        return np.not_equal(x, 0)
    return (np.trunc(x) if x.dtype.kind == "f" else x).astype(dtype.numpy)
