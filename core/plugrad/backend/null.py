"""The null backend: every op and every dtype, and no values.

The core infers the specs of an op without a shape rule by running its body here, and the core's tests run
here with no other backend installed. It is built in, always available, and not among the listed devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from plugrad.backend.interface import Backend, Capabilities, DeviceInfo
from plugrad.backend.kernels import Kernel, KernelTable, OpLike
from plugrad.dtypes import ALL
from plugrad.errors import DeviceError
from plugrad.spec import Device, Shape, Spec

NULL: Final = "null"
"""The null backend's name."""


class Nothing:
    """The array of the null device. It stands for the tuple of the results of an op of several too."""

    __slots__ = ()
    # Without this, Python would iterate by index, and there is no last one.
    __iter__ = None

    def __getitem__(self, index: object) -> Nothing:
        del index
        return self

    def __repr__(self) -> str:
        return "<nothing>"


NOTHING: Final = Nothing()


def _compute_nothing(*arrays: Any, **attributes: Any) -> Nothing:
    del arrays, attributes
    return NOTHING


_KERNEL: Final = Kernel(_compute_nothing)


class _EveryOp(KernelTable):
    """Answers every op with the kernel that computes nothing, but those whose shapes are in the values."""

    def find(self, op: OpLike, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
        del specs, attributes
        return _KERNEL if op in self else None

    def __contains__(self, op: object) -> bool:
        return not getattr(op, "data_dependent", False)


class NullBackend(Backend):
    """Memory without values and a table of kernels that compute nothing."""

    name = NULL

    def __init__(self) -> None:
        self.kernels = _EveryOp()
        self._capabilities = Capabilities(dtypes=frozenset(ALL), broadcasting=True, scalars=True)

    def devices(self) -> Sequence[DeviceInfo]:
        """The one device."""
        return (DeviceInfo("shapes and dtypes, no values"),)

    def capabilities(self, device: Device) -> Capabilities:
        """Every dtype."""
        del device
        return self._capabilities

    def allocate(self, spec: Spec) -> Nothing:
        """An array without values."""
        del spec
        return NOTHING

    def from_host(self, value: np.ndarray[Any, Any], device: Device) -> Nothing:
        """An array without values."""
        del value, device
        return NOTHING

    def to_host(self, array: Any) -> np.ndarray[Any, Any]:
        """Raise: there are no values.

        Raises:
            DeviceError: always.
        """
        del array
        raise DeviceError("the null device has no values to read; make the tensor on another device")

    def shape(self, array: Any) -> Shape:
        """Raise: a shape that depends on values is not known here.

        Raises:
            DeviceError: always.
        """
        del array
        raise DeviceError("the null device has no values for a shape to depend on; use another device")
