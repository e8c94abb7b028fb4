"""What integers name: one-hot codes, and the rows of an embedding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.factors import SUM, Factor
from plugrad.dispatch.op import op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import FLOATING, DType, as_dtype, int32
from plugrad.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from plugrad.ops._rules import dtype_value, integer
from plugrad.ops.casting import astype
from plugrad.ops.comparison import equal, less, where
from plugrad.ops.creation import count, full, iota, zeros_of
from plugrad.ops.indexing import INDEX, I, gather_nd, scatter_nd
from plugrad.ops.movement import reshape
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _from_zero(x: Tensor, n: int) -> Tensor:
    """``x`` with what is negative outside the range of an axis of size ``n``."""
    return where(less(x, 0), n, x)


def _one_hot_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.integers(0, 4, (5,)), num_classes=4),
        Sample(rng.integers(0, 3, (2, 3)).astype("int32"), num_classes=3, dtype="float64"),
        Sample(rng.integers(0, 3, ()), num_classes=3, dtype="int64"),
        Sample(rng.integers(0, 3, (0, 2)), num_classes=3, dtype="bool"),
    ]


@op(
    kind=I,
    infer=lambda call: Spec((*call.x.shape, call.num_classes), call.dtype, call.x.device),
    dtypes=INDEX,
    attributes={"num_classes": count("num_classes"), "dtype": dtype_value},
    differentiable=False,
    samples=_one_hot_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.array([0, 3]), num_classes=3),
        ErrorSample(IndexRangeError, np.array([-1, 0]), num_classes=3),
        ErrorSample(ArgumentError, np.array([0]), num_classes=-1),
        ErrorSample(DTypeError, np.array([0]), num_classes=3, dtype="float12"),
    ),
)
def one_hot(x: Tensor, /, num_classes: int, *, dtype: DType | str = "float32") -> Tensor:
    """1 at the class that each element of ``x`` names, 0 at the others.

    Args:
        x: int32 or int64, of any shape, in [0, num_classes).
        num_classes: the number of classes, the size of the last axis of the result.
        dtype: of the result.

    Raises:
        IndexRangeError: if a class is outside the range.
        ArgumentError: if ``num_classes`` is negative.
    """
    dtype, n = as_dtype(dtype), x.spec.size
    wide = int32 if dtype is dtypes.bool else dtype
    places = [iota(n, device=x.spec.device), _from_zero(reshape(x, (n,)), num_classes)]
    ones = full((n,), 1, dtype=wide, device=x.spec.device)
    hot = scatter_nd(ones, places, shape=(n, num_classes))
    return reshape(astype(hot, dtype), (*x.spec.shape, num_classes))


def _padding_idx(call: Any, value: Any) -> int | None:
    if call.weight.ndim != 2:
        raise ShapeError(f"embedding: weight has shape {call.weight.shape}; takes (rows, features)")
    if value is None:
        return None
    index, n = integer(call, "padding_idx", value), int(call.weight.shape[0])
    if not -n <= index < n:
        raise IndexRangeError(f"embedding: padding_idx {index} is out of range for {n} rows of weight")
    return index % n


def _embedded(call: Any) -> Spec:
    weight: Spec = call.weight
    return weight.with_shape((*call.x.shape, *weight.shape[1:]))


def _embedding_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.integers(0, 5, (2, 3)), rng.standard_normal((5, 4))),
        Sample(rng.integers(0, 5, (7,)).astype("int32"), rng.standard_normal((5, 1))),
        Sample(rng.integers(0, 4, (7,)), rng.standard_normal((5, 3)), padding_idx=-1),
        Sample(rng.integers(0, 5, ()), rng.standard_normal((5, 3))),
        Sample(rng.integers(0, 5, (0,)), rng.standard_normal((5, 3))),
    ]


def _rows_of_x(call: Any, _: Any) -> Iterable[Factor]:
    yield from (Factor({"x": axis}, (axis,)) for axis in range(call.x.ndim))
    yield Factor({"weight": 1}, (call.x.ndim,))


def _rows_of_ct(call: Any, _: Any) -> Iterable[Factor]:
    yield Factor({"ct": call.x.ndim, "weight": 1}, (1,))
    yield from (Factor({"ct": axis, "x": axis}, (SUM,)) for axis in range(call.x.ndim))


@op(
    kind=I,
    infer=_embedded,
    dtypes={"x": INDEX, "weight": FLOATING},
    attributes={"padding_idx": _padding_idx},
    factors=_rows_of_x,
    samples=_embedding_samples,
    errors=errors(
        ErrorSample(IndexRangeError, np.array([0, 3]), np.zeros((3, 2))),
        ErrorSample(IndexRangeError, np.array([-1, 0]), np.zeros((3, 2))),
        ErrorSample(IndexRangeError, np.array([0]), np.zeros((3, 2)), padding_idx=3),
        ErrorSample(ShapeError, np.array([0]), np.zeros(3)),
    ),
)
def embedding(x: Tensor, weight: Tensor, /, padding_idx: int | None = None) -> Tensor:
    """The row of ``weight`` that each element of ``x`` names (PyTorch's `embedding`).

    Args:
        x: int32 or int64, of any shape, in [0, rows).
        weight: (rows, features), floating.
        padding_idx: a row that is read like any other and gets no gradient; a negative one counts from the end.

    Returns:
        ``x.shape + (features,)``.

    Raises:
        IndexRangeError: if an element of ``x`` or ``padding_idx`` is out of range.
        ShapeError: if ``weight`` has not 2 axes.
    """
    del padding_idx
    return gather_nd(weight, [_from_zero(x, weight.spec.shape[0])], axis=0)


@embedding.defvjp("weight", factors=_rows_of_ct)
def _(ct: Tensor, x: Tensor, weight: Spec, *, padding_idx: int | None) -> Tensor:
    summed = scatter_nd(ct, [x], shape=weight.shape, axis=0)
    if padding_idx is None:
        return summed
    rows = reshape(iota(weight.shape[0], device=weight.device), (-1, 1))
    return where(equal(rows, padding_idx), zeros_of(weight.with_shape(())), summed)


__all__ = ["embedding", "one_hot"]
