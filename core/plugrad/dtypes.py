"""Data types, their promotion, and the limits of each.

Promotion follows the Python array API standard 2024.12 (https://data-apis.org/array-api/2024.12/API_specification/type_promotion.html).
Where the standard is silent: an integer with a floating dtype gives the floating dtype, bool with any
dtype gives that dtype, bfloat16 with float16 gives float32, and uint64 with a signed integer is an error.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np

from plugrad.errors import ArgumentError, DTypeError

__all__ = [
    "ALL",
    "BOOLEAN",
    "FLOATING",
    "INTEGER",
    "NUMERIC",
    "SIGNED",
    "DType",
    "as_dtype",
    "bfloat16",
    "bool",
    "can_cast",
    "finfo",
    "float16",
    "float32",
    "float64",
    "iinfo",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "promote",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]


class DType:
    """An element type. There is one object per dtype; compare with ``is`` or ``==``.

    Attributes:
        name: the name, such as ``"float32"``.
        kind: ``"bool"``, ``"int"``, ``"uint"`` or ``"float"``.
        itemsize: bytes per element.
        numpy: the matching `numpy.dtype` (that of ml_dtypes for bfloat16).
    """

    __slots__ = ("itemsize", "kind", "name", "numpy")

    name: str
    kind: str
    itemsize: int
    numpy: np.dtype[Any]

    def __init__(self, name: str, kind: str, numpy: Any) -> None:
        self.name = name
        self.kind = kind
        self.numpy = np.dtype(numpy)
        self.itemsize = self.numpy.itemsize

    @property
    def is_floating(self) -> builtins.bool:
        """Whether this is a floating dtype."""
        return self.kind == "float"

    @property
    def is_integer(self) -> builtins.bool:
        """Whether this is a signed or unsigned integer dtype."""
        return self.kind in ("int", "uint")

    def __repr__(self) -> str:
        return f"plugrad.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


bool: Final = DType("bool", "bool", np.bool_)
int8: Final = DType("int8", "int", np.int8)
int16: Final = DType("int16", "int", np.int16)
int32: Final = DType("int32", "int", np.int32)
int64: Final = DType("int64", "int", np.int64)
uint8: Final = DType("uint8", "uint", np.uint8)
uint16: Final = DType("uint16", "uint", np.uint16)
uint32: Final = DType("uint32", "uint", np.uint32)
uint64: Final = DType("uint64", "uint", np.uint64)
float16: Final = DType("float16", "float", np.float16)
bfloat16: Final = DType("bfloat16", "float", ml_dtypes.bfloat16)
float32: Final = DType("float32", "float", np.float32)
float64: Final = DType("float64", "float", np.float64)

BOOLEAN: Final = (bool,)
SIGNED: Final = (int8, int16, int32, int64)
UNSIGNED: Final = (uint8, uint16, uint32, uint64)
INTEGER: Final = SIGNED + UNSIGNED
FLOATING: Final = (float16, bfloat16, float32, float64)
NUMERIC: Final = INTEGER + FLOATING
ALL: Final = BOOLEAN + NUMERIC

_BY_NAME: Final = {d.name: d for d in ALL}
_BY_NUMPY: Final = {d.numpy: d for d in ALL}
_BY_PYTHON: Final[dict[Any, DType]] = {builtins.bool: bool, int: int64, float: float32}


def as_dtype(value: Any) -> DType:
    """The `DType` for a `DType`, its name, a NumPy dtype or scalar type, or ``bool``, ``int``, ``float``.

    ``int`` means int64 and ``float`` float32, the defaults of the framework.

    Raises:
        DTypeError: if there is no such dtype.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    if isinstance(value, type) and value in _BY_PYTHON:
        return _BY_PYTHON[value]
    try:
        if value is None:
            raise TypeError
        return _BY_NUMPY[np.dtype(value).newbyteorder("=")]
    except (TypeError, KeyError):
        raise DTypeError(f"unknown dtype {value!r}; the dtypes are {', '.join(_BY_NAME)}") from None


