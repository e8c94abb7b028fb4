"""`Device` and `Spec`: where a value lives, and its shape, dtype and device.

Both are interned: equal ones are the same object, so that a signature of specs is compared by identity.
"""

from __future__ import annotations

import math
import re
import threading
import weakref
from collections.abc import Sequence
from typing import Final

from plugrad.dtypes import DType
from plugrad.errors import DeviceError, ShapeError

Shape = tuple[int, ...]

_lock: Final = threading.Lock()
_DEVICE: Final = re.compile(r"([A-Za-z_][\w.-]*)(?::(\d+))?")


class Device:
    """A device of a backend, written ``name`` or ``name:index``; ``Device.parse`` makes one from text.

    The name is the backend's own, never an alias.
    """

    __slots__ = ("index", "name")
    _known: Final[dict[tuple[str, int], Device]] = {}

    name: str
    index: int

    def __new__(cls, name: str, index: int = 0) -> Device:
        """The device of this name and index."""
        device = cls._known.get((name, index))
        if device is None:
            with _lock:
                device = cls._known.get((name, index))
                if device is None:
                    device = object.__new__(cls)
                    device.name = name
                    device.index = index
                    cls._known[name, index] = device
        return device

    @staticmethod
    def split(text: str) -> tuple[str, int]:
        """The name and the index in ``text``, ``"name"`` or ``"name:index"``.

        Raises:
            DeviceError: if ``text`` has another form.
        """
        match = _DEVICE.fullmatch(text)
        if match is None:
            raise DeviceError(f"{text!r} is no device: write 'name' or 'name:index'")
        return match[1], int(match[2] or 0)

    def __reduce__(self) -> tuple[type[Device], tuple[str, int]]:
        return Device, (self.name, self.index)

    def __str__(self) -> str:
        return f"{self.name}:{self.index}"

    def __repr__(self) -> str:
        return f"Device('{self}')"


class Tracked:
    """The key of a value of this spec that the record follows; `Spec` itself is the key of one it does not."""

    __slots__ = ("spec",)

    def __init__(self, spec: Spec) -> None:
        self.spec = spec


class Spec:
    """Shape, dtype and device of a value.

    Attributes:
        shape: the sizes of the axes.
        dtype: the element type.
        device: where the value lives.
        tracked: stands in a signature for a value of this spec that needs a gradient.
    """

    __slots__ = ("__weakref__", "device", "dtype", "shape", "spec", "tracked")
    _known: Final[weakref.WeakValueDictionary[tuple[Shape, DType, Device], Spec]] = (
        weakref.WeakValueDictionary()
    )

    shape: Shape
    dtype: DType
    device: Device
    spec: Spec
    tracked: Tracked

    def __new__(cls, shape: Shape, dtype: DType, device: Device) -> Spec:
        """The spec of these."""
        spec = cls._known.get((shape, dtype, device))
        if spec is None:
            with _lock:
                spec = cls._known.get((shape, dtype, device))
                if spec is None:
                    spec = object.__new__(cls)
                    spec.shape = shape
                    spec.dtype = dtype
                    spec.device = device
                    spec.spec = spec
                    spec.tracked = Tracked(spec)
                    cls._known[shape, dtype, device] = spec
        return spec

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, without padding."""
        return self.size * self.dtype.itemsize

    def with_shape(self, shape: Shape) -> Spec:
        """This spec with another shape."""
        return Spec(shape, self.dtype, self.device)

    def with_dtype(self, dtype: DType) -> Spec:
        """This spec with another dtype."""
        return Spec(self.shape, dtype, self.device)

    def __reduce__(self) -> tuple[type[Spec], tuple[Shape, DType, Device]]:
        return Spec, (self.shape, self.dtype, self.device)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    def __repr__(self) -> str:
        return f"Spec({self.shape}, {self.dtype}, '{self.device}')"


def broadcast_shapes(name: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that ``shapes`` broadcast to.

    Raises:
        ShapeError: if they do not broadcast.
    """
    ndim = max(map(len, shapes), default=0)
    result = [1] * ndim
    for shape in shapes:
        for i, size in enumerate(shape, ndim - len(shape)):
            if size != 1:
                if result[i] not in (1, size):
                    raise ShapeError(
                        f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast together"
                    )
                result[i] = size
    return tuple(result)
