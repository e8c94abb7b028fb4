"""Where elements are: nonzero ones, largest ones, places in an order (array API standard 2024.12, "Searching
functions"; `where` stands with the comparisons).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import Sample
from plugrad.errors import ShapeError
from plugrad.ops.movement import reshape, strided_slice
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _indices_of_axes(call: Any) -> Spec:
    # The second size depends on the values; it is read from the result.
    return Spec((call.x.ndim, 0), dtypes.int64, call.x.device)


def _nonzero_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.integers(0, 2, (3, 4))),
        Sample(rng.random((2, 3, 4)) < 0.3),
        Sample(rng.standard_normal(5)),
        Sample(np.zeros((2, 2), np.int32)),
        Sample(np.ones((0, 3), np.int64)),
    ]


@op(
    kind=Kind.INDEXING,
    infer=_indices_of_axes,
    primitive=True,
    differentiable=False,
    data_dependent=True,
    samples=_nonzero_samples,
)
def nonzero_indices(x: Tensor, /) -> Tensor:
    """Indices of the nonzero elements, one row an axis; the primitive below `nonzero`.

    Args:
        x: any shape and dtype. True and NaN are nonzero.

    Returns:
        int64 of shape (axes of ``x``, n) for n nonzero elements, which stand in row-major order.
    """


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """Indices of the nonzero elements of ``x`` (array API `nonzero`).

    Args:
        x: at least one axis, any dtype. True and NaN are nonzero.

    Returns:
        One int64 tensor of shape (n,) for each axis. The n elements stand in row-major order. How many there
        are depends on the values, so a captured function cannot call this.

    Raises:
        ShapeError: if ``x`` has no axes.
    """
    if x.ndim == 0:
        raise ShapeError("nonzero: takes at least one axis, got a 0-d tensor; reshape it to (1,)")
    indices = nonzero_indices(x)
    n = indices.shape[1]
    return tuple(
        reshape(strided_slice(indices, ((axis, axis + 1, 1), (0, n, 1))), (n,)) for axis in range(x.ndim)
    )


__all__ = ["nonzero", "nonzero_indices"]
