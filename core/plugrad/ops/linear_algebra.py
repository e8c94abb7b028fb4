"""Products of matrices and vectors (array API standard 2024.12, "Linear algebra functions")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import Sample
from plugrad.spec import broadcast_shapes
from plugrad.dtypes import NUMERIC
from plugrad.errors import ShapeError
from plugrad.ops.broadcasting import sum_to
from plugrad.ops.movement import expand_dims, matrix_transpose, squeeze
from plugrad.spec import Spec

if TYPE_CHECKING:
    import numpy as np

    from plugrad.tensor import Tensor


def _product(call: Any) -> Spec:
    a: Spec = call.x1
    b: Spec = call.x2
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"{call.op.name}: shapes {a.shape} and {b.shape} do not multiply: (..., n, k) @ (..., k, m)"
        )
    batch = broadcast_shapes(call.op.name, [a.shape[:-2], b.shape[:-2]])
    return a.with_shape((*batch, a.shape[-2], b.shape[-1]))


def _product_samples(rng: np.random.Generator) -> list[Sample]:
    shapes = [
        ((2, 3), (3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 1, 2, 3), (4, 3, 2)),
        ((2, 0), (0, 3)),
        ((0, 2), (2, 3)),
        ((1, 1), (1, 1)),
    ]
    return [Sample(rng.standard_normal(a), rng.standard_normal(b)) for a, b in shapes]


@op(
    kind=Kind.CONTRACTION,
    infer=_product,
    dtypes=NUMERIC,
    promote=("x1", "x2"),
    autocast=Autocast.LOW,
    primitive=True,
    samples=_product_samples,
)
def matrix_product(x1: Tensor, x2: Tensor, /) -> Tensor:
    """Products of matrices, (..., n, k) by (..., k, m), whose leading axes broadcast.

    16-bit floats accumulate in float32. `matmul` is what people call; this is the primitive below it.
    """


@matrix_product.defvjp("x1")
def _(ct: Tensor, x1: Spec, x2: Tensor) -> Tensor:
    return sum_to(matrix_product(ct, matrix_transpose(x2)), x1.shape)


@matrix_product.defvjp("x2")
def _(ct: Tensor, x1: Tensor, x2: Spec) -> Tensor:
    if len(x2.shape) == 2 and x1.ndim > 2:
        # One product over all leading axes instead of one for each, summed.
        x1, ct = (t.reshape(-1, t.shape[-1]) if t.size else t.reshape(0, t.shape[-1]) for t in (x1, ct))
    return sum_to(matrix_product(matrix_transpose(x1), ct), x2.shape)


@op(samples=_product_samples)
def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The matrix product (array API `matmul`).

    Args:
        x1: (..., n, k), or (k,), which counts as (1, k).
        x2: (..., k, m), or (k,), which counts as (k, 1). The leading axes broadcast.

    Returns:
        (..., n, m), without the axes that were added.

    Raises:
        ShapeError: if the inner sizes differ, the leading axes do not broadcast, or an operand has no axes.
    """
    for x in (x1, x2):
        if x.ndim == 0:
            raise ShapeError("matmul: takes operands of at least one axis; multiply scales by a 0-d tensor")
    left = expand_dims(x1, axis=0) if x1.ndim == 1 else x1
    right = expand_dims(x2, axis=1) if x2.ndim == 1 else x2
    if left.shape[-1] != right.shape[-2]:
        raise ShapeError(
            f"matmul: shapes {x1.shape} and {x2.shape} do not multiply: (..., n, k) @ (..., k, m)"
        )
    out = matrix_product(left, right)
    if x1.ndim == 1:
        out = squeeze(out, -2)
    return squeeze(out, -1) if x2.ndim == 1 else out


__all__ = ["matmul", "matrix_product"]
