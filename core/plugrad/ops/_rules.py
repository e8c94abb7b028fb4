"""Shape and dtype rules, and what brings static attributes to one form. Shared by the families of ops."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.factors import Factor
from plugrad.dispatch.sample import ErrorSample
from plugrad.dtypes import DType, as_dtype
from plugrad.errors import ArgumentError, AxisError, DTypeError, ShapeError
from plugrad.spec import Shape, Spec, broadcast_shapes

Infer = Callable[[Any], Any]


def like(name: str) -> Infer:
    """The result has the spec of the operand ``name``."""
    return operator.attrgetter(name)


def broadcast(dtype: DType | None = None) -> Infer:
    """The result has the shape that the operands broadcast to, and their common dtype or ``dtype``."""

    def infer(call: Any) -> Spec:
        specs = [s for s in (getattr(call, o.name) for o in call.op.operands) if s is not None]
        shape = broadcast_shapes(call.op.name, [s.shape for s in specs])
        promoted = [getattr(call, n) for n in call.op.promoted]
        common = next(s for s in promoted if s is not None).dtype
        return Spec(shape, dtype or common, specs[0].device)

    return infer


def integer(call: Any, name: str, value: Any) -> int:
    """``value`` as a Python int."""
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{call.op.name}: {name} takes an integer, got {value!r}") from None


def normal_axis(call: Any, value: Any, ndim: int) -> int:
    """An axis as a number from 0."""
    axis = integer(call, "axis", value)
    if not -ndim <= axis < ndim:
        raise AxisError(f"{call.op.name}: axis {axis} is out of range for {ndim} axes")
    return axis % ndim


def axis_of(name: str) -> Callable[[Any, Any], int]:
    """One axis of the operand ``name``, from 0."""
    return lambda call, value: normal_axis(call, value, getattr(call, name).ndim)


def axes_of(name: str) -> Callable[[Any, Any], tuple[int, ...]]:
    """Axes of the operand ``name``: an int, several, or None for all; ascending, from 0."""

    def normalize(call: Any, value: Any) -> tuple[int, ...]:
        ndim = getattr(call, name).ndim
        if value is None:
            return tuple(range(ndim))
        given = value if isinstance(value, (tuple, list)) else (value,)
        axes = tuple(sorted(normal_axis(call, v, ndim) for v in given))
        if len(set(axes)) != len(axes):
            raise ShapeError(f"{call.op.name}: axis {value} names an axis twice")
        return axes

    return normalize


def kept(call: Any, _: Sequence[Spec]) -> Iterable[Factor]:
    """The factors of a reduction of ``x``: the axes that it is not over."""
    axes = [a for a in range(call.x.ndim) if call.keepdims or a not in call.axis]
    yield from (Factor({"x": a}, (i,)) for i, a in enumerate(axes) if a not in call.axis)


AXES = {"axis": axes_of("x")}
"""The normalizer of a reduction's ``axis``."""

REFUSED_AXIS: Final = (
    ErrorSample(AxisError, np.zeros((2, 3)), axis=2),
    ErrorSample(AxisError, np.zeros((2, 3)), axis=-3),
    ErrorSample(ArgumentError, np.zeros((2, 3)), axis=0.5),
)
"""What an op of one operand refuses as its one ``axis``."""

REFUSED_AXES: Final = (
    ErrorSample(AxisError, np.zeros((2, 3)), axis=2),
    ErrorSample(AxisError, np.zeros((2, 3)), axis=(0, -3)),
    ErrorSample(ShapeError, np.zeros((2, 3)), axis=(1, -1)),
)
"""What an op of one operand refuses as its ``axis``, where it takes several."""


def shape_value(call: Any, value: Any) -> Shape:
    """A shape: an int or a sequence of non-negative ints."""
    given = value if isinstance(value, (tuple, list)) else (value,)
    shape = tuple(integer(call, "shape", v) for v in given)
    if any(n < 0 for n in shape):
        raise ShapeError(f"{call.op.name}: shape {shape} has a negative size")
    return shape


def dtype_value(call: Any, value: Any) -> DType:
    """A dtype."""
    try:
        return as_dtype(value)
    except DTypeError as error:
        raise DTypeError(f"{call.op.name}: {error}") from None


def reduced_shape(shape: Shape, axis: Sequence[int], keepdims: bool) -> Shape:
    """``shape`` after a reduction over ``axis``."""
    if keepdims:
        return tuple(1 if i in axis else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axis)


def reduced(call: Any) -> Spec:
    """The result of a reduction of ``x`` over ``axis``, of the dtype of ``x``."""
    x: Spec = call.x
    return x.with_shape(reduced_shape(x.shape, call.axis, call.keepdims))


def nonempty(call: Any) -> Spec:
    """As `reduced`, for a reduction that has no identity: the axes reduced must not be empty."""
    x: Spec = call.x
    for axis in call.axis:
        if x.shape[axis] == 0:
            raise ShapeError(
                f"{call.op.name}: axis {axis} of shape {x.shape} is empty, and has no {call.op.name}"
            )
    return reduced(call)


def accumulated(call: Any, value: Any) -> DType:
    """What sums and products of ``x`` are kept in: the dtype asked for, else 64 bits for integers and bools."""
    own: DType = call.x.dtype
    if value is None:
        if own.is_floating:
            return own
        return dtypes.uint64 if own.kind == "uint" else dtypes.int64
    dtype = dtype_value(call, value)
    if dtype is dtypes.bool or (own.is_floating and not dtype.is_floating):
        takes = "a floating dtype" if own.is_floating else "a numeric dtype"
        raise DTypeError(
            f"{call.op.name}: got dtype {dtype} for x of {own}, takes {takes}; cast the result with astype"
        )
    return dtype


def widened(dtype: DType) -> DType:
    """What a floating dtype is computed in where a body would lose too much: float32 for 16 bits."""
    return dtypes.float32 if dtype.itemsize == 2 else dtype


def size(shape: Sequence[int]) -> int:
    """Number of elements of ``shape``."""
    return math.prod(shape)
