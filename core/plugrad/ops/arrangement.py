"""Ops that move elements, composed of the primitives (array API standard 2024.12, "Manipulation functions")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.convert import asarray, to_host
from plugrad.dispatch.data import TensorData
from plugrad.dispatch.op import op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.errors import ArgumentError, AxisError, DTypeError, ShapeError
from plugrad.ops._rules import integer, normal_axis
from plugrad.ops.broadcasting import broadcast_to
from plugrad.ops.indexing import take
from plugrad.ops.movement import concatenate, permute_dims, reshape, select
from plugrad.ops.slicing import WHOLE, strided_slice
from plugrad.spec import broadcast_shapes

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Ints = tuple[int, ...]


def broadcast_arrays(*arrays: Tensor) -> list[Tensor]:
    """The tensors, each broadcast to the shape that they have together (array API `broadcast_arrays`).

    Raises:
        ShapeError: if their shapes do not broadcast.
    """
    shape = broadcast_shapes("broadcast_arrays", [a.spec.shape for a in arrays])
    return [broadcast_to(a, shape) for a in arrays]


def meshgrid(*arrays: Tensor, indexing: str = "xy") -> list[Tensor]:
    """Coordinates of the points of a grid, one tensor for each axis (array API `meshgrid`).

    Args:
        arrays: n tensors of one axis, of sizes N1, N2, ..., all of one dtype.
        indexing: ``"xy"`` (Cartesian) or ``"ij"`` (matrix), which differ where n is at least 2.

    Returns:
        n tensors of shape (N1, N2, N3, ...) for ``"ij"``, (N2, N1, N3, ...) for ``"xy"``.
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f"meshgrid: indexing takes 'xy' or 'ij', got {indexing!r}")
    n = len(arrays)
    for a in arrays:
        if a.spec.ndim != 1:
            raise ShapeError(f"meshgrid: takes tensors of one axis, got shape {a.spec.shape}")
        if a.spec.dtype is not arrays[0].spec.dtype:
            raise DTypeError(
                f"meshgrid: takes tensors of one dtype, got {arrays[0].spec.dtype} and {a.spec.dtype}"
            )
    places = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    whole = [0] * n
    for a, place in zip(arrays, places, strict=True):
        whole[place] = a.spec.shape[0]
    return [
        broadcast_to(reshape(a, (*(1,) * p, -1 if a.spec.size else 0, *(1,) * (n - p - 1))), tuple(whole))
        for a, p in zip(arrays, places, strict=True)
    ]


def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """``x`` taken apart along ``axis``, which is gone from the parts (array API `unstack`)."""
    ndim = x.spec.ndim
    if not -ndim <= axis < ndim:
        raise AxisError(f"unstack: axis {axis} is out of range for {ndim} axes")
    return tuple(select(x, i, axis=axis) for i in range(x.spec.shape[axis]))


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _named_axes(call: Any, value: Any) -> Ints:
    axes = tuple(normal_axis(call, v, call.x.ndim) for v in _several(value))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{call.op.name}: {value} names an axis twice")
    return axes


def _destination(call: Any, value: Any) -> Ints:
    axes = _named_axes(call, value)
    if len(axes) != len(call.source):
        raise ShapeError(f"moveaxis: source names {len(call.source)} axes, destination {len(axes)}")
    return axes


