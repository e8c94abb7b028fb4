"""Casting to another dtype, and the dtype that values promote to (array API standard 2024.12, "Data type functions")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dispatch.data import TensorData
from plugrad.dispatch.factors import aligned
from plugrad.dispatch.op import Kind, Scalar, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors, uniform
from plugrad.dtypes import DType, as_dtype, promote, promote_scalar
from plugrad.errors import DTypeError
from plugrad.ops._rules import dtype_value, widened
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _cast(call: Any) -> Spec:
    spec: Spec = call.x.with_dtype(call.dtype)
    return spec


def _samples(rng: np.random.Generator) -> list[Sample]:
    return [
        *uniform(-3, 3, dtype="float64")(rng),
        Sample(rng.uniform(-9, 9, (2, 3)), dtype="int32"),
        Sample(rng.integers(0, 2, (2, 3)), dtype="bool"),
        Sample(rng.random((2, 3)) < 0.5, dtype="float32"),
        Sample(rng.integers(-9, 9, (3,)), dtype="float32"),
        Sample(rng.integers(-999, 999, (3,)), dtype="uint8"),
        Sample(rng.uniform(-9, 9, (5,)), dtype="float32"),
    ]


@op(
    kind=Kind.OTHER,
    infer=_cast,
    attributes={"dtype": dtype_value},
    primitive=True,
    factors=aligned("x"),
    samples=_samples,
    errors=errors(
        ErrorSample(DTypeError, np.zeros(3), dtype="float12"),
        ErrorSample(DTypeError, np.zeros(3), dtype=None),
    ),
)
def astype(x: Tensor, dtype: DType | str) -> Tensor:
    """``x`` with its elements cast to ``dtype`` (array API `astype`).

    Args:
        x: any dtype.
        dtype: any dtype. Floats go to integers by truncation, undefined for NaN and values out of range; to a
            narrower float by rounding to nearest, ties to even. Integers wrap around. Anything goes to bool
            by ``x != 0``.

    Raises:
        DTypeError: if there is no such dtype.
    """


@astype.defvjp("x")
def _(ct: Tensor, x: Spec) -> Tensor:
    return astype(ct, x.dtype) if x.dtype.is_floating else ct


def widen(x: Tensor) -> Tensor:
    """``x``, in float32 where it is a 16-bit float: what bodies compute in that would lose too much in 16 bits."""
    return x.astype(widened(x.spec.dtype))


def result_type(*arrays_and_dtypes: Tensor | DType | str | Scalar) -> DType:
    """The dtype that the arguments promote to, as an op on them would (array API `result_type`).

    Args:
        arrays_and_dtypes: tensors, dtypes and Python numbers, which are weak; at least one is no number.

    Raises:
        DTypeError: if nothing but numbers is given, or two dtypes do not promote.
    """
    found: list[DType] = []
    numbers: list[type] = []
    for value in arrays_and_dtypes:
        if isinstance(value, TensorData):
            found.append(value.spec.dtype)
        elif isinstance(value, (bool, int, float)):
            numbers.append(next(kind for kind in (bool, int, float) if isinstance(value, kind)))
        else:
            found.append(as_dtype(value))
    if not found:
        raise DTypeError(
            f"result_type: got {arrays_and_dtypes!r}; takes at least one tensor or dtype, as Python numbers have none"
        )
    result = promote(*found)
    for number in numbers:
        result = promote_scalar(result, number)
    return result


__all__ = ["astype", "result_type"]
