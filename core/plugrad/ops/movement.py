"""Ops that move elements and change none (array API standard 2024.12, "Manipulation functions").

The primitives are `reshape`, `permute_dims` and `concatenate` here, `strided_slice` and `scatter_slice` in
`plugrad.ops.slicing`, and `broadcast_to` in `plugrad.ops.broadcasting`. More that is composed of them:
`plugrad.ops.arrangement`, `plugrad.ops.padding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.dispatch.factors import Factor
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors, samples
from plugrad.errors import ArgumentError, AxisError, IndexRangeError, ShapeError
from plugrad.ops._rules import REFUSED_AXES, axes_of, axis_of, integer, normal_axis, size
from plugrad.ops.slicing import WHOLE, Bound, scatter_slice, strided_slice
from plugrad.spec import Shape, Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

M: Final = Kind.MOVEMENT


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


def _reshape_copy(call: Any, value: Any) -> bool | None:
    """None where a copy is allowed: as values are immutable, one that is asked for cannot be told from none."""
    if value not in (None, True, False):
        raise ArgumentError(f"{call.op.name}: copy takes True, False or None, got {value!r}")
    return False if value is not None and not value else None


def _shaped(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(call.shape)
    return spec


def _runs(call: Any, _: Any) -> Iterable[Factor]:
    """Axes that begin, and so end, at the same element; both are cut into as many parts."""
    source: Shape = call.x.shape
    target: Shape = call.shape
    if not size(source):
        return
    starts = {size(target[:b]): b for b, n in enumerate(target) if n > 1}
    for a, n in enumerate(source):
        b = starts.get(size(source[:a]))
        if n > 1 and b is not None:
            yield Factor({"x": a, "shape": b}, (b,))


def _reshape_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((2, 6)), shape=(3, -1)),
        Sample(rng.standard_normal((3, 2)), shape=6, copy=True),
        Sample(rng.standard_normal(()), shape=(1, 1)),
        Sample(rng.standard_normal((1,)), shape=()),
        Sample(rng.standard_normal((0, 2)), shape=(4, 0)),
        Sample(rng.standard_normal((0, 2)), shape=(-1, 3)),
    ]


@op(
    kind=M,
    infer=_shaped,
    attributes={"shape": _reshape_to, "copy": _reshape_copy},
    primitive=True,
    may_alias=True,
    factors=_runs,
    samples=_reshape_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), shape=(4, 2)),
        ErrorSample(ShapeError, np.zeros((2, 3)), shape=(4, -1)),
        ErrorSample(ShapeError, np.zeros((2, 3)), shape=(-1, -1)),
        ErrorSample(ArgumentError, np.zeros((2, 3)), shape=(6,), copy="never"),
    ),
)
def reshape(x: Tensor, /, shape: int | Sequence[int], *, copy: bool | None = None) -> Tensor:
    """The elements of ``x``, in row-major order, in another shape (array API `reshape`).

    Args:
        x: any shape and dtype.
        shape: the sizes; one may be -1 and follows from the others.
        copy: True and None may be left out, as values are immutable. False raises an `ArgumentError` where the
            elements would have to be copied. A kernel receives None or False.

    Raises:
        ShapeError: if ``shape`` does not hold the elements of ``x``.
    """


@reshape.defvjp("x")
def _(ct: Tensor, x: Spec) -> Tensor:
    return reshape(ct, x.shape)


def _moved(call: Any, _: Any) -> Iterable[Factor]:
    yield from (Factor({"x": a}, (b,)) for b, a in enumerate(call.axes))


def _permutation(call: Any, value: Any) -> tuple[int, ...]:
    given = value if isinstance(value, (tuple, list)) else (value,)
    axes = tuple(normal_axis(call, v, call.x.ndim) for v in given)
    if sorted(axes) != list(range(call.x.ndim)):
        raise ShapeError(f"permute_dims: {tuple(given)} does not name each of {call.x.ndim} axes once")
    return axes


def _permuted(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(tuple(call.x.shape[a] for a in call.axes))
    return spec


def _permute_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((2, 3, 4)), axes=(2, 0, 1)),
        Sample(rng.standard_normal((2, 3, 4)), axes=(0, -1, 1)),
        Sample(rng.standard_normal((2, 0)), axes=(1, 0)),
        Sample(rng.standard_normal(()), axes=()),
    ]


@op(
    kind=M,
    infer=_permuted,
    attributes={"axes": _permutation},
    primitive=True,
    may_alias=True,
    factors=_moved,
    samples=_permute_samples,
    errors=errors(
        ErrorSample(AxisError, np.zeros((2, 3)), axes=(0, 2)),
        ErrorSample(ShapeError, np.zeros((2, 3)), axes=(0, -2)),
        ErrorSample(ShapeError, np.zeros((2, 3)), axes=(0,)),
    ),
)
def permute_dims(x: Tensor, /, axes: Sequence[int]) -> Tensor:
    """``x`` with its axes in another order: axis ``i`` of the result is axis ``axes[i]`` of ``x`` (array API).

    Raises:
        AxisError: if there is no such axis.
        ShapeError: if an axis is not named, or twice.
    """


@permute_dims.defvjp("x")
def _(ct: Tensor, *, axes: tuple[int, ...]) -> Tensor:
    return permute_dims(ct, tuple(axes.index(i) for i in range(len(axes))))


def _select_index(call: Any, value: Any) -> int:
    index, n = integer(call, "index", value), int(call.x.shape[call.axis])
    if not -n <= index < n:
        raise IndexRangeError(
            f"{call.op.name}: index {index} is out of range for axis {call.axis} of size {n}"
        )
    return index % n


def _selected(call: Any) -> Spec:
    spec: Spec = call.x.with_shape((*call.x.shape[: call.axis], *call.x.shape[call.axis + 1 :]))
    return spec


def _select_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 4)), index=1),
        Sample(rng.standard_normal((3, 4)), index=-1, axis=1),
        Sample(rng.standard_normal((3,)), index=2, axis=-1),
        Sample(rng.standard_normal((0, 2)), index=0, axis=1),
    ]


def _others(call: Any, _: Any) -> Iterable[Factor]:
    """The axes that stay."""
    for a in range(call.x.ndim):
        if a != call.axis:
            yield Factor({"x": a}, (a - (a > call.axis),))


def _others_of_result(call: Any, _: Any) -> Iterable[Factor]:
    for a in range(call.x.ndim):
        if a != call.axis:
            yield Factor({"ct": a - (a > call.axis), "x": a}, (a,))


def _one(ndim: int, axis: int, index: int) -> tuple[Bound, ...]:
    return (*(WHOLE,) * axis, (index, index + 1, 1), *(WHOLE,) * (ndim - axis - 1))


@op(
    kind=M,
    infer=_selected,
    attributes={"axis": axis_of("x"), "index": _select_index},
    may_alias=True,
    factors=_others,
    samples=_select_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.zeros((2, 3)), index=3, axis=1),
        ErrorSample(IndexRangeError, np.zeros((2, 3)), index=-4, axis=1),
        ErrorSample(AxisError, np.zeros((2, 3)), index=0, axis=2),
        ErrorSample(ArgumentError, np.zeros((2, 3)), index=0.5),
    ),
)
def select(x: Tensor, /, index: int, *, axis: int = 0) -> Tensor:
    """``x[index]`` along ``axis``, which is gone from the result: what ``x[3]`` and ``x[:, 3]`` are.

    Raises:
        IndexRangeError: if ``index`` is not in [-n, n) for an axis of size n.
        AxisError: if there is no such axis.
    """
    shape = x.spec.shape
    return reshape(strided_slice(x, _one(len(shape), axis, index)), (*shape[:axis], *shape[axis + 1 :]))


@select.defvjp("x", factors=_others_of_result)
def _(ct: Tensor, x: Spec, *, index: int, axis: int) -> Tensor:
    kept = reshape(ct, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return scatter_slice(kept, shape=x.shape, bounds=_one(x.ndim, axis, index))


def _concat_axis(call: Any, value: Any) -> int:
    return normal_axis(call, value, call.arrays[0].ndim)


_JOIN_ERRORS: Final = errors(
    ErrorSample(ShapeError, []),
    ErrorSample(ShapeError, [np.zeros((2, 3)), np.zeros((2, 2))], axis=0),
    ErrorSample(ShapeError, [np.zeros((2, 3)), np.zeros(3)], axis=0),
    ErrorSample(AxisError, [np.zeros((2, 3)), np.zeros((2, 3))], axis=3),
)


def _concatenated(call: Any) -> Spec:
    first: Spec = call.arrays[0]
    axis: int = call.axis
    total = 0
    for s in call.arrays:
        if s.ndim != first.ndim or any(
            a != b for i, (a, b) in enumerate(zip(s.shape, first.shape, strict=True)) if i != axis
        ):
            raise ShapeError(f"{call.op.name}: shapes {first.shape} and {s.shape} differ beyond axis {axis}")
        total += s.shape[axis]
    return first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :]))


def _concatenate_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample([rng.standard_normal((2, 3)), rng.standard_normal((1, 3))], axis=0),
        Sample([rng.standard_normal((2, n)) for n in (0, 3, 1)], axis=-1),
        Sample([rng.standard_normal((2,))], axis=0),
    ]


def _beside(call: Any, _: Any) -> Iterable[Factor]:
    for a in range(call.arrays[0].ndim):
        if a != call.axis:
            yield Factor({"arrays": a}, (a,))


@op(
    kind=M,
    infer=_concatenated,
    attributes={"axis": _concat_axis},
    promote=("arrays",),
    primitive=True,
    factors=_beside,
    samples=_concatenate_samples,
    errors=_JOIN_ERRORS,
)
def concatenate(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """The tensors one after the other along ``axis``: the primitive below `concat`, which is what people call.

    Raises:
        ShapeError: if there is no tensor, or their shapes differ beyond ``axis``.
        AxisError: if they have no such axis.
    """


@concatenate.defvjp("arrays")
def _(ct: Tensor, arrays: Spec, *, axis: int) -> Any:
    parts, start, ndim = [], 0, len(ct.spec.shape)
    for spec in arrays:  # type: ignore[attr-defined]
        stop = start + spec.shape[axis]
        parts.append(strided_slice(ct, (*(WHOLE,) * axis, (start, stop, 1), *(WHOLE,) * (ndim - axis - 1))))
        start = stop
    return parts


def _flat_axis(call: Any, value: Any) -> int | None:
    return None if value is None else _concat_axis(call, value)


def _joined(call: Any) -> Spec:
    if call.axis is not None:
        return _concatenated(call)
    first: Spec = call.arrays[0]
    return first.with_shape((sum(s.size for s in call.arrays),))


def _concat_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample([rng.standard_normal((2, 3)), rng.standard_normal((1, 3))], axis=0),
        Sample([rng.standard_normal((2, 3)), rng.standard_normal((4,)), rng.standard_normal(())], axis=None),
    ]


@op(
    infer=_joined,
    attributes={"axis": _flat_axis},
    promote=("arrays",),
    samples=_concat_samples,
    errors=_JOIN_ERRORS,
)
def concat(arrays: Sequence[Tensor], /, *, axis: int | None = 0) -> Tensor:
    """The tensors one after the other along ``axis`` (array API `concat`).

    Args:
        arrays: at least one tensor; they promote to a common dtype.
        axis: the axis in which alone their shapes may differ. None flattens each of them first.

    Raises:
        ShapeError: if there is no tensor, or their shapes differ elsewhere.
        AxisError: if they have no such axis.
    """
    if axis is None:
        return concatenate([reshape(a, (-1,)) for a in arrays], axis=0)
    return concatenate(arrays, axis=axis)


def _stack_axis(call: Any, value: Any) -> int:
    shapes = [s.shape for s in call.arrays]
    for shape in shapes[1:]:
        if shape != shapes[0]:
            raise ShapeError(f"stack: shapes {shapes[0]} and {shape} differ; takes tensors of one shape")
    return normal_axis(call, value, len(shapes[0]) + 1)


@op(
    attributes={"axis": _stack_axis},
    samples=lambda rng: [
        Sample([rng.standard_normal((2, 3)), rng.standard_normal((2, 3))], axis=1),
        Sample([rng.standard_normal(()) for _ in range(3)]),
        Sample([rng.standard_normal((0, 2))], axis=-1),
    ],
    errors=_JOIN_ERRORS,
)
def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """The tensors, all of one shape, one after the other along a new axis (array API `stack`).

    Raises:
        ShapeError: if there is no tensor, or their shapes differ.
        AxisError: if the result has no such axis.
    """
    shape = arrays[0].spec.shape
    shape = (*shape[:axis], 1, *shape[axis:])
    return concatenate([reshape(a, shape) for a in arrays], axis=axis)


def _new_axes(call: Any, value: Any) -> tuple[int, ...]:
    given = value if isinstance(value, (tuple, list)) else (value,)
    axes = tuple(sorted(normal_axis(call, v, call.x.ndim + len(given)) for v in given))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{call.op.name}: axis {value} names an axis twice")
    return axes


@op(
    may_alias=True,
    attributes={"axis": _new_axes},
    samples=lambda rng: [
        Sample(rng.standard_normal((2, 3)), axis=-1),
        Sample(rng.standard_normal((2, 3)), axis=(0, 2)),
        Sample(rng.standard_normal(())),
    ],
    errors=errors(
        ErrorSample(AxisError, np.zeros((2, 3)), axis=3),
        ErrorSample(AxisError, np.zeros((2, 3)), axis=(0, -5)),
        ErrorSample(ShapeError, np.zeros((2, 3)), axis=(0, -4)),
    ),
)
def expand_dims(x: Tensor, /, axis: int | tuple[int, ...] = 0) -> Tensor:
    """``x`` with a new axis of size 1 at each position in ``axis``, counted in the result (array API `expand_dims`).

    Raises:
        AxisError: if the result has no such axis.
        ShapeError: if one is named twice.
    """
    shape = list(x.spec.shape)
    for a in axis:  # type: ignore[union-attr]  # a tuple, normalised
        shape.insert(a, 1)
    return reshape(x, tuple(shape))


def _unit_axes(call: Any, value: Any) -> tuple[int, ...]:
    axes = axes_of("x")(call, value)
    for a in axes:
        if call.x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of shape {call.x.shape} has size {call.x.shape[a]}, not 1")
    return axes


@op(
    may_alias=True,
    attributes={"axis": _unit_axes},
    samples=lambda rng: [
        Sample(rng.standard_normal((2, 1, 3)), axis=1),
        Sample(rng.standard_normal((1, 2, 1)), axis=(0, -1)),
    ],
    errors=errors(
        ErrorSample(AxisError, np.zeros((1, 3)), axis=2),
        ErrorSample(ShapeError, np.zeros((1, 3)), axis=1),
        ErrorSample(ShapeError, np.zeros((1, 3)), axis=(0, -2)),
    ),
)
def squeeze(x: Tensor, /, axis: int | tuple[int, ...]) -> Tensor:
    """``x`` without the axes named (array API `squeeze`).

    Raises:
        AxisError: if there is no such axis.
        ShapeError: if one has another size than 1, or is named twice.
    """
    return reshape(x, tuple(n for i, n in enumerate(x.spec.shape) if i not in axis))  # type: ignore[operator]


@op(
    may_alias=True,
    attributes={"axis": axes_of("x")},
    samples=lambda rng: [
        Sample(rng.standard_normal((2, 3)), axis=0),
        Sample(rng.standard_normal((2, 3)), axis=(0, -1)),
        Sample(rng.standard_normal((2, 3))),
        Sample(rng.standard_normal((0, 2)), axis=0),
        Sample(rng.standard_normal(())),
    ],
    errors=errors(*REFUSED_AXES),
)
def flip(x: Tensor, /, *, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """``x`` with the order of its elements reversed along ``axis``, all axes by default (array API `flip`).

    Raises:
        AxisError: if there is no such axis.
        ShapeError: if one is named twice.
    """
    backwards = (None, None, -1)
    return strided_slice(x, tuple(backwards if i in axis else WHOLE for i in range(len(x.spec.shape))))  # type: ignore[operator]


def _matrix_axes(x: Tensor) -> tuple[int, ...]:
    n = len(x.spec.shape)
    if n < 2:
        raise ShapeError(f"matrix_transpose: takes at least 2 axes, got shape {x.spec.shape}")
    return (*range(n - 2), n - 1, n - 2)


@op(
    may_alias=True,
    samples=samples(lambda rng: [Sample(rng.standard_normal((2, 3, 4)))]),
    errors=errors(ErrorSample(ShapeError, np.zeros(3))),
)
def matrix_transpose(x: Tensor, /) -> Tensor:
    """``x`` with its last two axes exchanged (array API `matrix_transpose`).

    Raises:
        ShapeError: if ``x`` has fewer than 2 axes.
    """
    return permute_dims(x, _matrix_axes(x))


__all__ = [
    "concat",
    "concatenate",
    "expand_dims",
    "flip",
    "matrix_transpose",
    "permute_dims",
    "reshape",
    "select",
    "squeeze",
    "stack",
]
