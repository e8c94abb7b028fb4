"""Orders along an axis (array API standard 2024.12, "Sorting functions")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import NUMERIC
from plugrad.errors import ArgumentError, AxisError
from plugrad.ops._rules import REFUSED_AXIS, axis_of, integer
from plugrad.ops.creation import zeros_of
from plugrad.ops.indexing import scatter_add, take_along_axis
from plugrad.ops.scan import narrow
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _flag(call: Any, value: Any) -> bool:
    del call
    return bool(value)


_ORDER = {"axis": axis_of("x"), "descending": _flag, "stable": _flag}


def _indices(call: Any) -> Spec:
    spec: Spec = call.x.with_dtype(dtypes.int64)
    return spec


def _distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Values at least 0.1 apart, so that a small step changes no order."""
    count = int(np.prod(shape))
    return rng.permutation(np.arange(count) * 0.1 - 1).reshape(shape)


def _order_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(_distinct(rng, (7,))),
        Sample(_distinct(rng, (3, 4)), axis=0),
        Sample(_distinct(rng, (2, 3, 4)), axis=-2, descending=True),
        Sample(rng.integers(0, 3, (3, 8)), axis=1, descending=True),
        Sample(rng.random(9) < 0.5),
        Sample(_distinct(rng, (5,)), stable=False),
        Sample(_distinct(rng, (3, 0))),
        Sample(_distinct(rng, (0, 3))),
        Sample(_distinct(rng, (3, 1))),
    ]


@op(
    kind=Kind.SORTING,
    infer=_indices,
    attributes=_ORDER,
    primitive=True,
    differentiable=False,
    samples=_order_samples,
    errors=errors(*REFUSED_AXIS),
)
def argsort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Indices that bring ``x`` into order along ``axis`` (array API `argsort`).

    Args:
        x: at least one axis, any dtype. NaN counts as the largest.
        axis: the axis.
        descending: the largest first.
        stable: equal elements keep their order, in a descending one too. Without it theirs is unspecified.

    Returns:
        int64, of the shape of ``x``.

    Raises:
        AxisError: if there is no such axis.
    """


def _sorted(call: Any) -> Any:
    return (call.x, _indices(call)) if call.residuals else call.x


@op(
    kind=Kind.SORTING,
    infer=_sorted,
    attributes=_ORDER,
    residuals=("indices",),
    samples=_order_samples,
    errors=errors(*REFUSED_AXIS),
)
def sort(
    x: Tensor,
    /,
    *,
    axis: int = -1,
    descending: bool = False,
    stable: bool = True,
    residuals: bool = False,
) -> Tensor:
    """``x`` in order along ``axis`` (array API `sort`).

    Args:
        x: at least one axis, any dtype. NaN counts as the largest.
        axis: the axis.
        descending: the largest first.
        stable: equal elements keep their order, in a descending one too. Without it theirs is unspecified.
        residuals: give the indices of `argsort` too; for the rule.

    Raises:
        AxisError: if there is no such axis.

    The derivative goes back to where each element was; among equal ones, by their order.
    """
    indices = argsort(x, axis=axis, descending=descending, stable=stable)
    out = take_along_axis(x, indices, axis=axis)
    return (out, indices) if residuals else out  # type: ignore[return-value]


@sort.defvjp("x")
def _(ct: Tensor, indices: Tensor, *, axis: int) -> Tensor:
    return take_along_axis(ct, argsort(indices, axis=axis), axis=axis)


def _how_many(call: Any, value: Any) -> int:
    k = integer(call, "k", value)
    n = call.x.shape[axis_of("x")(call, call.axis)]
    if not 0 <= k <= n:
        raise ArgumentError(
            f"{call.op.name}: k takes an integer from 0 to {n}, the size of the axis, got {k}"
        )
    return k


def _top(call: Any) -> tuple[Spec, Spec]:
    shape = list(call.x.shape)
    shape[call.axis] = call.k
    spec: Spec = call.x.with_shape(tuple(shape))
    return spec, spec.with_dtype(dtypes.int64)


def _top_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(_distinct(rng, (3, 7)), k=2),
        Sample(_distinct(rng, (5, 2, 2)), k=3, axis=0, largest=False),
        Sample(_distinct(rng, (4,)), k=4),
        Sample(_distinct(rng, (3, 4)), k=0),
        Sample(_distinct(rng, (0, 4)), k=1),
        Sample(rng.integers(0, 3, (3, 8)), k=3),
    ]


@op(
    kind=Kind.SORTING,
    infer=_top,
    dtypes=NUMERIC,
    attributes={"k": _how_many, "axis": axis_of("x"), "largest": _flag},
    outputs=("values", "indices"),
    differentiable=("values",),
    samples=_top_samples,
    errors=errors(
        ErrorSample(ArgumentError, np.zeros((2, 3)), k=4),
        ErrorSample(ArgumentError, np.zeros((2, 3)), k=-1),
        ErrorSample(ArgumentError, np.zeros((2, 3)), k=1.5),
        ErrorSample(AxisError, np.zeros((2, 3)), k=1, axis=2),
    ),
)
def top_k(x: Tensor, /, k: int, *, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The ``k`` largest elements along ``axis``, in descending order, and their indices.

    Args:
        x: at least one axis, any numeric dtype. NaN counts as the largest.
        k: how many, from 0 to the size of the axis.
        axis: the axis.
        largest: False for the smallest elements, in ascending order.

    Returns:
        The elements, and their indices as int64, both of the shape of ``x`` with size ``k`` at ``axis``. Of
        equal elements the first come first.

    Raises:
        ArgumentError: if ``k`` is out of range.
        AxisError: if there is no such axis.

    The derivative goes back to where each element was.
    """
    indices = narrow(argsort(x, axis=axis, descending=largest), axis, None, k)
    return take_along_axis(x, indices, axis=axis), indices


@top_k.defvjp("x")
def _(ct: Tensor, x: Spec, indices: Tensor, *, axis: int) -> Tensor:
    return scatter_add(zeros_of(x.with_dtype(ct.spec.dtype)), indices, ct, axis=axis)


__all__ = ["argsort", "sort", "top_k"]
