"""Tests over axes, and differences (array API standard 2024.12, "Utility functions")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import NUMERIC
from plugrad.errors import ArgumentError, AxisError, ShapeError
from plugrad.ops._rules import AXES, REFUSED_AXES, axis_of, reduced
from plugrad.ops.creation import count
from plugrad.ops.movement import concat, reshape
from plugrad.ops.scan import narrow
from plugrad.ops.searching import count_nonzero
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Axis = int | tuple[int, ...] | None


def _tested(call: Any) -> Spec:
    return reduced(call).with_dtype(dtypes.bool)


def _test_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.random((3, 4)) < 0.5, axis=1),
        Sample(rng.integers(0, 2, (2, 3, 4)), axis=(0, 2), keepdims=True),
        Sample(rng.standard_normal((2, 3))),
        Sample(np.zeros((0, 3), np.bool_), axis=0),
        Sample(rng.random(()) < 0.5),
        Sample(np.zeros((3, 4), np.bool_), axis=1),
    ]


@op(
    kind=Kind.REDUCTION,
    infer=_tested,
    attributes=AXES,
    differentiable=False,
    samples=_test_samples,
    errors=errors(*REFUSED_AXES),
)
def all(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over ``axis`` are True or nonzero, as bool (array API `all`); True of no elements.

    Args:
        x: any shape, any dtype. NaN is nonzero.
        axis: one axis, several, or None for all.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        AxisError: if there is no such axis.
        ShapeError: if one is named twice.
    """
    return (
        count_nonzero(x == (False if x.spec.dtype is dtypes.bool else 0), axis=axis, keepdims=keepdims) == 0
    )


@op(
    kind=Kind.REDUCTION,
    infer=_tested,
    attributes=AXES,
    differentiable=False,
    samples=_test_samples,
    errors=errors(*REFUSED_AXES),
)
def any(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element over ``axis`` is True or nonzero, as bool (array API `any`); False of no elements.

    Args:
        x: any shape, any dtype. NaN is nonzero.
        axis: one axis, several, or None for all.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        AxisError: if there is no such axis.
        ShapeError: if one is named twice.
    """
    return count_nonzero(x, axis=axis, keepdims=keepdims) != 0


def _diff_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 5))),
        Sample(rng.standard_normal((5, 3)), axis=0, n=2),
        Sample(rng.standard_normal((2, 3)), rng.standard_normal((2, 1)), rng.standard_normal((2, 2))),
        Sample(rng.standard_normal((2, 3)), n=4),
        Sample(rng.standard_normal((2, 3)), n=0),
        Sample(rng.integers(-9, 9, (4,))),
    ]


def _differences(call: Any) -> Spec:
    x: Spec = call.x
    axis: int = call.axis
    if call.n == 0:
        return x
    length = x.shape[axis]
    for name in ("prepend", "append"):
        spec: Spec | None = getattr(call, name)
        if spec is None:
            continue
        if spec.ndim != x.ndim or (*spec.shape[:axis], *spec.shape[axis + 1 :]) != (
            *x.shape[:axis],
            *x.shape[axis + 1 :],
        ):
            raise ShapeError(
                f"{call.op.name}: {name} has shape {spec.shape}, x {x.shape}; they may differ in axis {axis} alone"
            )
        length += spec.shape[axis]
    return x.with_shape((*x.shape[:axis], max(0, length - call.n), *x.shape[axis + 1 :]))


@op(
    infer=_differences,
    dtypes=NUMERIC,
    promote=("x", "prepend", "append"),
    attributes={"axis": axis_of("x"), "n": count("n")},
    samples=_diff_samples,
    errors=errors(
        ErrorSample(AxisError, np.zeros((2, 3)), axis=2),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros((3, 1))),
        ErrorSample(ShapeError, np.zeros((2, 3)), None, np.zeros(2)),
        ErrorSample(ArgumentError, np.zeros((2, 3)), n=-1),
    ),
)
def diff(
    x: Tensor,
    /,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
    *,
    axis: int = -1,
    n: int = 1,
) -> Tensor:
    """Differences of neighbours along ``axis``, ``n`` times (array API `diff`).

    Args:
        x: at least one axis, any numeric dtype.
        prepend: put before ``x`` first; of its shape but for ``axis``.
        append: put after ``x`` first; of its shape but for ``axis``.
        axis: the axis.
        n: how many times; the axis is shorter by one each time, down to 0. With 0 the result
            is ``x``, and nothing is put to it.

    Raises:
        ShapeError: if ``prepend`` or ``append`` differs from ``x`` beyond ``axis``.
        ArgumentError: if ``n`` is negative.
    """
    if n == 0:
        return reshape(x, x.spec.shape)
    parts = [p for p in (prepend, x, append) if p is not None]
    out = concat(parts, axis=axis) if len(parts) > 1 else x
    for _ in range(n):
        out = narrow(out, axis, 1, None) - narrow(out, axis, None, -1)
    return out


__all__ = ["all", "any", "diff"]
