"""Products of matrices and vectors (array API standard 2024.12, "Linear algebra functions").

The primitive is `matrix_product`; `matrix_transpose` stands with the ops that move elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from plugrad.dispatch.factors import Factor
from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import NUMERIC
from plugrad.errors import ArgumentError, AxisError, ShapeError
from plugrad.ops._rules import integer, normal_axis, size
from plugrad.ops.broadcasting import sum_to
from plugrad.ops.movement import matrix_transpose, permute_dims, reshape
from plugrad.spec import Shape, Spec, broadcast_shapes

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Ints = tuple[int, ...]


def _product(call: Any) -> Spec:
    a: Spec = call.x1
    b: Spec = call.x2
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"{call.op.name}: shapes {a.shape} and {b.shape} do not multiply: takes (..., n, k) and (..., k, m)"
        )
    batch = broadcast_shapes(call.op.name, [a.shape[:-2], b.shape[:-2]])
    return a.with_shape((*batch, a.shape[-2], b.shape[-1]))


def _pairs(rng: np.random.Generator, *shapes: tuple[Shape, Shape]) -> list[Sample]:
    return [Sample(rng.standard_normal(a), rng.standard_normal(b)) for a, b in shapes]


def _product_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        *_pairs(
            rng,
            ((2, 3), (3, 4)),
            ((5, 2, 3), (5, 3, 4)),
            ((5, 2, 3), (3, 4)),
            ((2, 3), (5, 3, 4)),
            ((2, 1, 2, 3), (4, 3, 2)),
            ((3, 2, 2, 3), (3, 1, 3, 2)),
            ((2, 0), (0, 3)),
            ((0, 2), (2, 3)),
            ((2, 0, 3), (3, 2)),
            ((1, 1), (1, 1)),
        ),
        Sample(rng.integers(-9, 9, (2, 3)), rng.integers(-9, 9, (3, 4))),
    ]


def _factors(call: Any, results: Sequence[Spec]) -> Iterable[Factor]:
    """The leading axes that both have, rows, columns."""
    first: Spec = call.x1
    second: Spec = call.x2
    ndim = results[0].ndim
    for axis, length in enumerate(results[0].shape[:-2]):
        axes = {}
        for name, spec in (("x1", first), ("x2", second)):
            own = axis - ndim + spec.ndim
            if own >= 0 and spec.shape[own] == length:
                axes[name] = own
        yield Factor(axes, (axis,))
    yield Factor({"x1": first.ndim - 2}, (ndim - 2,))
    yield Factor({"x2": second.ndim - 1}, (ndim - 1,))


@op(
    kind=Kind.CONTRACTION,
    infer=_product,
    dtypes=NUMERIC,
    promote=("x1", "x2"),
    autocast=Autocast.LOW,
    primitive=True,
    factors=_factors,
    samples=_product_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros((2, 3))),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros(3)),
        ErrorSample(ShapeError, np.zeros((2, 2, 3)), np.zeros((4, 3, 2))),
    ),
)
def matrix_product(x1: Tensor, x2: Tensor, /) -> Tensor:
    """Products of matrices, (..., n, k) by (..., k, m), whose leading axes broadcast: the primitive below `matmul`.

    16-bit floats accumulate in float32; integers wrap around.

    Raises:
        ShapeError: if an operand has fewer than 2 axes, the inner sizes differ, or the leading axes do not broadcast.
    """


@matrix_product.defvjp("x1")
def _(ct: Tensor, x1: Spec, x2: Tensor) -> Tensor:
    if len(x1.shape) == 2 and x2.ndim > 2:
        # One product over the leading axes too, instead of one for each and their sum.
        batch = x2.ndim - 2
        terms = size(x2.shape[:-2]) * x2.shape[-1]
        ct = reshape(permute_dims(ct, (batch, *range(batch), batch + 1)), (x1.shape[0], terms))
        return matrix_product(ct, reshape(matrix_transpose(x2), (terms, x1.shape[1])))
    return _reduced(matrix_product(ct, matrix_transpose(x2)), x1.shape)


@matrix_product.defvjp("x2")
def _(ct: Tensor, x1: Tensor, x2: Spec) -> Tensor:
    if len(x2.shape) == 2 and x1.ndim > 2:
        rows = size(x1.shape[:-1])
        x1, ct = reshape(x1, (rows, x2.shape[0])), reshape(ct, (rows, x2.shape[1]))
    return _reduced(matrix_product(matrix_transpose(x1), ct), x2.shape)


def _reduced(x: Tensor, shape: Shape) -> Tensor:
    return x if x.shape == shape else sum_to(x, shape)


def _matmul(call: Any) -> Spec:
    a: Spec = call.x1
    b: Spec = call.x2
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(
            f"matmul: got shapes {a.shape} and {b.shape}, takes operands of at least one axis; "
            "multiply scales by a 0-d tensor"
        )
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ShapeError(
            f"matmul: shapes {a.shape} and {b.shape} do not multiply: takes (..., n, k) and (..., k, m)"
        )
    batch = broadcast_shapes("matmul", [a.shape[:-2], b.shape[:-2]])
    return a.with_shape((*batch, *a.shape[-2:-1], *b.shape[max(b.ndim - 1, 1) :]))


def _matmul_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        *_product_samples(rng),
        *_pairs(
            rng,
            ((3,), (3,)),
            ((3,), (3, 2)),
            ((2, 3), (3,)),
            ((4, 2, 3), (3,)),
            ((3,), (4, 3, 2)),
            ((0,), (0,)),
        ),
    ]


@op(
    infer=_matmul,
    dtypes=NUMERIC,
    samples=_matmul_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros((2, 3))),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros(())),
        ErrorSample(ShapeError, np.zeros((2, 2, 3)), np.zeros((4, 3, 2))),
    ),
)
def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The matrix product (array API `matmul`).

    Args:
        x1: (..., n, k), or (k,), which counts as (1, k); a numeric dtype.
        x2: (..., k, m), or (k,), which counts as (k, 1). The leading axes broadcast, the dtypes promote.

    Returns:
        (..., n, m), without the axes that were added.

    Raises:
        ShapeError: if the inner sizes differ, the leading axes do not broadcast, or an operand has no axes.

    16-bit floats accumulate in float32; integers wrap around.
    """
    a, b = x1.spec.shape, x2.spec.shape
    if len(a) > 1 and len(b) > 1:
        return matrix_product(x1, x2)
    left = x1 if len(a) > 1 else reshape(x1, (1, *a))
    right = x2 if len(b) > 1 else reshape(x2, (*b, 1))
    out = matrix_product(left, right)
    batch = out.spec.shape[:-2]
    return reshape(out, (*batch, *a[-2:-1], *b[max(len(b) - 1, 1) :]))


