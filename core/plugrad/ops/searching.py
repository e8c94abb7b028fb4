"""Where elements are: nonzero ones, largest ones, places in an order (array API standard 2024.12, "Searching
functions"; `where` stands with the comparisons).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import NUMERIC
from plugrad.errors import ArgumentError, IndexRangeError, ShapeError
from plugrad.ops._rules import AXES, REFUSED_AXES, REFUSED_AXIS, axis_of, reduced, reduced_shape
from plugrad.ops.arithmetic import minimum
from plugrad.ops.broadcasting import sum
from plugrad.ops.comparison import bitwise_invert, isnan, logical_not, where
from plugrad.ops.creation import full
from plugrad.ops.indexing import INDEX, take
from plugrad.ops.movement import reshape, select
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Axis = int | tuple[int, ...] | None


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
    return tuple(select(indices, axis) for axis in range(x.ndim))


def _truth(x: Tensor) -> Tensor:
    return x if x.spec.dtype is dtypes.bool else x != 0


def _counted(call: Any) -> Spec:
    return reduced(call).with_dtype(dtypes.int64)


@op(
    kind=Kind.REDUCTION,
    infer=_counted,
    attributes=AXES,
    differentiable=False,
    samples=lambda rng: [
        Sample(rng.integers(0, 3, (3, 4))),
        Sample(rng.random((2, 3, 4)) < 0.5, axis=(0, 2), keepdims=True),
        Sample(rng.integers(0, 3, (0, 3)), axis=0),
        Sample(rng.integers(0, 3, ())),
    ],
    errors=errors(*REFUSED_AXES),
)
def count_nonzero(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements over ``axis`` are nonzero, as int64 (array API `count_nonzero`).

    Args:
        x: any shape, any dtype. True and NaN are nonzero.
        axis: one axis, several, or None for all.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        AxisError: if there is no such axis.
        ShapeError: if one is named twice.
    """
    return sum(_truth(x), axis=axis, dtype=dtypes.int64, keepdims=keepdims)


def _one_axis(call: Any, value: Any) -> int | None:
    return None if value is None else axis_of("x")(call, value)


def _argreduced(call: Any) -> Spec:
    x: Spec = call.x
    axis = tuple(range(x.ndim)) if call.axis is None else (call.axis,)
    for a in axis:
        if x.shape[a] == 0:
            raise ShapeError(
                f"{call.op.name}: axis {a} of shape {x.shape} is empty, takes at least one element"
            )
    return Spec(reduced_shape(x.shape, axis, call.keepdims), dtypes.int64, x.device)


def _arg_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 4))),
        Sample(rng.standard_normal((3, 4)), axis=1),
        Sample(rng.standard_normal((2, 3, 4)), axis=-2, keepdims=True),
        Sample(rng.integers(0, 3, (3, 4)), keepdims=True),
        Sample(rng.integers(0, 3, (3, 9)), axis=1),
        Sample(rng.standard_normal((0, 3)), axis=1),
        Sample(rng.standard_normal(())),
    ]


