"""Ops that move elements and change none (array API standard 2024.12, "Manipulation functions")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import Sample, samples
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops._rules import axis_of, integer, normal_axis, size
from plugrad.spec import Shape, Spec

if TYPE_CHECKING:
    import numpy as np

    from plugrad.tensor import Tensor

M = Kind.MOVEMENT


def _reshape_to(call: Any, value: Any) -> Shape:
    given = value if isinstance(value, (tuple, list)) else (value,)
    shape = [integer(call, "shape", v) for v in given]
    total = call.x.size
    if shape.count(-1) == 1:
        rest = -size(shape)
        if rest and total % rest == 0:
            shape[shape.index(-1)] = total // rest
    if any(n < 0 for n in shape) or size(shape) != total:
        raise ShapeError(
            f"reshape: {tuple(given)} does not hold the {total} elements of shape {call.x.shape}"
        )
    return tuple(shape)


def _shaped(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(call.shape)
    return spec


def _reshape_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((2, 6)), shape=(3, -1)),
        Sample(rng.standard_normal(()), shape=(1, 1)),
        Sample(rng.standard_normal((0, 2)), shape=(4, 0)),
    ]


@op(
    kind=M,
    infer=_shaped,
    attributes={"shape": _reshape_to},
    primitive=True,
    may_alias=True,
    samples=_reshape_samples,
)
def reshape(x: Tensor, /, shape: int | Sequence[int]) -> Tensor:
    """The elements of ``x``, in row-major order, in another shape; one size may be -1 and follows."""


@reshape.defvjp("x")
def _(ct: Tensor, x: Spec) -> Tensor:
    return reshape(ct, x.shape)


def _permutation(call: Any, value: Any) -> tuple[int, ...]:
    axes = tuple(normal_axis(call, v, call.x.ndim) for v in value)
    if sorted(axes) != list(range(call.x.ndim)):
        raise ShapeError(f"permute_dims: {tuple(value)} does not name each of {call.x.ndim} axes once")
    return axes


def _permuted(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(tuple(call.x.shape[a] for a in call.axes))
    return spec


def _permute_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((2, 3, 4)), axes=(2, 0, 1)),
        Sample(rng.standard_normal((2, 0)), axes=(1, 0)),
    ]


@op(
    kind=M,
    infer=_permuted,
    attributes={"axes": _permutation},
    primitive=True,
    may_alias=True,
    samples=_permute_samples,
)
def permute_dims(x: Tensor, /, axes: Sequence[int]) -> Tensor:
    """``x`` with its axes in another order: axis ``i`` of the result is axis ``axes[i]`` of ``x``."""


@permute_dims.defvjp("x")
def _(ct: Tensor, *, axes: tuple[int, ...]) -> Tensor:
    return permute_dims(ct, tuple(axes.index(i) for i in range(len(axes))))


def _bounds(call: Any, value: Any) -> tuple[tuple[int, int, int], ...]:
    x: Spec = call.x
    if len(value) != x.ndim:
        raise ShapeError(f"slice: {len(value)} slices for {x.ndim} axes")
    bounds = []
    for (start, stop, step), n in zip(value, x.shape, strict=True):
        if step == 0:
            raise ArgumentError("slice: a step is 0; takes a positive or negative step")
        start, stop, step = slice(start, stop, step).indices(n)
        bounds.append((start, stop, step))
    return tuple(bounds)


def _sliced(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(tuple(len(range(*b)) for b in call.bounds))
    return spec


def _slice_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((5, 4)), bounds=((1, 4, 1), (None, None, -2))),
        Sample(rng.standard_normal((5,)), bounds=((4, None, -1),)),
        Sample(rng.standard_normal((5,)), bounds=((3, 3, 1),)),
    ]


@op(
    kind=M,
    infer=_sliced,
    attributes={"bounds": _bounds},
    primitive=True,
    may_alias=True,
    samples=_slice_samples,
)
def strided_slice(x: Tensor, /, bounds: Sequence[tuple[int | None, int | None, int | None]]) -> Tensor:
    """The part of ``x`` that one ``(start, stop, step)`` for each axis selects, with Python's meaning.

    A kernel receives what ``slice.indices`` gives; with a negative step a stop of -1 means past the first.
    """


@strided_slice.defvjp("x")
def _(ct: Tensor, x: Spec, *, bounds: Any) -> Tensor:
    return scatter_slice(ct, shape=x.shape, bounds=bounds)


def _scattered(call: Any) -> Spec:
    return Spec(call.shape, call.x.dtype, call.x.device)


def _scatter_samples(rng: np.random.Generator) -> list[Sample]:
    return [Sample(rng.standard_normal((3, 2)), shape=(5, 4), bounds=((1, 4, 1), (3, -1, -2)))]


@op(kind=M, infer=_scattered, primitive=True, samples=_scatter_samples)
def scatter_slice(x: Tensor, /, *, shape: Shape, bounds: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Zeros of ``shape`` with ``x`` in the place that `strided_slice` with the same bounds reads: its adjoint.

    ``bounds`` are those that ``slice.indices`` gives.
    """


