"""Products of matrices. NumPy's GEMM takes transposed views without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from plugrad import ops

from plugrad_numpy.kernels._table import table

Array = Any


@table(ops.matrix_product)
def _(x1: Array, x2: Array, *, into: Array | None = None) -> Array:
    if x1.dtype.itemsize == 2 and x1.dtype.kind not in "iu":
        result = np.matmul(x1.astype(np.float32), x2.astype(np.float32)).astype(x1.dtype)
        if into is None:
            return result
        np.copyto(into, result)
        return into
    return np.matmul(x1, x2, out=into)
