"""A tensor with some of its elements replaced: what ``x[key] = value`` binds ``x`` to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.errors import ArgumentError, AxisError, DTypeError, IndexRangeError, ShapeError
from plugrad.ops._rules import axis_of
from plugrad.ops.arithmetic import copied, maximum
from plugrad.ops.broadcasting import broadcast_to, sum_to
from plugrad.ops.comparison import equal, not_equal, where
from plugrad.ops.creation import iota, ones_of, zeros_of
from plugrad.ops.indexing import INDEX, I, gather_nd, indexed_shape, scatter_nd, take
from plugrad.ops.movement import concatenate, reshape
from plugrad.ops.slicing import (
    Bound,
    bounded_shape,
    given_bounds,
    normal_bounds,
    scatter_slice,
    strided_slice,
)
from plugrad.ops.sorting import argsort
from plugrad.spec import Shape, Spec, broadcast_shapes

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Bounds = tuple[tuple[int, int, int], ...]


def _replaced(call: Any, place: Shape) -> Spec:
    """The spec of ``x``, once the value is found to fit into the place."""
    x: Spec = call.x
    value: Spec = call.value
    if value.dtype is not x.dtype:
        raise DTypeError(f"{call.op.name}: x is {x.dtype}, the value {value.dtype}; cast it with astype")
    if len(value.shape) > len(place) or broadcast_shapes(call.op.name, [value.shape, place]) != place:
        raise ShapeError(f"{call.op.name}: a value of shape {value.shape} does not fit a place of {place}")
    return x


def _slice_bounds(call: Any, value: Any) -> Bounds:
    return normal_bounds(call, value, call.x.shape)


def _slice_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(
            rng.standard_normal((5, 4)), rng.standard_normal((3, 2)), bounds=((1, 4, 1), (None, None, -2))
        ),
        Sample(rng.standard_normal((5, 4)), rng.standard_normal((3, 1)), bounds=((1, 4, 1), (0, 2, 1))),
        Sample(rng.standard_normal((5,)), rng.standard_normal(()), bounds=((None, None, 2),)),
        Sample(rng.standard_normal((5,)), rng.standard_normal((0,)), bounds=((2, 2, 1),)),
        Sample(rng.standard_normal(()), rng.standard_normal(()), bounds=()),
    ]


@op(
    kind=Kind.MOVEMENT,
    infer=lambda call: _replaced(call, bounded_shape(call.bounds)),
    attributes={"bounds": _slice_bounds},
    samples=_slice_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros(5), np.zeros(3), bounds=((0, 2, 1),)),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros(()), bounds=((0, 2, 1),)),
        ErrorSample(ArgumentError, np.zeros(5), np.zeros(()), bounds=((0, 2, 0),)),
        ErrorSample(DTypeError, np.zeros(5), np.arange(2), bounds=((0, 2, 1),)),
    ),
)
def update_slice(x: Tensor, value: Tensor, /, bounds: Sequence[Bound]) -> Tensor:
    """``x`` with ``value`` in the place that `strided_slice` with the same bounds reads.

    Args:
        x: any shape and dtype.
        value: of the dtype of ``x``; it broadcasts to the shape of the place.
        bounds: one ``(start, stop, step)`` for each axis.

    Raises:
        ShapeError: if there is not one bound for each axis, or ``value`` does not fit the place.
        DTypeError: if ``value`` has another dtype.
        ArgumentError: for a step of 0.
    """
    shape, place = x.spec.shape, bounded_shape(bounds)  # type: ignore[arg-type]  # normalised
    given = given_bounds(bounds)  # type: ignore[arg-type]
    inside = scatter_slice(ones_of(Spec(place, dtypes.bool, x.spec.device)), shape=shape, bounds=given)
    return where(inside, scatter_slice(broadcast_to(value, place), shape=shape, bounds=given), x)


@update_slice.defvjp("x")
def _(ct: Tensor, *, bounds: Bounds) -> Tensor:
    return update_slice(ct, zeros_of(ct.spec.with_shape(())), given_bounds(bounds))


@update_slice.defvjp("value")
def _(ct: Tensor, value: Spec, *, bounds: Bounds) -> Tensor:
    return sum_to(strided_slice(ct, given_bounds(bounds)), value.shape)


def _update_samples(rng: np.random.Generator) -> list[Sample]:
    normal, integers = rng.standard_normal, rng.integers
    return [
        Sample(normal((4, 3)), [integers(-4, 4, 6)], normal((6, 3))),
        Sample(normal((4, 3)), [integers(0, 4, (2, 3)), integers(0, 3, (2, 3))], normal((3,))),
        Sample(normal((2, 4, 3, 2)), [integers(0, 4, 5), integers(0, 3, 5)], normal((2, 5, 2)), axis=1),
        Sample(normal((2, 4)), [integers(0, 4, ())], normal((2,)), axis=-1),
        Sample(normal((2, 4)), [integers(0, 4, 0)], normal((2, 0)), axis=1),
        Sample(normal((0, 4)), [integers(0, 4, 2)], normal(()), axis=1),
    ]


@op(
    kind=I,
    infer=lambda call: _replaced(call, indexed_shape(call, call.x.shape)),
    dtypes={"indices": INDEX},
    attributes={"axis": axis_of("x")},
    samples=_update_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.zeros((2, 3)), [np.array([0, 1]), np.array([0, 3])], np.zeros(2)),
        ErrorSample(IndexRangeError, np.zeros((2, 3)), [np.array([-4])], np.zeros(()), axis=1),
        ErrorSample(ShapeError, np.zeros((2, 3)), [np.array([0, 1])], np.zeros((3, 3))),
        ErrorSample(AxisError, np.zeros((2, 3)), [np.array([0]), np.array([0])], np.zeros(1), axis=1),
        ErrorSample(DTypeError, np.zeros(3), [np.array([0])], np.arange(1)),
    ),
)
def update_nd(x: Tensor, indices: Sequence[Tensor], value: Tensor, /, *, axis: int = 0) -> Tensor:
    """``x`` with ``value`` at the places that `gather_nd` with the same indices reads.

    Args:
        x: any shape and dtype.
        indices: k tensors of int32 or int64, all of one shape. The j-th one indexes axis ``axis + j``.
        value: of the dtype of ``x``; it broadcasts to the shape that is read. Where several elements of it
            meet in one place, the last one in the order of the indices stays, as in NumPy, and it alone gets
            a gradient.
        axis: the first of the k axes.

    Raises:
        IndexRangeError: if an index is outside its axis.
        ShapeError: if the indices differ in shape, or ``value`` does not fit the place.
        AxisError: if there are more indices than axes.
        DTypeError: if ``value`` has another dtype.
    """
    shape, place, count = x.spec.shape, indices[0].spec.shape, math.prod(indices[0].spec.shape)
    if not count:
        return copied(x)
    stop = axis + len(indices)
    last = _last(indices, shape[axis:stop])
    whole = broadcast_to(value, (*shape[:axis], *place, *shape[stop:]))
    values = reshape(whole, (*shape[:axis], count, *shape[stop:]))
    return where(_hit(last, shape, axis), take(values, maximum(last - 1, 0), axis=axis), x)


def _last(indices: Sequence[Tensor], sizes: Shape) -> Tensor:
    """For each place of shape ``sizes`` the number, from 1, of the last index that names it; 0 where none does."""
    count = math.prod(indices[0].spec.shape)
    flat = [reshape(i, (count,)) for i in indices]
    place: Any = 0
    for i, n in zip(flat, sizes, strict=True):
        place = place * n + where(i < 0, i + n, i)
    order = argsort(place)
    place = take(place, order)
    differs = not_equal(strided_slice(place, ((1, None, 1),)), strided_slice(place, ((None, -1, 1),)))
    ends = concatenate([differs, ones_of(Spec((1,), dtypes.bool, differs.spec.device))], axis=0)
    return scatter_nd(where(ends, order + 1, 0), [take(i, order) for i in flat], shape=sizes)


def _hit(last: Tensor, shape: Shape, axis: int) -> Tensor:
    """Whether a place was written to, broadcasting with ``shape``."""
    sizes = last.spec.shape
    return reshape(last != 0, (*(1,) * axis, *sizes, *(1,) * (len(shape) - axis - len(sizes))))


@update_nd.defvjp("x")
def _(ct: Tensor, indices: Sequence[Tensor], *, axis: int) -> Tensor:
    return update_nd(ct, indices, zeros_of(ct.spec.with_shape(())), axis=axis)


@update_nd.defvjp("value")
def _(ct: Tensor, indices: Sequence[Tensor], value: Spec, *, axis: int) -> Tensor:
    read = gather_nd(ct, indices, axis=axis)
    place = indices[0].spec.shape
    count = math.prod(place)
    if count > 1:
        last = _last(indices, ct.spec.shape[axis : axis + len(indices)])
        mine = reshape(iota(count, device=ct.spec.device), place) + 1
        stays = equal(gather_nd(last, indices), mine)
        rest = (1,) * (read.spec.ndim - axis - len(place))
        read = where(reshape(stays, (*place, *rest)), read, zeros_of(ct.spec.with_shape(())))
    return sum_to(read, value.shape)


__all__ = ["update_nd", "update_slice"]