def _contracted(call: Any, value: Any) -> tuple[Ints, Ints]:
    """``axes`` as the axes of each operand, from 0."""
    a: Spec = call.x1
    b: Spec = call.x2
    if isinstance(value, (tuple, list)):
        given = [v if isinstance(v, (tuple, list)) else (v,) for v in value]
        if len(given) != 2 or len(given[0]) != len(given[1]):
            raise ArgumentError(
                f"tensordot: axes takes a number, or axes of x1 and as many of x2, got {value!r}"
            )
        one, two = (
            tuple(normal_axis(call, v, s.ndim) for v in g) for g, s in zip(given, (a, b), strict=True)
        )
        if len(set(one)) < len(one) or len(set(two)) < len(two):
            raise ArgumentError(f"tensordot: axes {value!r} names an axis twice")
    else:
        count = integer(call, "axes", value)
        if not 0 <= count <= min(a.ndim, b.ndim):
            raise ArgumentError(
                f"tensordot: axes {count} for operands of {a.ndim} and {b.ndim} axes; takes 0 to {min(a.ndim, b.ndim)}"
            )
        one, two = tuple(range(a.ndim - count, a.ndim)), tuple(range(count))
    for i, j in zip(one, two, strict=True):
        if a.shape[i] != b.shape[j]:
            raise ShapeError(
                f"tensordot: axis {i} of shape {a.shape} has size {a.shape[i]}, "
                f"axis {j} of shape {b.shape} size {b.shape[j]}; they are summed together and must be equal"
            )
    return one, two


def _tensordot_samples(rng: np.random.Generator) -> list[Sample]:
    def pair(a: Shape, b: Shape, axes: Any) -> Sample:
        return Sample(rng.standard_normal(a), rng.standard_normal(b), axes=axes)

    return [
        pair((2, 3, 4), (3, 4, 5), 2),
        pair((2, 3, 4), (4, 5, 2), ((0, 2), (2, 0))),
        pair((2, 3), (3, 4), ((-1,), (0,))),
        pair((2, 3), (4,), 0),
        pair((2, 3), (2, 3), 2),
        pair((2, 0), (0, 3), 1),
        pair((), (2,), 0),
    ]


