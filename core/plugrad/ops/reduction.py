"""Statistics over axes (array API standard 2024.12, "Statistical functions"); `sum` stands with broadcasting, whose
adjoint it is, the cumulative ones with the scans.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import FLOATING, NUMERIC, DType
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from plugrad.ops._rules import (
    AXES,
    REFUSED_AXES,
    accumulated,
    kept,
    nonempty,
    reduced,
    reduced_shape,
    size,
    widened,
)
from plugrad.ops.broadcasting import broadcast_to, sum
from plugrad.ops.comparison import bitwise_invert, equal, where
from plugrad.ops.movement import flip, permute_dims, reshape
from plugrad.ops.scan import cumulative_prod, narrow
from plugrad.ops.transcendental import sqrt
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Axis = int | tuple[int, ...] | None


def _samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 4))),
        Sample(rng.standard_normal((2, 3, 4)), axis=(0, 2)),
        Sample(rng.standard_normal((2, 3, 4)), axis=-1, keepdims=True),
        Sample(rng.standard_normal((2, 3)), axis=()),
        Sample(rng.standard_normal((0, 3)), axis=1),
        Sample(rng.standard_normal(())),
    ]


def _extremum_samples(rng: np.random.Generator) -> list[Sample]:
    return [*_samples(rng), Sample(rng.integers(-9, 9, (3, 4)), axis=0)]


def _kept(ct: Tensor, x: Spec, axis: tuple[int, ...]) -> Tensor:
    """``ct`` with the reduced axes back, of size 1."""
    return reshape(ct, reduced_shape(x.shape, axis, True))


@op(
    kind=Kind.REDUCTION,
    infer=nonempty,
    dtypes=NUMERIC,
    attributes=AXES,
    primitive=True,
    factors=kept,
    samples=_extremum_samples,
    errors=errors(*REFUSED_AXES, ErrorSample(ShapeError, np.zeros((0, 3)), axis=0)),
)
def max(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element over ``axis`` (array API `max`); NaN where there is one.

    Args:
        x: any shape, any numeric dtype.
        axis: one axis, several, or None for all; none of them may be empty.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        ShapeError: if an axis reduced is empty.

    Elements that tie for the largest share the derivative equally.
    """


