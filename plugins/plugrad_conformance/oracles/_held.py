"""What oracles hold values in."""

from __future__ import annotations

from typing import Any

import numpy as np

from plugrad.dtypes import DType

Array = np.ndarray[Any, Any]


def held(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype in which an oracle gives results of ``dtype``: float64 for every floating one."""
    found: np.dtype[Any] = np.dtype(np.float64) if dtype.is_floating else np.dtype(dtype.numpy)
    return found
