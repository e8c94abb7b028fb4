"""What Python's slices select from a tensor, and the adjoint of that.

The primitives are `strided_slice` and its adjoint `scatter_slice`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.dispatch.factors import Factor
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops._rules import shape_value
from plugrad.spec import Shape, Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Bound = tuple[int | None, int | None, int | None]

M: Final = Kind.MOVEMENT
WHOLE: Final[Bound] = (None, None, None)
"""The bound that selects all of an axis."""


def normal_bounds(call: Any, value: Any, shape: Shape) -> tuple[tuple[int, int, int], ...]:
    """Bounds as ``slice.indices`` gives them; an empty selection is ``(0, 0, 1)``."""
    if len(value) != len(shape):
        raise ShapeError(f"{call.op.name}: {len(value)} slices for {len(shape)} axes")
    bounds = []
    for bound, n in zip(value, shape, strict=True):
        if bound[2] == 0:
            raise ArgumentError(f"{call.op.name}: a step is 0; takes a positive or negative step")
        try:
            start, stop, step = slice(*bound).indices(n)
        except TypeError:
            raise ArgumentError(f"{call.op.name}: a slice takes integers or None, got {bound}") from None
        bounds.append((start, stop, step) if len(range(start, stop, step)) else (0, 0, 1))
    return tuple(bounds)


def bounded_shape(bounds: Sequence[tuple[int, int, int]]) -> Shape:
    """The shape that normal bounds select."""
    return tuple(len(range(*b)) for b in bounds)


def _scattered(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(call.shape)
    return spec


def _bounds(call: Any, value: Any) -> tuple[tuple[int, int, int], ...]:
    return normal_bounds(call, value, call.x.shape)


def _sliced(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(bounded_shape(call.bounds))
    return spec


def _slice_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((5, 4)), bounds=((1, 4, 1), (None, None, -2))),
        Sample(rng.standard_normal((5,)), bounds=((4, None, -1),)),
        Sample(rng.standard_normal((5,)), bounds=((-9, 99, 3),)),
        Sample(rng.standard_normal((5,)), bounds=((3, 3, 1),)),
        Sample(rng.standard_normal((5,)), bounds=((-9, None, -1),)),
        Sample(rng.standard_normal((0, 2)), bounds=((None, None, -1), (0, 1, 1))),
        Sample(rng.standard_normal(()), bounds=()),
    ]


def _whole(call: Any, _: Any) -> Iterable[Factor]:
    """Axes that are taken as they are."""
    for axis, size in enumerate(call.x.shape):
        if call.bounds[axis] == (0, size, 1):
            yield Factor({"x": axis, "bounds": axis}, (axis,))


def _whole_of_result(call: Any, _: Any) -> Iterable[Factor]:
    for axis, size in enumerate(call.x.shape):
        if call.bounds[axis] == (0, size, 1) and call.shape[axis] == size:
            yield Factor({"x": axis, "bounds": axis, "shape": axis}, (axis,))


@op(
    kind=M,
    infer=_sliced,
    attributes={"bounds": _bounds},
    primitive=True,
    may_alias=True,
    factors=_whole,
    samples=_slice_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), bounds=((0, 1, 1),)),
        ErrorSample(ArgumentError, np.zeros(3), bounds=((0, 1, 0),)),
        ErrorSample(ArgumentError, np.zeros(3), bounds=((0.5, 1, 1),)),
    ),
)
def strided_slice(x: Tensor, /, bounds: Sequence[Bound]) -> Tensor:
    """The part of ``x`` that one ``(start, stop, step)`` for each axis selects, with the meaning of Python's slices.

    A kernel receives what ``slice.indices`` gives: with a negative step a stop of -1 means past the first. Where
    nothing is selected it receives ``(0, 0, 1)``.

    Raises:
        ShapeError: if there is not one bound for each axis.
        ArgumentError: for a step of 0, or a bound that is neither an integer nor None.
    """


@strided_slice.defvjp("x")
def _(ct: Tensor, x: Spec, *, bounds: tuple[tuple[int, int, int], ...]) -> Tensor:
    return scatter_slice(ct, shape=x.shape, bounds=given_bounds(bounds))


def given_bounds(bounds: Sequence[tuple[int, int, int]]) -> tuple[Bound, ...]:
    """Normal bounds as a caller writes them."""
    return tuple((a, None if b < 0 else b, c) for a, b, c in bounds)


def _scatter_bounds(call: Any, value: Any) -> tuple[tuple[int, int, int], ...]:
    bounds = normal_bounds(call, value, call.shape)
    if bounded_shape(bounds) != call.x.shape:
        raise ShapeError(
            f"{call.op.name}: shape {call.x.shape} does not fill the place of shape {bounded_shape(bounds)}"
        )
    return bounds


def _scatter_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 2)), shape=(5, 4), bounds=((1, 4, 1), (3, None, -2))),
        Sample(rng.standard_normal((0, 2)), shape=(5, 2), bounds=((4, 4, 1), WHOLE)),
        Sample(rng.standard_normal(()), shape=(), bounds=()),
    ]


@op(
    kind=M,
    infer=_scattered,
    attributes={"shape": shape_value, "bounds": _scatter_bounds},
    primitive=True,
    factors=_whole_of_result,
    samples=_scatter_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros(2), shape=(5,), bounds=((0, 3, 1),)),
        ErrorSample(ShapeError, np.zeros(2), shape=(5, 2), bounds=((0, 2, 1),)),
        ErrorSample(ShapeError, np.zeros(2), shape=(-5,), bounds=((0, 2, 1),)),
        ErrorSample(ArgumentError, np.zeros(2), shape=(5,), bounds=((0, 2, 0),)),
    ),
)
def scatter_slice(x: Tensor, /, *, shape: Shape, bounds: Sequence[Bound]) -> Tensor:
    """Zeros of ``shape`` with ``x`` in the place that `strided_slice` with the same bounds reads: its adjoint.

    Raises:
        ShapeError: if there is not one bound for each axis of ``shape``, or ``x`` does not fill the place.
        ArgumentError: for a step of 0, or a bound that is neither an integer nor None.
    """


@scatter_slice.defvjp("x")
def _(ct: Tensor, *, bounds: tuple[tuple[int, int, int], ...]) -> Tensor:
    return strided_slice(ct, given_bounds(bounds))


__all__ = ["scatter_slice", "strided_slice"]