@op(
    kind=Kind.REDUCTION,
    infer=nonempty,
    dtypes=NUMERIC,
    attributes=AXES,
    factors=kept,
    samples=_extremum_samples,
    errors=errors(*REFUSED_AXES, ErrorSample(ShapeError, np.zeros((0, 3)), axis=0)),
)
def min(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element over ``axis`` (array API `min`); NaN where there is one.

    Args:
        x: any shape, any numeric dtype.
        axis: one axis, several, or None for all; none of them may be empty.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        ShapeError: if an axis reduced is empty.

    Elements that tie for the smallest share the derivative equally.
    """
    if x.spec.dtype.is_integer:
        # The complement reverses the order of every integer dtype; a negative would overflow.
        return bitwise_invert(max(bitwise_invert(x), axis=axis, keepdims=keepdims))
    return -max(-x, axis=axis, keepdims=keepdims)


def _extremum(ct: Tensor, x: Tensor, out: Tensor, axis: tuple[int, ...]) -> Tensor:
    # 16 bits hold too few integers to count ties in.
    wide = widened(x.spec.dtype)
    hits = equal(x, _kept(out, x.spec, axis)).astype(wide)
    return hits * (_kept(ct, x.spec, axis).astype(wide) / sum(hits, axis=axis, keepdims=True))


@max.defvjp("x")
def _(ct: Tensor, x: Tensor, out: Tensor, *, axis: tuple[int, ...]) -> Tensor:
    return _extremum(ct, x, out, axis)


@min.defvjp("x")
def _(ct: Tensor, x: Tensor, out: Tensor, *, axis: tuple[int, ...]) -> Tensor:
    return _extremum(ct, x, out, axis)


def _multiplied(call: Any) -> Spec:
    return reduced(call).with_dtype(call.dtype)


def _prod_samples(rng: np.random.Generator) -> list[Sample]:
    one, two = rng.uniform(0.5, 2, (3, 4)), rng.uniform(0.5, 2, (3, 4))
    one[0, 1] = two[1, 0] = two[1, 2] = 0
    return [
        Sample(rng.uniform(-2, 2, (2, 3))),
        Sample(rng.uniform(-2, 2, (2, 3, 4)), axis=(0, 2)),
        Sample(rng.uniform(-2, 2, (2, 3, 4)), axis=-2, keepdims=True),
        Sample(one, axis=1),
        Sample(two, axis=1),
        Sample(rng.uniform(-2, 2, (2, 3)), axis=()),
        Sample(rng.uniform(-2, 2, (0, 3)), axis=0),
        Sample(rng.uniform(-2, 2, ())),
        Sample(rng.integers(-3, 4, (3, 4)), axis=0),
        Sample(rng.uniform(-2, 2, 3), dtype="float64"),
    ]


@op(
    kind=Kind.REDUCTION,
    infer=_multiplied,
    attributes={**AXES, "dtype": accumulated},
    autocast=Autocast.FULL,
    primitive=True,
    factors=kept,
    samples=_prod_samples,
    errors=errors(*REFUSED_AXES, ErrorSample(DTypeError, np.zeros((2, 3)), dtype="int32")),
)
def prod(
    x: Tensor, /, *, axis: Axis = None, dtype: DType | str | None = None, keepdims: bool = False
) -> Tensor:
    """Product over ``axis`` (array API `prod`); 1 where nothing is multiplied.

    Args:
        x: any shape, any dtype.
        axis: one axis, several, or None for all.
        dtype: of the result, in which the product is made. By default that of ``x``; int64 or uint64 for
            integers, int64 for bools. Integers wrap around.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        DTypeError: if ``dtype`` cannot hold the product: bool, or an integer one for floats.
        AxisError: if there is no such axis.
        ShapeError: if one is named twice.

    The derivative divides by nothing, so it holds where elements are 0. 16-bit floats accumulate in float32.
    """


@prod.defvjp("x")
def _(ct: Tensor, x: Tensor, *, axis: tuple[int, ...]) -> Tensor:
    # The product of all but one element is that of what stands before it times that of what stands after it.
    shape, wide = x.spec.shape, widened(ct.spec.dtype)
    rest = tuple(i for i in range(len(shape)) if i not in axis)
    order = (*rest, *axis)
    outer = tuple(shape[i] for i in rest)
    rows = reshape(permute_dims(x.astype(wide), order), (*outer, size([shape[i] for i in axis])))
    last = len(rest)
    before = narrow(cumulative_prod(rows, axis=last, include_initial=True), last, None, -1)
    rows = flip(rows, axis=last)
    after = flip(narrow(cumulative_prod(rows, axis=last, include_initial=True), last, None, -1), axis=last)
    others = before * after * reshape(ct.astype(wide), (*outer, 1))
    back = tuple(order.index(i) for i in range(len(shape)))
    return permute_dims(reshape(others, tuple(shape[i] for i in order)), back)


@op(
    kind=Kind.REDUCTION,
    infer=reduced,
    dtypes=FLOATING,
    attributes=AXES,
    autocast=Autocast.FULL,
    factors=kept,
    samples=_samples,
    errors=errors(*REFUSED_AXES),
)
def mean(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over ``axis`` (array API `mean`); NaN of no elements.

    Args:
        x: any shape, a floating dtype.
        axis: one axis, several, or None for all.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        AxisError: if there is no such axis.
        ShapeError: if one is named twice.

    16-bit floats accumulate in float32.
    """
    dtype = x.spec.dtype
    total = sum(x, axis=axis, dtype=widened(dtype), keepdims=keepdims)
    return (total / _count(x.spec, total.spec)).astype(dtype)


@mean.defvjp("x")
def _(ct: Tensor, x: Spec, *, axis: tuple[int, ...]) -> Tensor:
    return broadcast_to(_kept(ct / _count(x, ct.spec), x, axis), x.shape)


def _count(x: Spec, reduced: Spec) -> float:
    """How many elements of ``x`` go to one of the result; NaN for none, so that their mean is NaN."""
    return x.size / reduced.size if x.size and reduced.size else math.nan


def _correction(call: Any, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ArgumentError(f"{call.op.name}: correction takes a finite number, got {value!r}")
    return float(value)


_SPREAD = {**AXES, "correction": _correction}


def _spread_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 4))),
        Sample(rng.standard_normal((2, 3, 4)), axis=(0, 2), correction=1),
        Sample(rng.standard_normal((2, 3, 4)), axis=-1, correction=0.5, keepdims=True),
        Sample(rng.standard_normal((0, 3)), axis=1),
    ]


