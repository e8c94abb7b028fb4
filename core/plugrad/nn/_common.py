"""What the layers share: how they take devices, dtypes and sizes, and how they make their parameters."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from plugrad import ops
from plugrad.dtypes import DType
from plugrad.errors import ArgumentError
from plugrad.spec import Device
from plugrad.tensor import Tensor

DeviceLike = Device | str | None
DTypeLike = DType | str | None
Sizes = int | tuple[int, ...]


def zero_parameter(shape: tuple[int, ...], dtype: DTypeLike, device: DeviceLike) -> Tensor:
    """A parameter that is 0, or whose values are drawn next."""
    return ops.zeros(shape, dtype=dtype, device=device).requires_grad_()


def one_parameter(shape: tuple[int, ...], dtype: DTypeLike, device: DeviceLike) -> Tensor:
    """A parameter that is 1."""
    return ops.ones(shape, dtype=dtype, device=device).requires_grad_()


def check_positive(name: str, **values: int) -> None:
    """Raise ArgumentError for a size that is no int of at least 1."""
    for key, value in values.items():
        if not _is_size(value, 1):
            raise ArgumentError(f"{name}: {key} takes an int of at least 1, got {value!r}")


def each_axis(name: str, key: str, value: Sizes, axes: int, least: int = 1) -> tuple[int, ...]:
    """One size for each spatial axis, from one for all or one for each.

    Raises:
        ArgumentError: for another number of sizes, or a size that is no int of at least ``least``.
    """
    sizes = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(sizes) != axes or not all(_is_size(n, least) for n in sizes):
        many = "" if axes == 1 else f" or {axes} of them"
        raise ArgumentError(f"{name}: {key} takes an int{many}, at least {least}, got {value!r}")
    return tuple(int(n) for n in sizes)


def _is_size(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