def _ladder() -> dict[tuple[DType, DType], DType]:
    table: dict[tuple[DType, DType], DType] = {}

    def put(a: DType, b: DType, c: DType) -> None:
        table[a, b] = table[b, a] = c

    signed_of_width = {d.itemsize: d for d in SIGNED}
    for a in ALL:
        put(a, a, a)
        put(bool, a, a)
    for family in (SIGNED, UNSIGNED, (float16, float32, float64), (bfloat16, float32, float64)):
        for i, a in enumerate(family):
            for b in family[i:]:
                put(a, b, b)
    for s in SIGNED:
        for u in UNSIGNED[:3]:
            put(s, u, signed_of_width[builtins.max(s.itemsize, u.itemsize * 2)])
    for i_ in INTEGER:
        for f in FLOATING:
            put(i_, f, f)
    put(bfloat16, float16, float32)
    return table


_PROMOTE: Final = _ladder()


def promote(*dtypes: DType) -> DType:
    """The dtype that values of all ``dtypes`` promote to.

    Raises:
        DTypeError: for uint64 with a signed integer, which no dtype holds.
    """
    result = dtypes[0]
    for d in dtypes[1:]:
        try:
            result = _PROMOTE[result, d]
        except KeyError:
            raise DTypeError(
                f"{result} and {d} do not promote: no integer dtype holds both; cast one with astype"
            ) from None
    return result


def promote_scalar(dtype: DType, scalar: type) -> DType:
    """The dtype of an op on a tensor of ``dtype`` and a Python scalar of type ``scalar``, which is weak.

    Raises:
        DTypeError: for an int or float with a bool tensor, which the array API standard leaves undefined.
    """
    if scalar is builtins.bool:
        return dtype
    if dtype is bool:
        return int64 if scalar is int else float32
    if scalar is float and dtype.is_integer:
        return float32
    return dtype


def can_cast(from_: Any, to: Any, /) -> builtins.bool:
    """Whether ``from_`` (a dtype or a tensor) promotes to ``to`` without changing ``to`` (array API `can_cast`)."""
    source = as_dtype(getattr(from_, "dtype", from_))
    target = as_dtype(to)
    return _PROMOTE.get((source, target)) is target


_KINDS: Final[dict[str, tuple[DType, ...]]] = {
    "bool": BOOLEAN,
    "signed integer": SIGNED,
    "unsigned integer": UNSIGNED,
    "integral": INTEGER,
    "real floating": FLOATING,
    "complex floating": (),
    "numeric": NUMERIC,
}


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Whether ``dtype`` is of ``kind``: a dtype, a kind's name, or a tuple of those (array API `isdtype`)."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return as_dtype(dtype) in _KINDS[kind]
    if isinstance(kind, str) and kind not in _BY_NAME:
        raise ArgumentError(f"isdtype: unknown kind {kind!r}; the kinds are {', '.join(map(repr, _KINDS))}")
    return as_dtype(dtype) is as_dtype(kind)


@dataclass(frozen=True, slots=True)
class FloatInfo:
    """Limits of a floating dtype: ``bits``, ``eps``, ``max``, ``min``, ``smallest_normal``, ``dtype``."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True, slots=True)
class IntInfo:
    """Limits of an integer dtype: ``bits``, ``max``, ``min``, ``dtype``."""

    bits: int
    max: int
    min: int
    dtype: DType


def finfo(type: Any, /) -> FloatInfo:
    """Machine limits of a floating dtype, or of a tensor's dtype (array API `finfo`)."""
    dtype = as_dtype(getattr(type, "dtype", type))
    if not dtype.is_floating:
        raise DTypeError(f"finfo: got {dtype}, takes a floating dtype; iinfo serves integers")
    info = ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]
    return FloatInfo(
        info.bits, float(info.eps), float(info.max), float(info.min), float(info.smallest_normal), dtype
    )


def iinfo(type: Any, /) -> IntInfo:
    """Machine limits of an integer dtype, or of a tensor's dtype (array API `iinfo`)."""
    dtype = as_dtype(getattr(type, "dtype", type))
    if not dtype.is_integer:
        raise DTypeError(f"iinfo: got {dtype}, takes an integer dtype; finfo serves floating dtypes")
    info = np.iinfo(dtype.numpy)
    return IntInfo(info.bits, int(info.max), int(info.min), dtype)