def _squares(x: Tensor, axis: Axis, correction: float, keepdims: bool) -> Tensor:
    """The variance, with 16-bit floats as float32."""
    x = x.astype(widened(x.spec.dtype))
    centred = x - mean(x, axis=axis, keepdims=True)
    total = sum(centred * centred, axis=axis, keepdims=keepdims)
    degrees = _count(x.spec, total.spec) - correction
    return total / (degrees if degrees > 0 else math.nan)


@op(
    kind=Kind.REDUCTION,
    infer=reduced,
    dtypes=FLOATING,
    attributes=_SPREAD,
    autocast=Autocast.FULL,
    factors=kept,
    samples=_spread_samples,
    errors=errors(*REFUSED_AXES, ErrorSample(ArgumentError, np.zeros((2, 3)), correction=math.inf)),
)
def var(x: Tensor, /, *, axis: Axis = None, correction: int | float = 0.0, keepdims: bool = False) -> Tensor:
    """Variance over ``axis`` (array API `var`): the mean square distance from the mean, found in two passes.

    Args:
        x: any shape, a floating dtype.
        axis: one axis, several, or None for all.
        correction: the sum of squares of n elements is divided by ``n - correction``; 1 makes it unbiased
            (Bessel). The variance is NaN where that is not positive, and of no elements, whatever the correction.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        ArgumentError: if ``correction`` is no finite number.
        AxisError: if there is no such axis.
        ShapeError: if one is named twice.

    16-bit floats accumulate in float32.
    """
    return _squares(x, axis, correction, keepdims).astype(x.spec.dtype)


@op(
    kind=Kind.REDUCTION,
    infer=reduced,
    dtypes=FLOATING,
    attributes=_SPREAD,
    autocast=Autocast.FULL,
    factors=kept,
    samples=_spread_samples,
    errors=errors(*REFUSED_AXES, ErrorSample(ArgumentError, np.zeros((2, 3)), correction=math.inf)),
)
def std(x: Tensor, /, *, axis: Axis = None, correction: int | float = 0.0, keepdims: bool = False) -> Tensor:
    """Standard deviation over ``axis`` (array API `std`): the square root of `var`.

    Args:
        x: any shape, a floating dtype.
        axis: one axis, several, or None for all.
        correction: see `var`.
        keepdims: keep the axes reduced, with size 1.

    Raises:
        ArgumentError: if ``correction`` is no finite number.
        AxisError: if there is no such axis.
        ShapeError: if one is named twice.

    The derivative at elements that are all equal is 0. 16-bit floats accumulate in float32.
    """
    square = _squares(x, axis, correction, keepdims)
    flat = square == 0
    return where(flat, 0.0, sqrt(where(flat, 1.0, square))).astype(x.spec.dtype)


__all__ = ["max", "mean", "min", "prod", "std", "var"]