@op(
    may_alias=True,
    attributes={"source": _named_axes, "destination": _destination},
    samples=lambda rng: [
        Sample(rng.standard_normal((2, 3, 4)), source=0, destination=-1),
        Sample(rng.standard_normal((2, 3, 4)), source=(0, 1), destination=(2, 0)),
    ],
    errors=errors(
        ErrorSample(AxisError, np.zeros((2, 3)), source=2, destination=0),
        ErrorSample(AxisError, np.zeros((2, 3)), source=0, destination=-3),
        ErrorSample(ShapeError, np.zeros((2, 3)), source=(0, -2), destination=(0, 1)),
        ErrorSample(ShapeError, np.zeros((2, 3)), source=(0, 1), destination=0),
    ),
)
def moveaxis(x: Tensor, /, source: int | Ints, destination: int | Ints) -> Tensor:
    """``x`` with the axes ``source`` at ``destination``, the others in their order (array API `moveaxis`).

    Raises:
        AxisError: if there is no such axis.
        ShapeError: if an axis is named twice, or not as many are in both.
    """
    assert isinstance(source, tuple)
    assert isinstance(destination, tuple)
    axes = [i for i in range(x.spec.ndim) if i not in source]
    for at, axis in sorted(zip(destination, source, strict=True)):
        axes.insert(at, axis)
    return permute_dims(x, tuple(axes))


def _roll_axes(call: Any, value: Any) -> Ints | None:
    if value is None:
        return None
    axes = tuple(normal_axis(call, v, call.x.ndim) for v in _several(value))
    shifts: Ints = call.shift
    return axes * len(shifts) if len(axes) == 1 else axes


def _shifts(call: Any, value: Any) -> Ints:
    shifts = tuple(integer(call, "shift", v) for v in _several(value))
    count = 1 if call.axis is None else len(_several(call.axis))
    if isinstance(value, (tuple, list)) and call.axis is None:
        raise ArgumentError("roll: several shifts take as many axes; axis is None")
    if len(shifts) != 1 and count not in (1, len(shifts)):
        raise ArgumentError(f"roll: {len(shifts)} shifts for {count} axes")
    return shifts * count if len(shifts) == 1 else shifts


@op(
    attributes={"shift": _shifts, "axis": _roll_axes},
    samples=lambda rng: [
        Sample(rng.standard_normal((3, 4)), shift=1),
        Sample(rng.standard_normal((3, 4)), shift=-1, axis=1),
        Sample(rng.standard_normal((3, 4)), shift=(1, 5), axis=(0, 1)),
        Sample(rng.standard_normal((3, 4)), shift=(1, 1), axis=0),
        Sample(rng.standard_normal((0, 4)), shift=1, axis=0),
        Sample(rng.standard_normal(()), shift=2),
    ],
    errors=errors(
        ErrorSample(AxisError, np.zeros((2, 3)), shift=1, axis=2),
        ErrorSample(ArgumentError, np.zeros((2, 3)), shift=(1, 2)),
        ErrorSample(ArgumentError, np.zeros((2, 3)), shift=(1, 2, 3), axis=(0, 1)),
        ErrorSample(ArgumentError, np.zeros((2, 3)), shift=0.5),
    ),
)
def roll(x: Tensor, /, shift: int | Ints, *, axis: int | Ints | None = None) -> Tensor:
    """``x`` with its elements moved along axes, those beyond the end coming in at the start (array API `roll`).

    Args:
        x: any shape and dtype.
        shift: by how many places; a negative number moves to lower indices. A tuple has one for each axis.
        axis: one axis or several; one that is named twice is moved twice. None moves in the flattened tensor.

    Raises:
        AxisError: if there is no such axis.
        ArgumentError: if there is neither one shift nor one for each axis.
    """
    shape = x.spec.shape
    x = reshape(x, (x.spec.size,) if axis is None else shape)
    for s, a in zip(shift, (0,) if axis is None else axis, strict=True):  # type: ignore[arg-type]  # normalised
        n = x.spec.shape[a]
        k = s % n if n else 0
        if k:
            before, after = (WHOLE,) * a, (WHOLE,) * (x.spec.ndim - a - 1)
            tail = strided_slice(x, (*before, (n - k, None, None), *after))
            head = strided_slice(x, (*before, (None, n - k, None), *after))
            x = concatenate([tail, head], axis=a)
    return reshape(x, shape) if axis is None else x


