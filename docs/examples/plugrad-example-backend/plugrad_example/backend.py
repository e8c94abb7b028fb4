"""`ExampleBackend`: memory, and the table of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plugrad.backend import Backend, Capabilities, DeviceInfo, KernelTable, hookimpl
from plugrad.dtypes import as_dtype
from plugrad.spec import Device, Shape, Spec
from plugrad_example import elementwise, movement, reduction
from plugrad_example.memory import CODES, Buffer, allocate


class ExampleBackend(Backend):
    """Plain Python: one synchronous device with memory of its own."""

    name = "example"

    def __init__(self) -> None:
        self.kernels = KernelTable()
        for family in (elementwise, reduction, movement):
            self.kernels.merge(family.kernels)

    def devices(self) -> Sequence[DeviceInfo]:
        """The interpreter."""
        return [DeviceInfo("plain Python, one element after the other")]

    def capabilities(self, device: Device) -> Capabilities:
        """Its dtypes and no more: the core hands elementwise kernels buffers of one shape."""
        del device
        return Capabilities(dtypes=frozenset(CODES))

    def allocate(self, spec: Spec) -> Buffer:
        """A buffer of zeros."""
        return allocate(spec.shape, spec.dtype)

    def from_host(self, value: np.ndarray[Any, Any], device: Device) -> Buffer:
        """A copy of ``value``."""
        del device
        buffer = allocate(value.shape, as_dtype(value.dtype))
        _on_host(buffer)[...] = value
        return buffer

    def to_host(self, array: Buffer) -> np.ndarray[Any, Any]:
        """A copy of the elements."""
        return _on_host(array).copy()

    def shape(self, array: Buffer) -> Shape:
        """The shape of the buffer."""
        return array.shape


def _on_host(buffer: Buffer) -> np.ndarray[Any, Any]:
    """The memory of a buffer as an array of the host's. A driver would copy from here and to here."""
    return np.ndarray(buffer.shape, buffer.dtype.numpy, buffer.elements)


@hookimpl
def plugrad_create_backend() -> ExampleBackend:
    """Create the backend."""
    return ExampleBackend()
