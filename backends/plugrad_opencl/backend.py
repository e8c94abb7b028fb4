"""`OpenCLBackend`: memory of OpenCL devices, and the table of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plugrad.backend.interface import Backend, Capabilities, DeviceInfo
from plugrad.dtypes import as_dtype
from plugrad.spec import Device, Shape, Spec
from plugrad_opencl import _device, kernels
from plugrad_opencl._array import CLArray, empty
from plugrad_opencl.kernels._run import contiguous


class OpenCLBackend(Backend):
    """All OpenCL devices of the machine that compile and run a kernel.

    Kernels are put into one queue for each device and return at once. An index from a tensor that is out of range is
    found by the kernel, which then reads and writes nothing there; the next read or `synchronize` raises.

    Raises:
        BackendUnavailable: if there is no device that works, with the reason.
    """

    name = "opencl"
    kernels = kernels.table

    def __init__(self) -> None:
        self._found = _device.found()

    def devices(self) -> Sequence[DeviceInfo]:
        """The devices of all platforms."""
        return [DeviceInfo(d.description) for d in self._found]

    def capabilities(self, device: Device) -> Capabilities:
        """The dtypes of the device; elementwise kernels broadcast and take numbers."""
        return Capabilities(dtypes=self._found[device.index].dtypes, broadcasting=True, scalars=True)

    def allocate(self, spec: Spec) -> CLArray:
        """Memory of the pool."""
        return empty(self._found[spec.device.index], spec.shape, spec.dtype)

    def from_host(self, value: np.ndarray[Any, Any], device: Device) -> CLArray:
        """A copy of ``value``, in row-major order."""
        there = self._found[device.index]
        host = np.asarray(value, order="C")
        return CLArray(
            there, there.upload(host.reshape(-1).view(np.uint8)), as_dtype(value.dtype), value.shape
        )

    def to_host(self, array: CLArray) -> np.ndarray[Any, Any]:
        """A copy of the elements, once they are computed.

        Raises:
            IndexRangeError: if a kernel found an index out of range since the last read.
        """
        array = contiguous(array)
        host = np.empty(array.shape, array.dtype.numpy)
        itemsize = array.dtype.itemsize
        array.device.download(host.reshape(-1).view(np.uint8), array.memory, array.start * itemsize)
        return host

    def shape(self, array: CLArray) -> Shape:
        """The shape of the array."""
        return array.shape

    def synchronize(self, device: Device) -> None:
        """Wait for the queue.

        Raises:
            IndexRangeError: as `to_host`.
        """
        self._found[device.index].synchronize()

    def memory_stats(self, device: Device) -> dict[str, int]:
        """Bytes in use (``live``) and kept for reuse (``pooled``)."""
        return self._found[device.index].statistics()