@op(
    kind=Kind.REDUCTION,
    infer=_argreduced,
    dtypes=NUMERIC,
    attributes={"axis": _one_axis},
    primitive=True,
    differentiable=False,
    samples=_arg_samples,
    errors=errors(*REFUSED_AXIS, ErrorSample(ShapeError, np.zeros((0, 3)), axis=0)),
)
def argmax(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the largest element along ``axis``, as int64 (array API `argmax`).

    Args:
        x: any shape, any numeric dtype. NaN counts as the largest. Of equal elements the first is taken.
        axis: an axis; None for the index into the flattened tensor.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        ShapeError: if an axis reduced is empty.
    """


@op(
    kind=Kind.REDUCTION,
    infer=_argreduced,
    dtypes=NUMERIC,
    attributes={"axis": _one_axis},
    differentiable=False,
    samples=_arg_samples,
    errors=errors(*REFUSED_AXIS, ErrorSample(ShapeError, np.zeros((0, 3)), axis=0)),
)
def argmin(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the smallest element along ``axis``, as int64 (array API `argmin`).

    Args:
        x: any shape, any numeric dtype. NaN counts as the smallest. Of equal elements the first is taken.
        axis: an axis; None for the index into the flattened tensor.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        ShapeError: if an axis reduced is empty.
    """
    # The complement reverses the order of every integer dtype; a negative would overflow.
    reversed_ = bitwise_invert(x) if x.spec.dtype.is_integer else -x
    return argmax(reversed_, axis=axis, keepdims=keepdims)


def _side(call: Any, value: Any) -> str:
    if value not in ("left", "right"):
        raise ArgumentError(f"{call.op.name}: side takes 'left' or 'right', got {value!r}")
    return str(value)


def _placed(call: Any) -> Spec:
    if call.x1.ndim != 1:
        raise ShapeError(f"{call.op.name}: x1 takes one axis, got shape {call.x1.shape}")
    if call.sorter is not None and call.sorter.shape != call.x1.shape:
        raise ShapeError(
            f"{call.op.name}: sorter takes the shape of x1, {call.x1.shape}, got {call.sorter.shape}"
        )
    return Spec(call.x2.shape, dtypes.int64, call.x2.device)


def _place_samples(rng: np.random.Generator) -> list[Sample]:
    numbers = rng.standard_normal(9)
    return [
        Sample(np.sort(numbers), rng.standard_normal((2, 5))),
        Sample(np.sort(rng.integers(0, 9, 12)), rng.integers(-1, 10, 20)),
        Sample(np.sort(rng.integers(0, 9, 12)), rng.integers(-1, 10, 20), side="right"),
        Sample(numbers, rng.standard_normal(5), np.argsort(numbers)),
        Sample(np.zeros(0), rng.standard_normal(3)),
        Sample(np.zeros(1), rng.standard_normal(())),
        Sample(np.zeros(8), rng.standard_normal((0, 2))),
    ]


def _before(x: Tensor, key: Tensor, side: str) -> Tensor:
    """Whether ``x`` stands before the place of ``key``; NaN comes last."""
    before = x < key if side == "left" else x <= key
    if not key.spec.dtype.is_floating:
        return before
    last = isnan(key) if side == "right" else isnan(key) & logical_not(isnan(x))
    return before | last


@op(
    kind=Kind.SORTING,
    infer=_placed,
    dtypes={"x1": NUMERIC, "x2": NUMERIC, "sorter": INDEX},
    promote=("x1", "x2"),
    attributes={"side": _side},
    differentiable=False,
    samples=_place_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.arange(3), np.arange(2), np.array([0, 1, 3])),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros(2)),
        ErrorSample(ShapeError, np.zeros(3), np.zeros(2), np.arange(2)),
        ErrorSample(ArgumentError, np.zeros(3), np.zeros(2), side="middle"),
    ),
)
def searchsorted(x1: Tensor, x2: Tensor, /, sorter: Tensor | None = None, *, side: str = "left") -> Tensor:
    """Where the elements of ``x2`` would be put in ``x1`` to keep it in order (array API `searchsorted`).

    Args:
        x1: (n,), any numeric dtype, ascending, NaN last. In another order the result is unspecified.
        x2: any shape, any numeric dtype; promoted with ``x1``.
        sorter: int32 or int64 (n,): indices that bring ``x1`` into order, as from `argsort`.
        side: ``"left"`` for the first place that keeps the order, ``"right"`` for the last.

    Returns:
        int64 in [0, n], of the shape of ``x2``.

    Raises:
        ShapeError: if ``x1`` has not one axis, or ``sorter`` another shape.
        ArgumentError: if ``side`` is neither.
        IndexRangeError: if an element of ``sorter`` is outside [-n, n).
    """
    if sorter is not None:
        x1 = take(x1, sorter)
    n = x1.spec.size
    keys = reshape(x2, (x2.spec.size,))
    place = full(keys.spec.shape, 0, dtype=dtypes.int64, device=keys.spec.device)
    # Bisection without branches: the steps are the powers of two up to n, the largest first.
    step = 1 << n.bit_length() >> 1
    while step:
        last = place + (step - 1)
        value = take(x1, minimum(last, n - 1))
        place = where((last < n) & _before(value, keys, side), place + step, place)
        step >>= 1
    return reshape(place, x2.spec.shape)


__all__ = ["argmax", "argmin", "count_nonzero", "nonzero", "nonzero_indices", "searchsorted"]
