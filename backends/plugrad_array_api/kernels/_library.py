"""`Library`: a namespace with its dtypes and devices, and what several families need of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from plugrad.dtypes import ALL, DType, float32
from plugrad.errors import ArgumentError, DTypeError
from plugrad.spec import Device, Shape

Array = Any

_SINCE_2024_12: Final = frozenset(("cumulative_prod", "nextafter", "reciprocal"))
"""Functions that the kernels do without where a library is of an older version."""


class Library:
    """An array library that follows the standard.

    Attributes:
        xp: its namespace.
        dtypes: its dtypes by plugrad's names.
        devices: its devices in the order of plugrad's indices.
    """

    def __init__(self, xp: Any, dtypes: Mapping[str, Any] | None, devices: Sequence[Any]) -> None:
        self.xp = xp
        self.dtypes = (
            {d.name: getattr(xp, d.name) for d in ALL if hasattr(xp, d.name)} if dtypes is None else dtypes
        )
        self.devices = devices
        self._kinds = [(self.dtypes[d.name], d.kind) for d in ALL if d.name in self.dtypes]
        self._low = [self.dtypes[n] for n in ("float16", "bfloat16") if n in self.dtypes]
        version = getattr(xp, "__array_api_version__", None)
        self._new = version is None or str(version) >= "2024.12"

    def offers(self, name: str) -> bool:
        """Whether the library has the function ``name``, in its version of the standard."""
        return hasattr(self.xp, name) and (self._new or name not in _SINCE_2024_12)

    def function(self, name: str) -> Callable[..., Array]:
        """The function ``name``.

        Raises:
            ArgumentError: if the library has none.
        """
        found: Callable[..., Array] | None = getattr(self.xp, name, None)
        if found is None:
            raise ArgumentError(
                f"{getattr(self.xp, '__name__', self.xp)} has no function {name!r}; takes a namespace of the Python "
                "array API standard, 2023.12 or newer"
            )
        return found

    def dtype(self, dtype: DType) -> Any:
        """The library's dtype.

        Raises:
            DTypeError: if it has none.
        """
        if dtype.name not in self.dtypes:
            takes = ", ".join(d.name for d in ALL if d.name in self.dtypes)
            raise DTypeError(f"{getattr(self.xp, '__name__', self.xp)} has no {dtype}; takes {takes}")
        return self.dtypes[dtype.name]

    def first(self, *dtypes: DType) -> Any:
        """The library's dtype for the first of ``dtypes`` that it has."""
        return self.dtype(next((d for d in dtypes if d.name in self.dtypes), dtypes[0]))

    def device(self, device: Device) -> Any:
        """The library's device."""
        return self.devices[device.index]

    def scalar(self, value: bool | int | float, like: Array) -> Array:
        """A 0-d array of the dtype of ``like``, beside it."""
        return self.xp.asarray(value, dtype=like.dtype, device=like.device)

    def zeros(self, shape: Shape, like: Array) -> Array:
        """Zeros of the dtype of ``like``, beside it."""
        return self.xp.zeros(shape, dtype=like.dtype, device=like.device)

    def range(self, length: int, like: Array) -> Array:
        """0 to ``length`` - 1 in the dtype of ``like``, of integers, beside it."""
        return self.xp.arange(length, dtype=like.dtype, device=like.device)

    def copied(self, x: Array) -> Array:
        """The elements of ``x`` in memory of their own, which may be written to."""
        return self.xp.asarray(x, copy=True)

    def cast(self, x: Array, dtype: Any) -> Array:
        """``x`` as ``dtype``, itself where it is that already."""
        # asarray, as NumPy gives scalars of its own instead of 0-d arrays, and its astype takes none.
        return self.xp.astype(self.xp.asarray(x), dtype, copy=False)

    def kind(self, x: Array) -> str:
        """The kind of the dtype of ``x``, as `DType.kind` has it."""
        # Not isdtype, which need not know the 16-bit floats.
        return next(kind for dtype, kind in self._kinds if dtype == x.dtype)

    def is_floating(self, x: Array) -> bool:
        """Whether ``x`` is of floats."""
        return self.kind(x) == "float"

    def wide(self, dtype: Any) -> Any:
        """What ``dtype`` is accumulated in: float32 for a 16-bit float."""
        return self.dtype(float32) if any(dtype == low for low in self._low) else dtype

    def widened(self, x: Array) -> Array:
        """``x``, in float32 where it is a 16-bit float."""
        wide = self.wide(x.dtype)
        return x if wide == x.dtype else self.cast(x, wide)
