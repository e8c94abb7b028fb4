"""`OpenCLBackend`: memory of OpenCL devices, and the table of kernels."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np

from plugrad import dtypes
from plugrad.backend.interface import Backend, Capabilities, DeviceInfo
from plugrad.backend.kernels import Kernel
from plugrad.dtypes import DType, as_dtype
from plugrad.graph.ir import Graph
from plugrad.spec import Device, Shape, Spec
from plugrad_opencl import _device, kernels
from plugrad_opencl._array import CLArray, as_host, empty, joined, side_by_side
from plugrad_opencl._device import CLDevice
from plugrad_opencl._generated import generate
from plugrad_opencl._memory import Block, Memory
from plugrad_opencl._recording import Recordings
from plugrad_opencl.kernels._run import contiguous

_FEW: Final = 1 << 16
"""Bytes up to which a copy costs less than what it would take to share them."""


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
        self._recordings: WeakKeyDictionary[Callable[..., Any], Recordings] = WeakKeyDictionary()
        self._capabilities = [
            Capabilities(
                dtypes=d.dtypes, broadcasting=True, scalars=True, placing=True, joining=True, generating=True
            )
            for d in self._found
        ]

    def devices(self) -> Sequence[DeviceInfo]:
        """The devices of all platforms."""
        return [DeviceInfo(d.description) for d in self._found]

    def capabilities(self, device: Device) -> Capabilities:
        """The dtypes of the device; elementwise kernels broadcast and take numbers; plans place arrays and join them."""
        return self._capabilities[device.index]

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
        """The elements, once they are computed: a copy; many, where the host sees the device's memory, as they lie there.

        Raises:
            IndexRangeError: if a kernel found an index out of range since the last read.
        """
        memory = array.memory
        seen = None if memory is None else memory.block.host
        if seen is None:
            array = contiguous(array)
            host = np.empty(array.shape, array.dtype.numpy)
            start = array.start * array.dtype.itemsize
            array.device.download(host.reshape(-1).view(np.uint8), array.memory, start)
            return host
        array.device.synchronize()
        if array.size * array.dtype.itemsize <= _FEW:
            return as_host(array, seen).copy()
        return as_host(array, np.asarray(_Seen(memory, seen)))

    def shape(self, array: CLArray) -> Shape:
        """The shape of the array."""
        return array.shape

    def generate(self, graph: Graph) -> Kernel | None:
        """A kernel of the templates of `plugrad.graph.source`."""
        return generate(graph)

    def synchronize(self, device: Device) -> None:
        """Wait for the queue.

        Raises:
            IndexRangeError: as `to_host`.
        """
        self._found[device.index].synchronize()

    def memory_stats(self, device: Device) -> dict[str, int]:
        """Bytes in use (``live``), kept for reuse (``pooled``), and the most that both came to (``peak``)."""
        return self._found[device.index].statistics()

    def layout(self, array: CLArray) -> tuple[CLDevice, Shape, DType, tuple[int, ...]] | None:
        """The device, shape, dtype and strides."""
        expected = 1
        for stride, size in sorted(zip(array.strides, array.shape, strict=True)):
            if size > 1:
                if stride != expected:
                    return None
                expected *= size
        return array.device, array.shape, array.dtype, array.strides

    def place(self, block: CLArray | None, layout: Any) -> CLArray:
        """An array of the strides of ``layout``, in the memory of ``block`` or of its own."""
        device, shape, dtype, strides = layout
        memory = empty(device, shape, dtype).memory if block is None else block.memory
        return CLArray(device, memory, dtype, shape, strides)

    def is_view(self, array: CLArray, of: CLArray) -> bool:
        """Whether they lie in the same memory."""
        return array.memory is not None and array.memory is of.memory

    def exclusive(self, arrays: Sequence[CLArray | None], references: Sequence[int]) -> bool:
        """Whether nothing else refers to the arrays and to their memory."""
        if any(a is None or a.memory is None for a in arrays):
            return False
        if not all(map(operator.le, map(sys.getrefcount, arrays), [r + _OWN for r in references])):
            return False
        return max(map(sys.getrefcount, map(_memory, arrays)), default=0) <= _OF_MEMORY

    def side_by_side(self, specs: Sequence[Spec]) -> Sequence[CLArray]:
        """Arrays that lie in one block."""
        device = self._found[specs[0].device.index]
        return side_by_side(device, [s.shape for s in specs], specs[0].dtype)

    def joined(self, arrays: Sequence[CLArray | None]) -> CLArray | None:
        """The row, where these are its parts."""
        return joined(arrays)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """The launches of an earlier call, where there was one with arrays of the same layouts (`Recordings`)."""
        inputs, targets = args
        first = next((a for a in (*inputs, *targets)), None)
        if first is None or first.device.local.recorder is not None:
            return function(inputs, targets)
        try:
            found = self._recordings[function]
        except KeyError:
            found = self._recordings[function] = Recordings(first.device)
        return found.run(function, inputs, targets)


class _Seen:
    """The bytes of memory, for an array of NumPy, which keeps the memory from being used again."""

    def __init__(self, memory: Memory | None, seen: np.ndarray[Any, Any]) -> None:
        self.memory = memory
        self.__array_interface__ = {**seen.__array_interface__, "data": (seen.ctypes.data, True)}


def _references() -> tuple[int, int]:
    """How many references `OpenCLBackend.exclusive` sees that it makes itself: to an array, and to its memory in all."""
    holder = [CLArray(None, Memory(Block(None, 0), None), dtypes.uint8, ())]  # type: ignore[arg-type]
    (array,) = map(sys.getrefcount, holder)
    (memory,) = map(sys.getrefcount, map(_memory, holder))
    return array - 1, memory


_memory = operator.attrgetter("memory")
_OWN, _OF_MEMORY = _references()
