"""Scans along an axis: cumulative sums and products (array API standard 2024.12, "Statistical functions"), and
the linear recurrence that the derivative of a product is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import FLOATING, DType
from plugrad.errors import AxisError, DTypeError, ShapeError
from plugrad.ops._rules import accumulated, axis_of, normal_axis, widened
from plugrad.ops.creation import full
from plugrad.ops.movement import concat, flip
from plugrad.ops.slicing import WHOLE, scatter_slice, strided_slice
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def narrow(x: Tensor, axis: int, start: int | None, stop: int | None) -> Tensor:
    """``x[start:stop]`` along ``axis``."""
    bounds = [WHOLE] * len(x.spec.shape)
    bounds[axis] = (start, stop, 1)
    return strided_slice(x, tuple(bounds))


def _shifted(x: Tensor, axis: int, reverse: bool) -> Tensor:
    """``x`` moved one place along ``axis``, towards the end or, in reverse, the start; a zero comes in."""
    shape = x.spec.shape
    if shape[axis] == 0:
        return x
    kept = narrow(x, axis, 1, None) if reverse else narrow(x, axis, None, -1)
    bounds = [WHOLE] * len(shape)
    bounds[axis] = (None, -1, 1) if reverse else (1, None, 1)
    return scatter_slice(kept, shape=shape, bounds=tuple(bounds))


def _doubled(combine: Callable[[Tensor, Tensor], Tensor], x: Tensor, axis: int) -> Tensor:
    """The scan of an associative operation, by doubling: element i is combined with element i - 1, 2, 4, ..."""
    n, distance = x.spec.shape[axis], 1
    while distance < n:
        later = combine(narrow(x, axis, distance, None), narrow(x, axis, None, -distance))
        x = concat([narrow(x, axis, None, distance), later], axis=axis)
        distance *= 2
    return x


def _scan_axis(call: Any, value: Any) -> int:
    ndim = call.x.ndim
    if ndim == 0:
        raise ShapeError(f"{call.op.name}: takes at least one axis, got a 0-d tensor; reshape it to (1,)")
    if value is None:
        if ndim > 1:
            raise ShapeError(f"{call.op.name}: got axis None for shape {call.x.shape}, takes one of its axes")
        return 0
    return normal_axis(call, value, ndim)


def _scanned(call: Any) -> Spec:
    x: Spec = call.x
    shape = list(x.shape)
    shape[call.axis] += bool(call.include_initial)
    return Spec(tuple(shape), call.dtype, x.device)


def _scan_samples(rng: np.random.Generator) -> list[Sample]:
    holed = rng.uniform(0.5, 2, (3, 5))
    holed[0, 2] = holed[1, 0] = holed[1, 4] = 0
    return [
        Sample(rng.uniform(-2, 2, 7)),
        Sample(rng.uniform(-2, 2, (3, 4)), axis=0),
        Sample(rng.uniform(-2, 2, (2, 3, 4)), axis=-2, include_initial=True),
        Sample(holed, axis=1),
        Sample(rng.uniform(-2, 2, (3, 1)), axis=1),
        Sample(rng.uniform(-2, 2, (3, 0)), axis=1),
        Sample(rng.uniform(-2, 2, (0, 3)), axis=0, include_initial=True),
        Sample(rng.integers(-9, 9, (3, 4)), axis=1),
        Sample(rng.uniform(-2, 2, 4), dtype="float64"),
    ]


_SCAN = {"axis": _scan_axis, "dtype": accumulated}


_SCAN_ERRORS = errors(
    ErrorSample(ShapeError, np.zeros(())),
    ErrorSample(ShapeError, np.zeros((2, 3))),
    ErrorSample(AxisError, np.zeros((2, 3)), axis=2),
    ErrorSample(DTypeError, np.zeros(3), dtype="int32"),
)


@op(
    kind=Kind.SCAN,
    infer=_scanned,
    attributes=_SCAN,
    autocast=Autocast.FULL,
    primitive=True,
    samples=_scan_samples,
    errors=_SCAN_ERRORS,
)
def cumulative_sum(
    x: Tensor, /, *, axis: int | None = None, dtype: DType | str | None = None, include_initial: bool = False
) -> Tensor:
    """Sums of the elements up to and including each one, along ``axis`` (array API `cumulative_sum`).

    Args:
        x: at least one axis, any dtype.
        axis: the axis; it may be left out for a tensor of one axis.
        dtype: of the result, in which the sums are made. By default that of ``x``; int64 or uint64 for
            integers, int64 for bools.
        include_initial: start with 0, so that the axis is longer by one.

    Raises:
        ShapeError: if ``x`` has no axes, or several and ``axis`` is None.
        DTypeError: if ``dtype`` cannot hold the sums: bool, or an integer one for floats.

    16-bit floats accumulate in float32.
    """


@cumulative_sum.defvjp("x")
def _(ct: Tensor, x: Spec, *, axis: int, include_initial: bool) -> Tensor:
    if include_initial:
        ct = narrow(ct, axis, 1, None)
    return flip(cumulative_sum(flip(ct, axis=axis), axis=axis), axis=axis).astype(x.dtype, copy=False)


@op(
    kind=Kind.SCAN,
    infer=_scanned,
    attributes=_SCAN,
    autocast=Autocast.FULL,
    may_alias=True,
    samples=_scan_samples,
    errors=_SCAN_ERRORS,
)
def cumulative_prod(
    x: Tensor, /, *, axis: int | None = None, dtype: DType | str | None = None, include_initial: bool = False
) -> Tensor:
    """Products of the elements up to and including each one, along ``axis`` (array API `cumulative_prod`).

    Args:
        x: at least one axis, any dtype.
        axis: the axis; it may be left out for a tensor of one axis.
        dtype: of the result, in which the products are made. By default that of ``x``; int64 or uint64 for
            integers, int64 for bools.
        include_initial: start with 1, so that the axis is longer by one.

    Raises:
        ShapeError: if ``x`` has no axes, or several and ``axis`` is None.
        DTypeError: if ``dtype`` cannot hold the products: bool, or an integer one for floats.

    The derivative divides by nothing, so it holds where elements are 0. 16-bit floats accumulate in float32.
    """
    assert axis is not None
    assert isinstance(dtype, DType)
    wide = widened(dtype) if dtype.is_floating else dtype
    out = _doubled(lambda later, earlier: later * earlier, x.astype(wide), axis)
    if include_initial:
        shape = tuple(1 if i == axis else n for i, n in enumerate(x.spec.shape))
        out = concat([full(shape, 1, dtype=wide, device=x.spec.device), out], axis=axis)
    return out.astype(dtype)


@cumulative_prod.defvjp("x")
def _(ct: Tensor, x: Tensor, *, axis: int, include_initial: bool) -> Tensor:
    # y[k] is a product over i <= k, so that the cotangent of x[i] is the product of what stands before i times
    # r[i] = ct[i] + x[i + 1] r[i + 1].
    wide = widened(ct.spec.dtype)
    ct, x = ct.astype(wide), x.astype(wide)
    if include_initial:
        ct = narrow(ct, axis, 1, None)
    before = narrow(cumulative_prod(x, axis=axis, include_initial=True), axis, None, -1)
    return before * linear_recurrence(_shifted(x, axis, True), ct, axis=axis, reverse=True)


def _recurred(call: Any) -> Spec:
    a: Spec = call.a
    b: Spec = call.b
    if a.shape != b.shape:
        raise ShapeError(
            f"linear_recurrence: got a of shape {a.shape} and b of shape {b.shape}, takes one shape"
        )
    return b


def _recurrence_samples(rng: np.random.Generator) -> list[Sample]:
    def pair(*shape: int) -> tuple[Any, Any]:
        return rng.uniform(-1.5, 1.5, shape), rng.uniform(-1.5, 1.5, shape)

    return [
        Sample(*pair(6)),
        Sample(*pair(4, 3), axis=0),
        Sample(*pair(2, 5, 20), axis=1, reverse=True),
        Sample(*pair(3, 1)),
        Sample(*pair(0, 3), axis=0),
        Sample(*pair(2, 0)),
    ]


@op(
    kind=Kind.SCAN,
    infer=_recurred,
    dtypes=FLOATING,
    promote=("a", "b"),
    attributes={"axis": axis_of("a")},
    autocast=Autocast.FULL,
    may_alias=True,
    samples=_recurrence_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros(3)),
        ErrorSample(AxisError, np.zeros(3), np.zeros(3), axis=1),
    ),
)
def linear_recurrence(a: Tensor, b: Tensor, /, *, axis: int = -1, reverse: bool = False) -> Tensor:
    """The linear recurrence ``h[i] = a[i] * h[i - 1] + b[i]`` along ``axis``, from ``h[0] = b[0]``.

    Args:
        a: factors, of a floating dtype; the first is not used.
        b: terms, of the shape of ``a``.
        axis: the axis that it runs along.
        reverse: run from the end: ``h[i] = a[i] * h[i + 1] + b[i]``.

    Returns:
        All ``h``, of the shape of ``a``.

    Raises:
        ShapeError: if the shapes differ.

    The body is the scan of Blelloch, "Prefix sums and their applications" (1990), section 1.4.1, in doubling
    steps; 16-bit floats accumulate in float32.
    """
    dtype = b.spec.dtype
    wide = widened(dtype)
    a, b = a.astype(wide), b.astype(wide)
    if reverse:
        a, b = flip(a, axis=axis), flip(b, axis=axis)
    n, distance = b.spec.shape[axis], 1
    while distance < n:
        later = narrow(a, axis, distance, None)
        whole = narrow(b, axis, distance, None) + later * narrow(b, axis, None, -distance)
        b = concat([narrow(b, axis, None, distance), whole], axis=axis)
        factors = later * narrow(a, axis, None, -distance)
        a = concat([narrow(a, axis, None, distance), factors], axis=axis)
        distance *= 2
    return (flip(b, axis=axis) if reverse else b).astype(dtype)


@linear_recurrence.defvjp()
def _(ct: Tensor, a: Tensor, out: Tensor, *, axis: int, reverse: bool) -> Any:
    # What a term is worth: its own cotangent, and through the factor after it that of the next.
    terms = linear_recurrence(_shifted(a, axis, not reverse), ct, axis=axis, reverse=not reverse)
    return terms * _shifted(out, axis, reverse), terms


__all__ = ["cumulative_prod", "cumulative_sum", "linear_recurrence"]
