"""`cupy.cuda`: devices, streams, memory, errors."""

from __future__ import annotations

import ctypes
import threading
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from cupy._log import told

DEVICES: Final = 2
MEMORY: Final = 4 << 30
"""Bytes of a device."""


class CUDARuntimeError(RuntimeError):
    """An error of the runtime."""


class CUDADriverError(RuntimeError):
    """An error of the driver."""


class OutOfMemoryError(MemoryError):
    """There is not that much memory."""


class CompileException(Exception):
    """A text does not compile."""


class _Current(threading.local):
    def __init__(self) -> None:
        self.devices = [0]
        self.streams: list[Stream] = []


_current: Final = _Current()


def on_stream(*entry: object) -> None:
    """Record what goes to the current stream."""
    if not _current.streams:
        raise AssertionError(f"{entry[0]} went to the default stream, in order with nothing")
    told(*entry, _current.streams[-1].device)


class Device:
    """A device, current within ``with``."""

    def __init__(self, index: int) -> None:
        if not 0 <= index < DEVICES:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.id = index

    def __enter__(self) -> Device:
        _current.devices.append(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        _current.devices.pop()


class Stream:
    """A stream, current within ``with``."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.non_blocking = non_blocking
        self.device = _current.devices[-1]

    def __enter__(self) -> Stream:
        if _current.devices[-1] != self.device:
            raise CUDARuntimeError("cudaErrorInvalidResourceHandle: the stream is another device's")
        _current.streams.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.streams.pop()

    def synchronize(self) -> None:
        """Kernels are done when they were launched."""
        told("synchronize", self.device)


class _Memory:
    def __init__(self, pool: MemoryPool, nbytes: int, device: int) -> None:
        self.pool, self.nbytes, self.device = pool, nbytes, device
        # What nobody wrote is not 0.
        self.array = np.full(nbytes, 0xA5, np.uint8)

    def __del__(self) -> None:
        self.pool.live -= self.nbytes
        self.pool.kept += self.nbytes


class UnownedMemory:
    """Memory that belongs to somebody else."""

    def __init__(self, ptr: int, size: int, owner: object) -> None:
        del owner
        self.array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(ptr))


class MemoryPointer:
    """A place in memory."""

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.offset = mem, offset

    @property
    def ptr(self) -> int:
        """The address."""
        return int(self.mem.array.ctypes.data) + self.offset

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.offset + offset)

    def copy_from_host_async(self, mem: Any, size: int, stream: Stream) -> None:
        """Copy to the device."""
        told("copy", size, stream.device)
        host = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(mem.value))
        self.mem.array[self.offset : self.offset + size] = host

    def copy_to_host_async(self, mem: Any, size: int, stream: Stream) -> None:
        """Copy to the host."""
        told("copy", size, stream.device)
        host = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(mem.value))
        host[...] = self.mem.array[self.offset : self.offset + size]


class MemoryPool:
    """Memory that is kept for reuse."""

    def __init__(self) -> None:
        self.live = self.kept = 0

    def malloc(self, size: int) -> MemoryPointer:
        """Memory on the current device, by units of 512 bytes."""
        size = -(-size // 512) * 512
        if self.live + self.kept + size > MEMORY:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        self.live += size
        self.kept = max(self.kept - size, 0)
        told("allocate", size, _current.devices[-1])
        return MemoryPointer(_Memory(self, size, _current.devices[-1]), 0)

    def used_bytes(self) -> int:
        """Bytes in use."""
        return self.live

    def total_bytes(self) -> int:
        """Bytes in use and kept."""
        return self.live + self.kept

    def free_all_blocks(self) -> None:
        """Give back what is kept."""
        self.kept = 0


def _properties(index: int) -> dict[str, Any]:
    Device(index)
    return {"name": b"Stand-in", "major": 9, "minor": 0, "totalGlobalMem": MEMORY}


runtime: Final = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDeviceCount=lambda: DEVICES,
    getDeviceProperties=_properties,
    driverGetVersion=lambda: 13000,
    runtimeGetVersion=lambda: 13000,
    memGetInfo=lambda: (MEMORY, MEMORY),
)
driver: Final = SimpleNamespace(CUDADriverError=CUDADriverError)
compiler: Final = SimpleNamespace(CompileException=CompileException)
memory: Final = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