@op(
    attributes={"axes": _contracted},
    dtypes=NUMERIC,
    samples=_tensordot_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros((2, 3)), axes=1),
        ErrorSample(AxisError, np.zeros((2, 3)), np.zeros((3, 2)), axes=((2,), (0,))),
        ErrorSample(ArgumentError, np.zeros((2, 3)), np.zeros((3, 2)), axes=3),
        ErrorSample(ArgumentError, np.zeros((2, 2)), np.zeros((2, 2)), axes=((0, 0), (0, 1))),
    ),
)
def tensordot(x1: Tensor, x2: Tensor, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Sum of products over several axes (array API `tensordot`).

    Args:
        x1: a numeric dtype.
        x2: a numeric dtype.
        axes: how many of the last axes of ``x1`` are summed with as many of the first of ``x2``; or the axes of
            ``x1``, and those of ``x2`` that each is summed with.

    Returns:
        The remaining axes of ``x1``, then those of ``x2``.

    Raises:
        ShapeError: if sizes that are summed together differ.
        ArgumentError: if ``axes`` names an axis twice, or has another form.
    """
    one, two = cast("tuple[Ints, Ints]", axes)
    a, b = x1.spec.shape, x2.spec.shape
    rows = [i for i in range(len(a)) if i not in one]
    columns = [i for i in range(len(b)) if i not in two]
    inner = size([a[i] for i in one])
    kept_rows, kept_columns = [a[i] for i in rows], [b[i] for i in columns]
    left = reshape(permute_dims(x1, (*rows, *one)), (size(kept_rows), inner))
    right = reshape(permute_dims(x2, (*two, *columns)), (inner, size(kept_columns)))
    return reshape(matrix_product(left, right), (*kept_rows, *kept_columns))


def _vector_axis(call: Any, value: Any) -> int:
    """An axis from the end, as the operands may have different numbers of axes."""
    axis = integer(call, "axis", value)
    least = min(call.x1.ndim, call.x2.ndim)
    if not -least <= axis < 0:
        raise AxisError(
            f"vecdot: axis {axis} for shapes {call.x1.shape} and {call.x2.shape}; "
            f"takes a negative axis that both have, counted from the end"
        )
    return axis


def _dotted(call: Any) -> Spec:
    a, b = (list(s.shape) for s in (call.x1, call.x2))
    if a.pop(call.axis) != b.pop(call.axis):
        raise ShapeError(
            f"vecdot: axis {call.axis} of shapes {call.x1.shape} and {call.x2.shape} differs in size"
        )
    spec: Spec = call.x1.with_shape(broadcast_shapes("vecdot", [tuple(a), tuple(b)]))
    return spec


def _vecdot_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        *_pairs(rng, ((3,), (3,)), ((2, 3), (2, 3)), ((4, 1, 3), (2, 3)), ((2, 0), (2, 0)), ((0, 3), (3,))),
        Sample(rng.standard_normal((3, 4, 2)), rng.standard_normal((4, 1)), axis=-2),
    ]


@op(
    infer=_dotted,
    attributes={"axis": _vector_axis},
    dtypes=NUMERIC,
    samples=_vecdot_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros((2, 2))),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros((4, 3))),
        ErrorSample(AxisError, np.zeros((2, 3)), np.zeros((2, 3)), axis=1),
        ErrorSample(AxisError, np.zeros((2, 3)), np.zeros(3), axis=-2),
    ),
)
def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Sum of products along one axis (array API `vecdot`).

    Args:
        x1: a numeric dtype.
        x2: a numeric dtype; all axes but ``axis`` broadcast with those of ``x1``.
        axis: a negative axis, of the same size in both.

    Returns:
        The broadcast shape without ``axis``.

    Raises:
        ShapeError: if the sizes along ``axis`` differ, or the rest does not broadcast.
        AxisError: if ``axis`` is not negative, or an operand does not have it.
    """

    def last(x: Tensor) -> Tensor:
        n = x.ndim
        return x if axis == -1 else permute_dims(x, (*(i for i in range(n) if i != n + axis), n + axis))

    left, right = last(x1), last(x2)
    row = reshape(left, (*left.shape[:-1], 1, left.shape[-1]))
    out = matrix_product(row, reshape(right, (*right.shape, 1)))
    return reshape(out, out.shape[:-2])


__all__ = ["matmul", "matrix_product", "tensordot", "vecdot"]
