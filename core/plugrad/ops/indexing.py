"""Reading and adding at places that integer tensors name (array API standard 2024.12, "Indexing functions").

The primitives are `gather_nd` and its adjoint `scatter_nd`, which adds; whatever reads or adds by index has a
body in the two. An index counts from the end where it is negative. One outside the axis raises an
`IndexRangeError` that names the op: at once on a device that computes at once, else with the next
synchronisation; no kernel touches memory outside. Assignment: `plugrad.ops.assignment`; one-hot codes and embeddings:
`plugrad.ops.lookup`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import NUMERIC, int32, int64
from plugrad.errors import AxisError, IndexRangeError, ShapeError
from plugrad.ops._rules import axis_of, normal_axis, shape_value
from plugrad.ops.arithmetic import add
from plugrad.ops.broadcasting import broadcast_to, sum_to
from plugrad.ops.creation import iota
from plugrad.ops.movement import reshape
from plugrad.spec import Shape, Spec, broadcast_shapes

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

I: Final = Kind.INDEXING  # noqa: E741
INDEX: Final = (int32, int64)
"""The dtypes of indices."""


def indexed_shape(call: Any, shape: Shape) -> Shape:
    """The shape that ``call.indices`` read from ``shape`` at ``call.axis``."""
    specs: tuple[Spec, ...] = call.indices
    if not specs:
        raise ShapeError(f"{call.op.name}: takes at least one tensor of indices")
    if any(s.shape != specs[0].shape for s in specs):
        raise ShapeError(
            f"{call.op.name}: the tensors of indices have shapes {', '.join(str(s.shape) for s in specs)}; "
            "takes one shape; see broadcast_arrays"
        )
    stop = call.axis + len(specs)
    if stop > len(shape):
        raise AxisError(f"{call.op.name}: indices for axes {call.axis} to {stop - 1} of shape {shape}")
    return (*shape[: call.axis], *specs[0].shape, *shape[stop:])


def _gathered(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(indexed_shape(call, call.x.shape))
    return spec


def _gather_samples(rng: np.random.Generator) -> list[Sample]:
    def draw(n: int, shape: tuple[int, ...]) -> Any:
        return rng.integers(-n, n, shape)

    return [
        Sample(rng.standard_normal((3, 4)), [draw(3, (5,))]),
        Sample(rng.standard_normal((3, 4)), [draw(3, (2, 3)), draw(4, (2, 3))]),
        Sample(rng.standard_normal((2, 3, 4)), [draw(4, ())], axis=-1),
        Sample(rng.standard_normal((2, 3, 4, 2)), [draw(3, (5,)), draw(4, (5,))], axis=1),
        Sample(rng.standard_normal((2, 3)), [draw(3, (0,)).astype("int32")], axis=1),
    ]


@op(
    kind=I,
    infer=_gathered,
    dtypes={"indices": INDEX},
    attributes={"axis": axis_of("x")},
    primitive=True,
    samples=_gather_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.zeros((2, 3)), [np.array([0, 1]), np.array([0, 3])]),
        ErrorSample(IndexRangeError, np.zeros((2, 3)), [np.array([0, -4])], axis=1),
        ErrorSample(ShapeError, np.zeros((2, 3)), [np.array([0, 1]), np.array([0])]),
        ErrorSample(AxisError, np.zeros((2, 3)), [np.array([0]), np.array([0])], axis=1),
    ),
)
def gather_nd(x: Tensor, indices: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """``x[..., i0, i1, ...]``: the elements or parts of ``x`` that k tensors of indices name together.

    Args:
        x: any shape and dtype.
        indices: k tensors of int32 or int64, all of one shape I. The j-th one indexes axis ``axis + j``.
        axis: the first of the k axes.

    Returns:
        ``x.shape[:axis] + I + x.shape[axis + k:]``.

    Raises:
        ShapeError: if the indices differ in shape.
        AxisError: if there are more of them than axes.
        IndexRangeError: if an index is outside its axis.
    """


@gather_nd.defvjp("x")
def _(ct: Tensor, x: Spec, indices: Sequence[Tensor], *, axis: int) -> Tensor:
    return scatter_nd(ct, indices, shape=x.shape, axis=axis)


def _scatter_axis(call: Any, value: Any) -> int:
    return normal_axis(call, value, len(call.shape))


def _scattered(call: Any) -> Spec:
    place = indexed_shape(call, call.shape)
    if call.x.shape != place:
        raise ShapeError(f"{call.op.name}: x has shape {call.x.shape}; the indices name a place of {place}")
    spec: Spec = call.x.with_shape(call.shape)
    return spec


def _scatter_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((9, 4)), [rng.integers(-3, 3, 9)], shape=(3, 4)),
        Sample(rng.standard_normal((5, 3)), [rng.integers(0, 6, (5, 3))], shape=(6,)),
        Sample(
            rng.standard_normal((2, 5, 2)),
            [rng.integers(0, 3, 5), rng.integers(0, 4, 5)],
            shape=(2, 3, 4, 2),
            axis=1,
        ),
        Sample(rng.standard_normal((200, 40)), [rng.integers(0, 99, 200)], shape=(99, 40)),
        Sample(rng.standard_normal((2, 0)), [rng.integers(0, 1, 0)], shape=(2, 3), axis=-1),
        Sample(rng.standard_normal(()), [rng.integers(0, 1, ())], shape=(3,)),
        Sample(rng.integers(-9, 9, (4,)), [rng.integers(0, 2, 4)], shape=(2,)),
    ]


@op(
    kind=I,
    infer=_scattered,
    dtypes={"x": NUMERIC, "indices": INDEX},
    attributes={"shape": shape_value, "axis": _scatter_axis},
    primitive=True,
    samples=_scatter_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.zeros(2), [np.array([0, 3])], shape=(3,)),
        ErrorSample(IndexRangeError, np.zeros(2), [np.array([-4, 0])], shape=(3,)),
        ErrorSample(ShapeError, np.zeros(3), [np.array([0, 1])], shape=(3,)),
        ErrorSample(AxisError, np.zeros(2), [np.array([0, 1])], shape=(3,), axis=1),
    ),
)
def scatter_nd(x: Tensor, indices: Sequence[Tensor], /, *, shape: Shape, axis: int = 0) -> Tensor:
    """Zeros of ``shape`` with ``x`` added at the places that `gather_nd` with the same indices reads: its adjoint.

    What meets in one place is added in the order of the indices, so that the result is the same at every
    run. 16-bit floats accumulate in float32.

    Args:
        x: numeric, of the shape that `gather_nd` gives for ``shape``.
        indices: k tensors of int32 or int64, all of one shape.
        shape: the shape of the result.
        axis: the first of the k axes of ``shape``.

    Raises:
        ShapeError: if ``x`` or an index has another shape.
        IndexRangeError: if an index is outside its axis.
    """


@scatter_nd.defvjp("x")
def _(ct: Tensor, indices: Sequence[Tensor], *, axis: int) -> Tensor:
    return gather_nd(ct, indices, axis=axis)


def _take_axis(call: Any, value: Any) -> int:
    if value is None:
        if call.x.ndim != 1:
            raise AxisError(f"take: takes an axis for a tensor of {call.x.ndim} axes")
        return 0
    return normal_axis(call, value, call.x.ndim)


def _taken(call: Any) -> Spec:
    shape, axis = call.x.shape, call.axis
    spec: Spec = call.x.with_shape((*shape[:axis], *call.indices.shape, *shape[axis + 1 :]))
    return spec


def _take_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((5,)), rng.integers(-5, 5, 7)),
        Sample(rng.standard_normal((2, 5, 3)), rng.integers(-5, 5, 4), axis=1),
        Sample(rng.standard_normal((2, 5)), rng.integers(0, 5, (2, 3)).astype("int32"), axis=-1),
        Sample(rng.standard_normal((2, 5)), rng.integers(0, 2, ()), axis=0),
        Sample(rng.standard_normal((0, 5)), rng.integers(0, 5, 3), axis=1),
        Sample(rng.integers(0, 9, (5, 2)), rng.integers(0, 5, 0), axis=0),
    ]


@op(
    kind=I,
    infer=_taken,
    dtypes={"indices": INDEX},
    attributes={"axis": _take_axis},
    samples=_take_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.zeros((2, 3)), np.array([0, 3]), axis=1),
        ErrorSample(IndexRangeError, np.zeros((2, 3)), np.array([-4, 0]), axis=1),
        ErrorSample(AxisError, np.zeros((2, 3)), np.array([0]), axis=2),
        ErrorSample(AxisError, np.zeros((2, 3)), np.array([0])),
    ),
)
def take(x: Tensor, indices: Tensor, /, *, axis: int | None = None) -> Tensor:
    """The parts of ``x`` at ``indices`` along ``axis`` (array API `take`).

    Args:
        x: any shape and dtype.
        indices: int32 or int64, of any shape I.
        axis: the axis; it may be left out where ``x`` has one.

    Returns:
        ``x.shape[:axis] + I + x.shape[axis + 1:]``.

    Raises:
        AxisError: if there is no such axis, or none is given and ``x`` has not just one.
        IndexRangeError: if an index is outside the axis.
    """
    assert axis is not None
    return gather_nd(x, [indices], axis=axis)


@take.defvjp("x")
def _(ct: Tensor, x: Spec, indices: Tensor, *, axis: int) -> Tensor:
    return scatter_nd(ct, [indices], shape=x.shape, axis=axis)


def _along_shape(name: str, x: Shape, indices: Shape, axis: int) -> Shape:
    """The shape of what is read along ``axis``: that of the indices, the other axes broadcast with those of ``x``."""
    if len(x) != len(indices):
        raise ShapeError(f"{name}: indices of shape {indices} for shape {x}; takes indices of {len(x)} axes")
    others = [(*s[:axis], 1, *s[axis + 1 :]) for s in (x, indices)]
    shape = broadcast_shapes(name, others)
    return (*shape[:axis], indices[axis], *shape[axis + 1 :])


def _along(indices: Tensor, x: Shape, shape: Shape, axis: int) -> list[Tensor]:
    """``indices`` along ``axis`` of shape ``x`` as the indices of all axes, each of ``shape``."""
    device, ndim = indices.spec.device, len(x)
    out = []
    for i, n in enumerate(x):
        index = indices
        if i != axis:
            # An axis of size 1 is read at 0 all along.
            counted = iota(n, device=device)
            index = reshape(counted, (*(1,) * i, n, *(1,) * (ndim - i - 1)))
        out.append(broadcast_to(index, shape))
    return out


def _taken_along(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(_along_shape(call.op.name, call.x.shape, call.indices.shape, call.axis))
    return spec


def _along_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 5)), rng.integers(-5, 5, (3, 1))),
        Sample(rng.standard_normal((3, 5)), rng.integers(0, 3, (7, 5)).astype("int32"), axis=0),
        Sample(rng.standard_normal((2, 4, 3)), rng.integers(0, 4, (1, 2, 3)), axis=1),
        Sample(rng.standard_normal((1, 4)), rng.integers(0, 4, (3, 2))),
        Sample(rng.standard_normal((5,)), rng.integers(0, 5, (3,))),
        Sample(rng.standard_normal((2, 5)), rng.integers(0, 5, (2, 0))),
    ]


@op(
    kind=I,
    infer=_taken_along,
    dtypes={"indices": INDEX},
    attributes={"axis": axis_of("x")},
    samples=_along_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.zeros((2, 3)), np.array([[0], [3]])),
        ErrorSample(IndexRangeError, np.zeros((2, 3)), np.array([[-4], [0]])),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.array([0, 1])),
        ErrorSample(AxisError, np.zeros((2, 3)), np.array([[0], [1]]), axis=2),
    ),
)
def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    """One element of ``x`` along ``axis`` for each index (array API `take_along_axis`).

    Args:
        x: any dtype.
        indices: int32 or int64, of as many axes as ``x``; beyond ``axis`` the two broadcast together.
        axis: the axis that the indices are along.

    Returns:
        In two axes, along the last: ``out[i, j] = x[i, indices[i, j]]``.

    Raises:
        ShapeError: if the numbers of axes differ, or the others do not broadcast.
        IndexRangeError: if an index is outside the axis.
    """
    shape = _along_shape("take_along_axis", x.spec.shape, indices.spec.shape, axis)
    return gather_nd(x, _along(indices, x.spec.shape, shape, axis), axis=0)


@take_along_axis.defvjp("x")
def _(ct: Tensor, x: Spec, indices: Tensor, *, axis: int) -> Tensor:
    return scatter_nd(ct, _along(indices, x.shape, ct.spec.shape, axis), shape=x.shape, axis=0)


def _added_along(call: Any) -> Spec:
    x, axis = call.x, call.axis
    updates = _along_shape(call.op.name, call.updates.shape, call.indices.shape, axis)
    fits = len(updates) == x.ndim and all(
        n == m for i, (n, m) in enumerate(zip(updates, x.shape, strict=True)) if i != axis
    )
    if not fits or call.updates.shape[axis] not in (1, updates[axis]):
        raise ShapeError(
            f"{call.op.name}: indices of shape {call.indices.shape} and updates of {call.updates.shape} do not "
            f"fit shape {x.shape} beyond axis {axis}"
        )
    spec: Spec = x
    return spec


def _scatter_add_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 5)), rng.integers(-5, 5, (3, 7)), rng.standard_normal((3, 7))),
        Sample(rng.standard_normal((3, 5)), rng.integers(0, 3, (4, 5)), rng.standard_normal((4, 5)), axis=0),
        Sample(rng.standard_normal((3, 5)), rng.integers(0, 3, (4, 1)), rng.standard_normal((1, 5)), axis=0),
        Sample(rng.standard_normal((2, 5)), rng.integers(0, 5, (2, 0)), rng.standard_normal((2, 0))),
    ]


@op(
    kind=I,
    infer=_added_along,
    dtypes={"x": NUMERIC, "indices": INDEX, "updates": NUMERIC},
    promote=("x", "updates"),
    attributes={"axis": axis_of("x")},
    samples=_scatter_add_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.zeros((2, 3)), np.array([[0], [3]]), np.zeros((2, 1))),
        ErrorSample(IndexRangeError, np.zeros((2, 3)), np.array([[-4], [0]]), np.zeros((2, 1))),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.array([[0, 1]]), np.zeros((1, 2))),
        ErrorSample(AxisError, np.zeros((2, 3)), np.array([[0], [1]]), np.zeros((2, 1)), axis=2),
    ),
)
def scatter_add(x: Tensor, indices: Tensor, updates: Tensor, /, *, axis: int = -1) -> Tensor:
    """``x`` with ``updates`` added at ``indices`` along ``axis``: the adjoint of `take_along_axis`, plus ``x``.

    In two axes, along the last: ``out[i, indices[i, j]] += updates[i, j]``. Several updates of one place are
    added in the order of the indices, so that the result is the same at every run.

    Args:
        x: numeric.
        indices: int32 or int64, of as many axes as ``x``.
        updates: numeric, promoted with ``x``; it broadcasts together with ``indices`` to a shape that beyond
            ``axis`` is that of ``x``.
        axis: the axis that the indices are along.

    Raises:
        ShapeError: if the shapes do not fit.
        IndexRangeError: if an index is outside the axis.
    """
    shape = broadcast_shapes("scatter_add", [indices.spec.shape, updates.spec.shape])
    places = _along(indices, (*shape[:axis], x.spec.shape[axis], *shape[axis + 1 :]), shape, axis)
    return add(x, scatter_nd(broadcast_to(updates, shape), places, shape=x.spec.shape, axis=0))


@scatter_add.defvjp("x")
def _(ct: Tensor) -> Tensor:
    return ct


@scatter_add.defvjp("updates")
def _(ct: Tensor, indices: Tensor, updates: Spec, *, axis: int) -> Tensor:
    shape = broadcast_shapes("scatter_add", [indices.spec.shape, updates.shape])
    return sum_to(take_along_axis(ct, broadcast_to(indices, shape), axis=axis), updates.shape)


__all__ = [
    "gather_nd",
    "scatter_add",
    "scatter_nd",
    "take",
    "take_along_axis",
]
