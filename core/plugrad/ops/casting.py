"""Casting to another dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import Sample, samples, uniform
from plugrad.dtypes import DType, as_dtype
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _cast(call: Any) -> Spec:
    spec: Spec = call.x.with_dtype(call.dtype)
    return spec


@op(
    kind=Kind.OTHER,
    infer=_cast,
    attributes={"dtype": lambda call, value: as_dtype(value)},
    primitive=True,
    samples=samples(
        uniform(-3, 3, dtype="float64"), lambda rng: [Sample(rng.integers(-9, 9, (3,)), dtype="float32")]
    ),
)
def astype(x: Tensor, dtype: DType) -> Tensor:
    """``x`` with its elements cast to ``dtype``. Floats go to integers by truncation, to bool by ``x != 0``."""


@astype.defvjp("x")
def _(ct: Tensor, x: Spec) -> Tensor:
    return astype(ct, x.dtype) if x.dtype.is_floating else ct


__all__ = [
    "astype",
]
