"""`GeneratedBackend`: the backend of devices that run generated kernels."""

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
from plugrad.generated import kernels
from plugrad.generated.array import StridedArray, as_host, empty, joined, side_by_side
from plugrad.generated.device import GeneratedDevice
from plugrad.generated.fusing import generate
from plugrad.generated.kernels._run import contiguous
from plugrad.generated.memory import Block, Memory
from plugrad.generated.recording import Recordings
from plugrad.graph.ir import Graph
from plugrad.spec import Device, Shape, Spec

_FEW: Final = 1 << 16
"""Bytes up to which a copy costs less than what it would take to share them."""


class GeneratedBackend(Backend):
    """A backend whose kernels are made of the templates of `plugrad.graph.source`.

    Kernels are given to a device one after the other, and calls return at once. An index from a tensor that is out of range
    is found by the kernel, which then reads and writes nothing there; the next read or `synchronize` raises.

    Attributes:
        kernels: the generated ones; a class that has better ones states a table of its own and merges this one into it.
        found: the devices, by index.
    """

    kernels = kernels.table

    def __init__(self, found: Sequence[GeneratedDevice]) -> None:
        self.found = found
        self._recordings: WeakKeyDictionary[Callable[..., Any], Recordings] = WeakKeyDictionary()
        self._capabilities = [
            Capabilities(
                dtypes=d.dtypes, broadcasting=True, scalars=True, placing=True, joining=True, generating=True
            )
            for d in self.found
        ]

    def devices(self) -> Sequence[DeviceInfo]:
        """The devices, by index."""
        return [DeviceInfo(d.description) for d in self.found]

    def capabilities(self, device: Device) -> Capabilities:
        """The dtypes of the device; elementwise kernels broadcast and take numbers; plans place arrays and join them."""
        return self._capabilities[device.index]

    def allocate(self, spec: Spec) -> StridedArray:
        """Memory of the pool."""
        return empty(self.found[spec.device.index], spec.shape, spec.dtype)

    def from_host(self, value: np.ndarray[Any, Any], device: Device) -> StridedArray:
        """A copy of ``value``, in row-major order."""
        there = self.found[device.index]
        host = np.asarray(value, order="C")
        return StridedArray(
            there, there.upload(host.reshape(-1).view(np.uint8)), as_dtype(value.dtype), value.shape
        )

    def to_host(self, array: StridedArray) -> np.ndarray[Any, Any]:
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

    def shape(self, array: StridedArray) -> Shape:
        """The shape of the array."""
        return array.shape

    def generate(self, graph: Graph) -> Kernel | None:
        """A kernel of the templates of `plugrad.graph.source`."""
        device = graph.device
        return None if device is None else generate(graph, self.found[device.index].dialect)

    def synchronize(self, device: Device) -> None:
        """Wait for the queue.

        Raises:
            IndexRangeError: as `to_host`.
        """
        self.found[device.index].synchronize()

    def memory_stats(self, device: Device) -> dict[str, int]:
        """Bytes in use (``live``), kept for reuse (``pooled``), and the most that both came to (``peak``)."""
        return self.found[device.index].statistics()

    def layout(self, array: StridedArray) -> tuple[GeneratedDevice, Shape, DType, tuple[int, ...]] | None:
        """The device, shape, dtype and strides."""
        expected = 1
        for stride, size in sorted(zip(array.strides, array.shape, strict=True)):
            if size > 1:
                if stride != expected:
                    return None
                expected *= size
        return array.device, array.shape, array.dtype, array.strides

    def place(self, block: StridedArray | None, layout: Any) -> StridedArray:
        """An array of the strides of ``layout``, in the memory of ``block`` or of its own."""
        device, shape, dtype, strides = layout
        memory = empty(device, shape, dtype).memory if block is None else block.memory
        return StridedArray(device, memory, dtype, shape, strides)

    def is_view(self, array: StridedArray, of: StridedArray) -> bool:
        """Whether they lie in the same memory."""
        return array.memory is not None and array.memory is of.memory

    def exclusive(self, arrays: Sequence[StridedArray | None], references: Sequence[int]) -> bool:
        """Whether nothing else refers to the arrays and to their memory."""
        if any(a is None or a.memory is None for a in arrays):
            return False
        if not all(map(operator.le, map(sys.getrefcount, arrays), [r + _OWN for r in references])):
            return False
        return max(map(sys.getrefcount, map(_memory, arrays)), default=0) <= _OF_MEMORY

    def side_by_side(self, specs: Sequence[Spec]) -> Sequence[StridedArray]:
        """Arrays that lie in one block."""
        device = self.found[specs[0].device.index]
        return side_by_side(device, [s.shape for s in specs], specs[0].dtype)

    def joined(self, arrays: Sequence[StridedArray | None]) -> StridedArray | None:
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
    """How many references `GeneratedBackend.exclusive` sees that it makes itself: to an array, and to its memory in all."""
    holder = [StridedArray(None, Memory(Block(None, 0), None), dtypes.uint8, ())]  # type: ignore[arg-type]
    (array,) = map(sys.getrefcount, holder)
    (memory,) = map(sys.getrefcount, map(_memory, holder))
    return array - 1, memory


_memory = operator.attrgetter("memory")
_OWN, _OF_MEMORY = _references()