def _repetitions(call: Any, value: Any) -> Ints:
    counts = tuple(integer(call, "repetitions", v) for v in _several(value))
    if any(c < 0 for c in counts):
        raise ArgumentError(f"tile: takes repetitions of at least 0, got {counts}")
    missing: int = call.x.ndim - len(counts)
    return (1,) * missing + counts


@op(
    attributes={"repetitions": _repetitions},
    samples=lambda rng: [
        Sample(rng.standard_normal((2, 3)), repetitions=(2, 1)),
        Sample(rng.standard_normal((2, 3)), repetitions=(3, 1, 2)),
        Sample(rng.standard_normal((2, 3)), repetitions=(2,)),
        Sample(rng.standard_normal((2, 3)), repetitions=(0, 2)),
        Sample(rng.standard_normal(()), repetitions=()),
    ],
    errors=errors(
        ErrorSample(ArgumentError, np.zeros((2, 3)), repetitions=(2, -1)),
        ErrorSample(ArgumentError, np.zeros((2, 3)), repetitions=(0.5,)),
    ),
)
def tile(x: Tensor, /, repetitions: Ints) -> Tensor:
    """``x`` laid out several times along its axes (array API `tile`).

    Args:
        x: any shape and dtype.
        repetitions: how often along each axis; the shorter of it and the shape gets ones in front.

    Raises:
        ArgumentError: for a negative number of repetitions.
    """
    shape = (1,) * (len(repetitions) - x.spec.ndim) + x.spec.shape
    apart = tuple(n for length in shape for n in (1, length))
    laid = tuple(n for pair in zip(repetitions, shape, strict=True) for n in pair)
    whole = tuple(r * n for r, n in zip(repetitions, shape, strict=True))
    return reshape(broadcast_to(reshape(x, apart), laid), whole)


def repeat(x: Tensor, repeats: int | Tensor | Sequence[int], /, *, axis: int | None = None) -> Tensor:
    """``x`` with each element repeated along ``axis`` (array API `repeat`).

    Args:
        x: any shape and dtype.
        repeats: how often: one number of at least 0, or one for each element along ``axis``, as an integer
            tensor or a sequence. The values of a tensor are read on the host, as the shape depends on them.
        axis: None flattens ``x`` first.

    Raises:
        DTypeError: if ``repeats`` is no integer.
        ShapeError: if it has neither one element nor one for each along ``axis``.
        ArgumentError: if one is negative.
    """
    if axis is None:
        x, axis = reshape(x, (x.spec.size,)), 0
    ndim = x.spec.ndim
    if not -ndim <= axis < ndim:
        raise AxisError(f"repeat: axis {axis} is out of range for {ndim} axes")
    axis %= ndim
    counts = np.asarray(to_host(repeats) if isinstance(repeats, TensorData) else repeats)
    if counts.dtype.kind not in "iu" and counts.size:
        raise DTypeError(f"repeat: repeats takes integers, got {counts.dtype}")
    shape = x.spec.shape
    if counts.ndim > 1 or counts.size not in (1, shape[axis]):
        raise ShapeError(
            f"repeat: repeats has shape {counts.shape}; takes one number, or {shape[axis]} for axis {axis}"
        )
    if counts.size and counts.min() < 0:
        raise ArgumentError(f"repeat: takes repeats of at least 0, got {counts.min()}")
    if counts.size != 1:
        indices = np.repeat(np.arange(shape[axis]), counts.astype(np.int64))
        return take(x, asarray(indices, device=x.spec.device), axis=axis)
    n = int(counts.reshape(()))
    apart = reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    laid = broadcast_to(apart, (*shape[: axis + 1], n, *shape[axis + 1 :]))
    return reshape(laid, (*shape[:axis], shape[axis] * n, *shape[axis + 1 :]))


__all__ = [
    "broadcast_arrays",
    "meshgrid",
    "moveaxis",
    "repeat",
    "roll",
    "tile",
    "unstack",
]
