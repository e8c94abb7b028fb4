"""Tensors from nothing: constants and ranges (array API standard 2024.12, "Creation functions")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrad.dispatch.op import Kind, Scalar, op
from plugrad.dispatch.sample import Sample, samples
from plugrad.dtypes import DType, as_dtype
from plugrad.ops._rules import integer, shape_value
from plugrad.spec import Device, Shape, Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _filled_dtype(call: Any, value: Any) -> DType:
    return as_dtype(type(call.fill_value) if value is None else value)


def _created(call: Any) -> Spec:
    return Spec(call.shape, call.dtype, call.device)


@op(
    kind=Kind.CREATION,
    infer=_created,
    attributes={"shape": shape_value, "dtype": _filled_dtype},
    differentiable=False,
    primitive=True,
    samples=samples(Sample(shape=(2, 3), fill_value=1.5), Sample(shape=(), fill_value=7)),
)
def full(
    shape: int | Shape,
    fill_value: Scalar,
    *,
    dtype: DType | str | None = None,
    device: Device | str | None = None,
) -> Tensor:
    """A tensor of ``shape`` filled with ``fill_value``.

    Args:
        shape: the sizes of the axes.
        fill_value: a Python number.
        dtype: by default that of the number: bool, int64 or float32.
        device: by default the current device.
    """


def zeros(
    shape: int | Shape, *, dtype: DType | str | None = None, device: Device | str | None = None
) -> Tensor:
    """A tensor of ``shape`` filled with 0, float32 unless ``dtype`` says otherwise."""
    return full(shape, 0, dtype="float32" if dtype is None else dtype, device=device)


def ones(
    shape: int | Shape, *, dtype: DType | str | None = None, device: Device | str | None = None
) -> Tensor:
    """A tensor of ``shape`` filled with 1, float32 unless ``dtype`` says otherwise."""
    return full(shape, 1, dtype="float32" if dtype is None else dtype, device=device)


def zeros_of(spec: Spec) -> Tensor:
    """Zeros of a spec."""
    return full(spec.shape, 0, dtype=spec.dtype, device=spec.device)


def ones_of(spec: Spec) -> Tensor:
    """Ones of a spec."""
    return full(spec.shape, 1, dtype=spec.dtype, device=spec.device)


def zeros_like(x: Tensor, /) -> Tensor:
    """Zeros of the shape, dtype and device of ``x``."""
    return zeros_of(x.spec)


def ones_like(x: Tensor, /) -> Tensor:
    """Ones of the shape, dtype and device of ``x``."""
    return ones_of(x.spec)


def _counted(call: Any) -> Spec:
    return Spec((call.length,), call.dtype, call.device)


@op(
    kind=Kind.CREATION,
    infer=_counted,
    attributes={
        "length": lambda call, value: integer(call, "length", value),
        "dtype": lambda call, value: as_dtype(value),
    },
    differentiable=False,
    primitive=True,
    samples=samples(Sample(length=5), Sample(length=0)),
)
def iota(length: int, *, dtype: DType | str = "int64", device: Device | str | None = None) -> Tensor:
    """``0, 1, ..., length - 1``."""


__all__ = ["full", "iota", "ones", "ones_like", "ones_of", "zeros", "zeros_like", "zeros_of"]
