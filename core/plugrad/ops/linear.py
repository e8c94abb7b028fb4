"""The affine map of a fully connected layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dispatch.factors import SUM, Factor
from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import FLOATING
from plugrad.errors import ShapeError
from plugrad.ops._rules import size
from plugrad.ops.broadcasting import sum
from plugrad.ops.linear_algebra import matrix_product
from plugrad.ops.movement import matrix_transpose, reshape
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _mapped(call: Any) -> Spec:
    x: Spec = call.x
    weight: Spec = call.weight
    bias: Spec | None = call.bias
    if weight.ndim != 2:
        raise ShapeError(f"linear: weight has shape {weight.shape}, takes (out, in)")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: x has shape {x.shape}, takes (..., {weight.shape[1]}) for weight (out, in) of {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"linear: bias has shape {bias.shape}, takes ({weight.shape[0]},) for weight of {weight.shape}"
        )
    return x.with_shape((*x.shape[:-1], weight.shape[0]))


def _samples(rng: np.random.Generator) -> list[Sample]:
    def sample(*leading: int, n: int = 3, m: int = 4, bias: bool = True) -> Sample:
        x, weight = rng.standard_normal((*leading, n)), rng.standard_normal((m, n))
        return Sample(x, weight, rng.standard_normal(m)) if bias else Sample(x, weight)

    return [
        sample(5),
        sample(5, bias=False),
        sample(),
        sample(2, 3, n=2),
        sample(0),
        sample(2, 0, bias=False),
        sample(2, n=0),
        sample(2, m=0),
    ]


def _factors(call: Any, _: Any) -> Iterable[Factor]:
    last = call.x.ndim - 1
    yield from (Factor({"x": axis}, (axis,)) for axis in range(last))
    yield Factor({"weight": 0} if call.bias is None else {"weight": 0, "bias": 0}, (last,))


def _factors_of_x(call: Any, _: Any) -> Iterable[Factor]:
    last = call.x.ndim - 1
    yield from (Factor({"ct": axis, "x": axis}, (axis,)) for axis in range(last))
    yield Factor({"weight": 1, "x": last}, (last,))


def _factors_of_weight(call: Any, _: Any) -> Iterable[Factor]:
    last = call.x.ndim - 1
    yield Factor({"ct": last}, (0,))
    yield Factor({"x": last}, (1,))
    yield from (Factor({"ct": axis, "x": axis}, (SUM,)) for axis in range(last))


def _factors_of_bias(call: Any, _: Any) -> Iterable[Factor]:
    last = call.ct.ndim - 1
    yield Factor({"ct": last}, (0,))
    yield from (Factor({"ct": axis}, (SUM,)) for axis in range(last))


@op(
    kind=Kind.CONTRACTION,
    infer=_mapped,
    dtypes=FLOATING,
    promote=("x", "weight", "bias"),
    autocast=Autocast.LOW,
    factors=_factors,
    samples=_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 4)), np.zeros((4, 3))),
        ErrorSample(ShapeError, np.zeros(()), np.zeros((4, 3))),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros(3)),
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros((4, 3)), np.zeros(3)),
    ),
)
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` (`torch.nn.functional.linear`).

    Args:
        x: (..., in), a floating dtype.
        weight: (out, in).
        bias: (out,), or None for none.

    Returns:
        (..., out), of the common dtype.

    Raises:
        ShapeError: if the shapes do not fit together.

    16-bit floats accumulate in float32.
    """
    out = reshape(matrix_product(_rows(x), matrix_transpose(weight)), (*x.shape[:-1], weight.shape[0]))
    return out if bias is None else out + bias


def _rows(x: Tensor) -> Tensor:
    return reshape(x, (size(x.shape[:-1]), x.shape[-1]))


@linear.defvjp("x", factors=_factors_of_x)
def _(ct: Tensor, x: Spec, weight: Tensor) -> Tensor:
    return reshape(matrix_product(_rows(ct), weight), x.shape)


@linear.defvjp("weight", factors=_factors_of_weight)
def _(ct: Tensor, x: Tensor) -> Tensor:
    return matrix_product(matrix_transpose(_rows(ct)), _rows(x))


@linear.defvjp("bias", factors=_factors_of_bias)
def _(ct: Tensor) -> Tensor:
    return sum(ct, axis=tuple(range(ct.ndim - 1)))


__all__ = ["linear"]
