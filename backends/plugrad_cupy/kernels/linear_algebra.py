"""Products of matrices by cuBLAS."""

from __future__ import annotations

from typing import Any

from plugrad import ops
from plugrad.backend.kernels import KernelTable
from plugrad.generated import StridedArray, kernels
from plugrad.generated.array import empty
from plugrad.generated.kernels._run import copied
from plugrad.spec import broadcast_shapes
from plugrad_cupy._library import matmul

table = KernelTable()


def _plain(x: StridedArray) -> StridedArray:
    """``x``, or a copy where it runs backwards or repeats its elements within a matrix, which no library expects."""
    matrix = zip(x.shape[-2:], x.strides[-2:], strict=True)
    odd = min(x.strides, default=0) < 0 or any(n > 1 and not s for n, s in matrix)
    return copied(x, empty(x.device, x.shape, x.dtype)) if odd else x


def _by_library(specs: Any, attributes: Any) -> bool:
    """Whether cuBLAS takes it: floats, and nothing is empty."""
    del attributes
    return all(s.dtype.is_floating and s.size for s in specs)


@table(ops.matrix_product, when=_by_library)
def _(x1: StridedArray, x2: StridedArray, *, into: StridedArray | None = None) -> StridedArray:
    if into is None:
        batch = broadcast_shapes("matrix_product", [x1.shape[:-2], x2.shape[:-2]])
        into = empty(x1.device, (*batch, x1.shape[-2], x2.shape[-1]), x1.dtype)
    arrays = (_plain(x1), _plain(x2), into)
    call = matmul(into.dtype, tuple((x.shape, x.strides) for x in arrays))
    into.device.launch(call, (1,), (1,), [a for x in arrays for a in (x.memory, x.start)])
    return into


# The bodies of linear maps and of their rules are products, which the library computes.
_LINEAR = (ops.linear, ops.linear.vjp_for("x"), ops.linear.vjp_for("weight"))
table.merge(kernels.table, without=_LINEAR)
