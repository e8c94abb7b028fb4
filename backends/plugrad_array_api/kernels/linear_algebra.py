"""Products of matrices. 16-bit floats accumulate in float32."""

from __future__ import annotations

from plugrad import ops
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    matmul = library.function("matmul")

    @kernels(ops.matrix_product)
    def _(x1: Array, x2: Array) -> Array:
        return library.cast(matmul(library.widened(x1), library.widened(x2)), x1.dtype)
