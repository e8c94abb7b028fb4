"""Kernels that move elements. Most give views."""

from __future__ import annotations

from collections.abc import Sequence

from plugrad import ops
from plugrad.errors import ArgumentError
from plugrad.generated.array import StridedArray, broadcast, permuted, reshaped, sliced
from plugrad.generated.kernels._run import contiguous, copied, filled, given, room
from plugrad.generated.kernels._table import table
from plugrad.spec import Shape

Bounds = Sequence[tuple[int, int, int]]


@table(ops.reshape)
def _(
    x: StridedArray, *, shape: Shape, copy: bool | None = None, into: StridedArray | None = None
) -> StridedArray:
    if into is not None:
        # Row-major order is the same in both shapes, and ``into`` is contiguous.
        view = reshaped(into, x.shape)
        assert view is not None
        copied(x, view)
        return into
    view = reshaped(x, shape)
    if view is None:
        if copy is False:
            raise ArgumentError(
                f"reshape: copy=False, but the elements of this tensor have to be copied for shape {shape}"
            )
        view = reshaped(contiguous(x), shape)
        assert view is not None
    return view


@table(ops.permute_dims)
def _(x: StridedArray, *, axes: Sequence[int], into: StridedArray | None = None) -> StridedArray:
    return given(permuted(x, axes), into)


@table(ops.broadcast_to)
def _(x: StridedArray, *, shape: Shape, into: StridedArray | None = None) -> StridedArray:
    return given(broadcast(x, shape), into)


@table(ops.strided_slice)
def _(x: StridedArray, *, bounds: Bounds, into: StridedArray | None = None) -> StridedArray:
    return given(sliced(x, bounds), into)


@table(ops.scatter_slice)
def _(x: StridedArray, *, shape: Shape, bounds: Bounds, into: StridedArray | None = None) -> StridedArray:
    out = filled(0, room(x.device, shape, x.dtype, into))
    copied(x, sliced(out, bounds))
    return out


@table(ops.concatenate)
def _(arrays: Sequence[StridedArray], *, axis: int, into: StridedArray | None = None) -> StridedArray:
    first = arrays[0]
    total = sum(x.shape[axis] for x in arrays)
    out = room(first.device, (*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype, into)
    at = 0
    for x in arrays:
        place = [(0, n, 1) for n in out.shape]
        place[axis] = (at, at + x.shape[axis], 1)
        copied(x, sliced(out, place))
        at += x.shape[axis]
    return out
