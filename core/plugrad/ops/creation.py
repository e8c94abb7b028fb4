"""Tensors from nothing: constants and ranges (array API standard 2024.12, "Creation functions").

The primitives are `full` and `iota`. The default dtypes are float32 and int64. Ranges: `plugrad.ops.ranges`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.dispatch.op import Kind, Scalar, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors, samples
from plugrad.dispatch.statement import Normalizer
from plugrad.dtypes import NUMERIC, DType, as_dtype, float32, iinfo
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from plugrad.ops._rules import dtype_value, integer, shape_value
from plugrad.ops.casting import astype
from plugrad.ops.comparison import equal, where
from plugrad.ops.movement import reshape
from plugrad.spec import Device, Shape, Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def number(call: Any, name: str, value: Any) -> Scalar:
    """``value`` as a Python number."""
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, (bool, int, float)):
        raise ArgumentError(f"{call.op.name}: {name} takes a real number, got {value!r}")
    return plain


def _filled_dtype(call: Any, value: Any) -> DType:
    fill = call.fill_value
    dtype = dtype_value(call, type(fill) if value is None else value)
    if isinstance(fill, float) and not dtype.is_floating:
        raise DTypeError(f"{call.op.name}: {fill} is no value of {dtype}; pass an int, or a floating dtype")
    if dtype.is_integer:
        info = iinfo(dtype)
        if not info.min <= fill <= info.max:
            raise ArgumentError(
                f"{call.op.name}: {fill} is outside the range of {dtype}, {info.min} to {info.max}"
            )
    return dtype


def _created(call: Any) -> Spec:
    return Spec(call.shape, call.dtype, call.device)


@op(
    kind=Kind.CREATION,
    infer=_created,
    attributes={
        "shape": shape_value,
        "fill_value": lambda call, value: number(call, "fill_value", value),
        "dtype": _filled_dtype,
    },
    differentiable=False,
    primitive=True,
    samples=samples(
        Sample(shape=(2, 3), fill_value=1.5),
        Sample(shape=(), fill_value=7),
        Sample(shape=3, fill_value=-0.0, dtype="float64"),
        Sample(shape=(0, 2), fill_value=True),
        Sample(shape=(7,), fill_value=0.1, dtype="float64"),
    ),
    errors=errors(
        ErrorSample(ShapeError, shape=(2, -1), fill_value=0),
        ErrorSample(DTypeError, shape=(2,), fill_value=1.5, dtype="int32"),
        ErrorSample(ArgumentError, shape=(2,), fill_value=256, dtype="uint8"),
        ErrorSample(ArgumentError, shape=(2,), fill_value="one"),
    ),
)
def full(
    shape: int | Shape,
    fill_value: Scalar,
    *,
    dtype: DType | str | None = None,
    device: Device | str | None = None,
) -> Tensor:
    """A tensor of ``shape`` filled with ``fill_value`` (array API `full`).

    Args:
        shape: the sizes of the axes.
        fill_value: a Python number.
        dtype: by default that of the number: bool, int64 or float32.
        device: by default the current device.

    Raises:
        DTypeError: for a float and a dtype that is not floating.
        ArgumentError: for an int outside the range of the dtype.
        ShapeError: for a negative size.
    """


def zeros(
    shape: int | Shape, *, dtype: DType | str | None = None, device: Device | str | None = None
) -> Tensor:
    """A tensor of ``shape`` filled with 0, float32 unless ``dtype`` says otherwise (array API `zeros`)."""
    return full(shape, 0, dtype=float32 if dtype is None else dtype, device=device)


def ones(
    shape: int | Shape, *, dtype: DType | str | None = None, device: Device | str | None = None
) -> Tensor:
    """A tensor of ``shape`` filled with 1, float32 unless ``dtype`` says otherwise (array API `ones`)."""
    return full(shape, 1, dtype=float32 if dtype is None else dtype, device=device)


def empty(
    shape: int | Shape, *, dtype: DType | str | None = None, device: Device | str | None = None
) -> Tensor:
    """As `zeros` (array API `empty`): unspecified values would be of no use where values are immutable."""
    return zeros(shape, dtype=dtype, device=device)


def full_like(
    x: Tensor,
    /,
    fill_value: Scalar,
    *,
    dtype: DType | str | None = None,
    device: Device | str | None = None,
) -> Tensor:
    """``fill_value`` in the shape of ``x``, and in its dtype and on its device by default (array API `full_like`)."""
    spec = x.spec
    return full(
        spec.shape,
        fill_value,
        dtype=spec.dtype if dtype is None else dtype,
        device=spec.device if device is None else device,
    )


def zeros_like(
    x: Tensor, /, *, dtype: DType | str | None = None, device: Device | str | None = None
) -> Tensor:
    """Zeros in the shape of ``x``, and in its dtype and on its device by default (array API `zeros_like`)."""
    return full_like(x, 0, dtype=dtype, device=device)


def ones_like(
    x: Tensor, /, *, dtype: DType | str | None = None, device: Device | str | None = None
) -> Tensor:
    """Ones in the shape of ``x``, and in its dtype and on its device by default (array API `ones_like`)."""
    return full_like(x, 1, dtype=dtype, device=device)


def empty_like(
    x: Tensor, /, *, dtype: DType | str | None = None, device: Device | str | None = None
) -> Tensor:
    """As `zeros_like` (array API `empty_like`)."""
    return full_like(x, 0, dtype=dtype, device=device)


def zeros_of(spec: Spec) -> Tensor:
    """Zeros of a spec."""
    return full(spec.shape, 0, dtype=spec.dtype, device=spec.device)


def ones_of(spec: Spec) -> Tensor:
    """Ones of a spec."""
    return full(spec.shape, 1, dtype=spec.dtype, device=spec.device)


def count(name: str) -> Normalizer:
    """The normalizer of a number of things."""

    def normalize(call: Any, value: Any) -> int:
        given = integer(call, name, value)
        if given < 0:
            raise ArgumentError(f"{call.op.name}: {name} takes an integer of at least 0, got {given}")
        return given

    return normalize


def numeric_dtype(call: Any, value: Any) -> DType:
    """A dtype that is not bool."""
    dtype = dtype_value(call, value)
    if dtype not in NUMERIC:
        raise DTypeError(f"{call.op.name}: takes a numeric dtype, got {dtype}")
    return dtype


def _counted(call: Any) -> Spec:
    return Spec((call.length,), call.dtype, call.device)


@op(
    kind=Kind.CREATION,
    infer=_counted,
    attributes={"length": count("length"), "dtype": numeric_dtype},
    differentiable=False,
    primitive=True,
    samples=samples(Sample(length=5), Sample(length=0), Sample(length=3, dtype="float64")),
    errors=errors(
        ErrorSample(ArgumentError, length=-1),
        ErrorSample(ArgumentError, length=2.5),
        ErrorSample(DTypeError, length=3, dtype="bool"),
    ),
)
def iota(length: int, *, dtype: DType | str = "int64", device: Device | str | None = None) -> Tensor:
    """``0, 1, ..., length - 1`` in a numeric dtype: the primitive below `arange`.

    Integers wrap around, and floats round, where the dtype does not hold a number.

    Raises:
        ArgumentError: for a negative length.
        DTypeError: if the dtype is not numeric.
    """


def _eye_columns(call: Any, value: Any) -> int:
    columns: int = call.n_rows if value is None else count("n_cols")(call, value)
    return columns


@op(
    kind=Kind.CREATION,
    infer=lambda call: Spec((call.n_rows, call.n_cols), call.dtype, call.device),
    attributes={
        "n_rows": count("n_rows"),
        "n_cols": _eye_columns,
        "k": lambda call, value: integer(call, "k", value),
        "dtype": lambda call, value: float32 if value is None else dtype_value(call, value),
    },
    differentiable=False,
    samples=samples(
        Sample(n_rows=3),
        Sample(n_rows=2, n_cols=4, k=1),
        Sample(n_rows=4, n_cols=3, k=-2),
        Sample(n_rows=0),
        Sample(n_rows=3, dtype="int32"),
        Sample(n_rows=3, dtype="float64"),
    ),
    errors=errors(
        ErrorSample(ArgumentError, n_rows=-1),
        ErrorSample(ArgumentError, n_rows=2, n_cols=-1),
        ErrorSample(ArgumentError, n_rows=2, k=0.5),
        ErrorSample(DTypeError, n_rows=2, dtype="float12"),
    ),
)
def eye(
    n_rows: int,
    n_cols: int | None = None,
    *,
    k: int = 0,
    dtype: DType | str | None = None,
    device: Device | str | None = None,
) -> Tensor:
    """Ones on a diagonal, zeros elsewhere (array API `eye`).

    Args:
        n_rows: the number of rows.
        n_cols: the number of columns, by default ``n_rows``.
        k: which diagonal: 0 the main one, positive ones above it, negative ones below.
        dtype: by default float32.
        device: by default the current device.

    Raises:
        ArgumentError: for a negative number of rows or columns.
    """
    assert n_cols is not None
    rows = reshape(iota(n_rows, device=device), (n_rows, 1))
    return astype(equal(rows + k, iota(n_cols, device=device)), as_dtype(dtype))


def _triangle_axes(call: Any) -> Spec:
    x: Spec = call.x
    if x.ndim < 2:
        raise ShapeError(f"{call.op.name}: takes at least 2 axes, got shape {x.shape}")
    return x


def _triangle_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 4))),
        Sample(rng.standard_normal((2, 4, 3)), k=1),
        Sample(rng.standard_normal((3, 3)), k=-1),
        Sample(rng.standard_normal((0, 3))),
        Sample(rng.integers(0, 9, (3, 3))),
    ]


_TRIANGLE_ERRORS: Final = errors(
    ErrorSample(ShapeError, np.zeros(3)), ErrorSample(ArgumentError, np.zeros((3, 3)), k=0.5)
)


def _above(x: Tensor, k: int) -> Tensor:
    """Whether an element of the last two axes lies above the ``k``-th diagonal."""
    rows, columns = x.spec.shape[-2:]
    row = reshape(iota(rows, device=x.spec.device), (rows, 1))
    return iota(columns, device=x.spec.device) > row + k


_DIAGONAL: Final = {"k": lambda call, value: integer(call, "k", value)}


@op(
    infer=_triangle_axes,
    attributes=_DIAGONAL,
    samples=_triangle_samples,
    errors=_TRIANGLE_ERRORS,
)
def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """The lower triangle of the last two axes, zeros above the ``k``-th diagonal (array API `tril`).

    Raises:
        ShapeError: if ``x`` has fewer than 2 axes.
    """
    return where(_above(x, k), zeros_of(x.spec.with_shape(())), x)


@op(
    infer=_triangle_axes,
    attributes=_DIAGONAL,
    samples=_triangle_samples,
    errors=_TRIANGLE_ERRORS,
)
def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """The upper triangle of the last two axes, zeros below the ``k``-th diagonal (array API `triu`).

    Raises:
        ShapeError: if ``x`` has fewer than 2 axes.
    """
    return where(_above(x, k - 1), x, zeros_of(x.spec.with_shape(())))


__all__ = [
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "iota",
    "ones",
    "ones_like",
    "ones_of",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
    "zeros_of",
]
