"""Reductions over axes (array API standard 2024.12, "Statistical functions")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrad import dtypes
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import FLOATING, NUMERIC
from plugrad.errors import ShapeError
from plugrad.ops._rules import AXES, axis_of, nonempty, reduced_shape
from plugrad.ops.broadcasting import sum
from plugrad.ops.casting import astype
from plugrad.ops.comparison import equal
from plugrad.ops.movement import reshape
from plugrad.spec import Spec

if TYPE_CHECKING:
    import numpy as np

    from plugrad.tensor import Tensor

Axis = int | tuple[int, ...] | None


def _samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 4))),
        Sample(rng.standard_normal((2, 3, 4)), axis=(0, 2)),
        Sample(rng.standard_normal((2, 3, 4)), axis=-1, keepdims=True),
        Sample(rng.standard_normal(())),
    ]


def _kept(ct: Tensor, x: Spec, axis: tuple[int, ...]) -> Tensor:
    """``ct`` with the reduced axes back, of size 1."""
    return reshape(ct, reduced_shape(x.shape, axis, True))


@op(kind=Kind.REDUCTION, infer=nonempty, dtypes=NUMERIC, attributes=AXES, primitive=True, samples=_samples)
def max(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element over ``axis``; NaN where there is one. Ties share the derivative equally."""


@op(kind=Kind.REDUCTION, infer=nonempty, dtypes=NUMERIC, attributes=AXES, primitive=True, samples=_samples)
def min(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element over ``axis``; NaN where there is one. Ties share the derivative equally."""


def _extremum(ct: Tensor, x: Tensor, out: Tensor, axis: tuple[int, ...]) -> Tensor:
    hits = astype(equal(x, _kept(out, x.spec, axis)), x.spec.dtype)
    return hits * (_kept(ct, x.spec, axis) / sum(hits, axis=axis, keepdims=True))


@max.defvjp("x")
def _(ct: Tensor, x: Tensor, out: Tensor, *, axis: tuple[int, ...]) -> Tensor:
    return _extremum(ct, x, out, axis)


@min.defvjp("x")
def _(ct: Tensor, x: Tensor, out: Tensor, *, axis: tuple[int, ...]) -> Tensor:
    return _extremum(ct, x, out, axis)


@op(kind=Kind.REDUCTION, infer=nonempty, dtypes=FLOATING, attributes=AXES, samples=_samples)
def mean(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over ``axis`` (all axes by default), which must not be empty."""
    total = sum(x, axis=axis, keepdims=keepdims)
    return total * (total.spec.size / x.spec.size)


@op(kind=Kind.REDUCTION, infer=nonempty, dtypes=FLOATING, attributes=AXES, samples=_samples)
def var(x: Tensor, /, *, axis: Axis = None, correction: int | float = 0.0, keepdims: bool = False) -> Tensor:
    """Variance over ``axis``, the sum of squares divided by the number of elements less ``correction``."""
    centred = x - mean(x, axis=axis, keepdims=True)
    total = sum(centred * centred, axis=axis, keepdims=keepdims)
    return total / (x.spec.size / total.spec.size - correction)


def _argreduced(call: Any) -> Spec:
    axis = tuple(range(call.x.ndim)) if call.axis is None else (call.axis,)
    for a in axis:
        if call.x.shape[a] == 0:
            raise ShapeError(f"{call.op.name}: axis {a} of shape {call.x.shape} is empty")
    return Spec(reduced_shape(call.x.shape, axis, call.keepdims), dtypes.int64, call.x.device)


def _one_axis(call: Any, value: Any) -> int | None:
    return None if value is None else axis_of("x")(call, value)


def _arg_samples(rng: np.random.Generator) -> list[Sample]:
    return [Sample(rng.standard_normal((3, 4)), axis=1), Sample(rng.standard_normal((3, 4)))]


@op(
    kind=Kind.REDUCTION,
    infer=_argreduced,
    dtypes=NUMERIC,
    attributes={"axis": _one_axis},
    primitive=True,
    differentiable=False,
    samples=_arg_samples,
)
def argmax(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """int64 index of the first largest element along ``axis``, or in the flattened tensor."""


__all__ = ["argmax", "max", "mean", "min", "var"]
