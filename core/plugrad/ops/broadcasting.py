"""Broadcasting and its adjoint, the sum: each is the other's gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dispatch.factors import SUM, Factor
from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import DType
from plugrad.errors import DTypeError, ShapeError
from plugrad.ops._rules import AXES, REFUSED_AXES, accumulated, kept, reduced, reduced_shape, shape_value
from plugrad.spec import Shape, Spec, broadcast_shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plugrad.tensor import Tensor


def _target(call: Any, value: Any) -> Shape:
    shape = shape_value(call, value)
    if broadcast_shapes(call.op.name, [call.x.shape, shape]) != shape:
        raise ShapeError(f"{call.op.name}: shape {call.x.shape} does not broadcast to {shape}")
    return shape


def _shaped(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(call.shape)
    return spec


def _broadcast_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 1)), shape=(2, 3, 4)),
        Sample(rng.standard_normal(()), shape=(2,)),
        Sample(rng.standard_normal((1, 3)), shape=(0, 3)),
    ]


def _repeated(call: Any, results: Sequence[Spec]) -> Iterable[Factor]:
    (result,) = results
    new = result.ndim - call.x.ndim
    for axis, size in enumerate(result.shape):
        own = axis - new
        axes = {"shape": axis, "x": own} if own >= 0 and call.x.shape[own] == size else {"shape": axis}
        yield Factor(axes, (axis,))


@op(
    kind=Kind.MOVEMENT,
    infer=_shaped,
    attributes={"shape": _target},
    primitive=True,
    may_alias=True,
    factors=_repeated,
    samples=_broadcast_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros(3), shape=(2,)),
        ErrorSample(ShapeError, np.zeros((1, 3)), shape=(3,)),
        ErrorSample(ShapeError, np.zeros(3), shape=(-1, 3)),
    ),
)
def broadcast_to(x: Tensor, /, shape: int | Sequence[int]) -> Tensor:
    """``x`` repeated along axes of size 1, and along new leading axes, up to ``shape``.

    Raises:
        ShapeError: if ``x`` does not broadcast to ``shape``.
    """


@broadcast_to.defvjp("x")
def _(ct: Tensor, x: Spec) -> Tensor:
    return sum_to(ct, x.shape)


def _added(call: Any, results: Sequence[Spec]) -> Iterable[Factor]:
    yield from kept(call, results)
    yield from (Factor({"x": a}, (SUM,)) for a in call.axis)


def _summed(call: Any) -> Spec:
    return reduced(call).with_dtype(call.dtype)


def _sum_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 4))),
        Sample(rng.standard_normal((2, 3, 4)), axis=(0, 2)),
        Sample(rng.standard_normal((2, 3, 4)), axis=-1, keepdims=True),
        Sample(rng.standard_normal((0, 3)), axis=0),
        Sample(rng.standard_normal(())),
        Sample(rng.integers(-9, 9, (3, 4)), axis=0),
        Sample(rng.standard_normal(3), dtype="float64"),
    ]


@op(
    kind=Kind.REDUCTION,
    infer=_summed,
    attributes={**AXES, "dtype": accumulated},
    autocast=Autocast.FULL,
    primitive=True,
    factors=_added,
    samples=_sum_samples,
    errors=errors(*REFUSED_AXES, ErrorSample(DTypeError, np.zeros((2, 3)), dtype="int32")),
)
def sum(
    x: Tensor,
    /,
    *,
    axis: int | tuple[int, ...] | None = None,
    dtype: DType | str | None = None,
    keepdims: bool = False,
) -> Tensor:
    """Sum over ``axis``, all axes by default; 0 where nothing is summed (array API `sum`).

    Args:
        x: any shape, any dtype.
        axis: one axis, several, or None for all.
        dtype: of the result. By default that of ``x``; int64 or uint64 for integers, int64 for bools.
        keepdims: keep the axes summed, with size 1.

    Raises:
        AxisError: if there is no such axis.
        ShapeError: if one is named twice.
        DTypeError: if ``dtype`` cannot hold the sum: bool, or an integer one for floats.

    16-bit floats accumulate in float32.
    """


@sum.defvjp("x")
def _(ct: Tensor, x: Spec, *, axis: tuple[int, ...]) -> Tensor:
    kept = ct.reshape(reduced_shape(x.shape, axis, True))
    return broadcast_to(kept, x.shape)


def _source(call: Any, value: Any) -> Shape:
    shape, whole = shape_value(call, value), call.x.shape
    if len(shape) > len(whole) or any(
        n not in (1, m) for n, m in zip(shape[::-1], whole[::-1], strict=False)
    ):
        raise ShapeError(f"{call.op.name}: shape {whole} was not broadcast from {shape}")
    return shape


@op(
    attributes={"shape": _source},
    samples=lambda rng: [
        Sample(rng.standard_normal((2, 3, 4)), shape=(3, 1)),
        Sample(rng.standard_normal((2, 3)), shape=(2, 3)),
        Sample(rng.standard_normal((2,)), shape=()),
    ],
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), shape=(2,)),
        ErrorSample(ShapeError, np.zeros((2, 1)), shape=(2, 3)),
        ErrorSample(ShapeError, np.zeros(3), shape=(2, 3)),
    ),
)
def sum_to(x: Tensor, /, shape: Shape) -> Tensor:
    """``x`` summed down to ``shape``, from which it was broadcast: the adjoint of `broadcast_to`.

    Raises:
        ShapeError: if ``shape`` does not broadcast to that of ``x``.
    """
    if x.shape == shape:
        return x.reshape(shape)
    extra = x.ndim - len(shape)
    stretched = (i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1)
    return sum(x, axis=(*range(extra), *stretched)).reshape(shape)


__all__ = ["broadcast_to", "sum", "sum_to"]