@scatter_slice.defvjp("x")
def _(ct: Tensor, *, bounds: Any) -> Tensor:
    return strided_slice(ct, tuple((a, None if b < 0 else b, c) for a, b, c in bounds))


def _concatenated(call: Any) -> Spec:
    first: Spec = call.arrays[0]
    axis = call.axis
    for s in call.arrays:
        if len(s.shape) != len(first.shape) or any(
            a != b for i, (a, b) in enumerate(zip(s.shape, first.shape, strict=True)) if i != axis
        ):
            raise ShapeError(f"concat: shapes {first.shape} and {s.shape} differ beyond axis {axis}")
    shape = list(first.shape)
    shape[axis] = sum(s.shape[axis] for s in call.arrays)
    return first.with_shape(tuple(shape))


def _concat_axis(call: Any, value: Any) -> int:
    return normal_axis(call, value, call.arrays[0].ndim)


def _concat_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample([rng.standard_normal((2, 3)), rng.standard_normal((1, 3))], axis=0),
        Sample(
            [rng.standard_normal((2, 0)), rng.standard_normal((2, 3)), rng.standard_normal((2, 1))], axis=-1
        ),
    ]


@op(
    kind=M,
    infer=_concatenated,
    attributes={"axis": _concat_axis},
    promote=("arrays",),
    primitive=True,
    samples=_concat_samples,
)
def concat(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """The tensors one after the other along ``axis``, in which alone their shapes may differ."""


@concat.defvjp("arrays")
def _(ct: Tensor, arrays: Spec, *, axis: int) -> Any:
    parts, start = [], 0
    whole: list[tuple[int | None, int | None, int | None]] = [(None, None, None)] * len(ct.spec.shape)
    for spec in arrays:  # type: ignore[attr-defined]
        stop = start + spec.shape[axis]
        parts.append(strided_slice(ct, (*whole[:axis], (start, stop, 1), *whole[axis + 1 :])))
        start = stop
    return parts


@op(may_alias=True, samples=samples(lambda rng: [Sample(rng.standard_normal((2, 3)), axis=-1)]))
def expand_dims(x: Tensor, /, *, axis: int = 0) -> Tensor:
    """``x`` with a new axis of size 1 at ``axis``."""
    ndim = len(x.spec.shape) + 1
    if not -ndim <= axis < ndim:
        raise ShapeError(f"expand_dims: axis {axis} is out of range for {ndim} axes")
    at = axis % ndim
    return reshape(x, (*x.spec.shape[:at], 1, *x.spec.shape[at:]))


@op(may_alias=True, samples=samples(lambda rng: [Sample(rng.standard_normal((2, 1, 3)), axis=1)]))
def squeeze(x: Tensor, /, axis: int | tuple[int, ...]) -> Tensor:
    """``x`` without the axes named, which must have size 1."""
    ndim = len(x.spec.shape)
    given = axis if isinstance(axis, tuple) else (axis,)
    for a in given:
        if not -ndim <= a < ndim:
            raise ShapeError(f"squeeze: axis {a} is out of range for {ndim} axes")
        if x.spec.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of shape {x.spec.shape} has size {x.spec.shape[a]}, not 1")
    gone = {a % ndim for a in given}
    return reshape(x, tuple(n for i, n in enumerate(x.spec.shape) if i not in gone))


@op(
    may_alias=True,
    attributes={"axis": axis_of("x")},
    samples=samples(lambda rng: [Sample(rng.standard_normal((2, 3)), axis=0)]),
)
def flip(x: Tensor, /, *, axis: int) -> Tensor:
    """``x`` with the order of its elements along ``axis`` reversed."""
    return strided_slice(x, tuple((None, None, -1 if i == axis else 1) for i in range(len(x.spec.shape))))


@op(samples=samples(lambda rng: [Sample([rng.standard_normal((2, 3)), rng.standard_normal((2, 3))], axis=1)]))
def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """The tensors, all of one shape, one after the other along a new axis."""
    return concat([expand_dims(a, axis=axis) for a in arrays], axis=axis)


def _matrix_axes(x: Tensor) -> tuple[int, ...]:
    n = len(x.spec.shape)
    if n < 2:
        raise ShapeError(f"matrix_transpose: takes at least 2 axes, got shape {x.spec.shape}")
    return (*range(n - 2), n - 1, n - 2)


@op(may_alias=True, samples=samples(lambda rng: [Sample(rng.standard_normal((2, 3, 4)))]))
def matrix_transpose(x: Tensor, /) -> Tensor:
    """``x`` with its last two axes exchanged."""
    return permute_dims(x, _matrix_axes(x))


__all__ = [
    "concat",
    "expand_dims",
    "flip",
    "matrix_transpose",
    "permute_dims",
    "reshape",
    "scatter_slice",
    "squeeze",
    "stack",
    "strided_slice",
]
