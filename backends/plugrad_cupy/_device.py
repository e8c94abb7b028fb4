"""`CUDADevice`: a CUDA device through CuPy, with its stream, its memory and its compiled kernels."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import cupy
import numpy as np

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.errors import BackendUnavailable, DeviceError
from plugrad.generated.device import GeneratedDevice
from plugrad.graph.source import Source
from plugrad.graph.source.dialect import MEMORY
from plugrad_cupy._dialect import CUDA_C, TYPES

_PROBE: Final = 'extern "C" __global__ void probe(int *x, long long, long long) { x[blockIdx.x * blockDim.x + threadIdx.x] += 1; }'
_OPTIONS: Final = ("--std=c++17",)
_GROUPS: Final = 2**31 - 1
"""Groups of a launch at most (CUDA C++ Programming Guide, technical specifications)."""

_forked = False


class CUDADevice(GeneratedDevice):
    """A CUDA device. All that it is given goes to one stream, in order.

    The stream is not the default one, which would wait for every other. Memory is of a pool of this device alone.

    Attributes:
        index: CUDA's index of the device.
        stream: the stream, which all threads share.
    """

    dialect = CUDA_C

    def __init__(self, index: int) -> None:
        """Compile and run a kernel on the device.

        Raises:
            DeviceError: if that does not work, with what CUDA said.
        """
        self.index = index
        self.name = f"cupy:{index}"
        self.dtypes = frozenset(TYPES)
        self._functions: dict[Source, Any] = {}
        try:
            properties = cupy.cuda.runtime.getDeviceProperties(index)
            driver, runtime = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
            self.description = (
                f"{properties['name'].decode()}, compute capability {properties['major']}.{properties['minor']}, "
                f"CUDA {_version(runtime)}, driver for CUDA {_version(driver)}"
            )
            with cupy.cuda.Device(index):
                self.stream = cupy.cuda.Stream(non_blocking=True)
                self._pool = cupy.cuda.MemoryPool()
            self.prepare()
            probe = np.arange(2, dtype=np.int32)
            memory = self.upload(probe.view(np.uint8))
            self.enqueue(Source("probe", _PROBE, (MEMORY, dtypes.int64, dtypes.int64)), (2,), (2,), (memory,))
            self.read(probe.view(np.uint8), memory, 0)
        except _ERRORS as error:
            raise DeviceError(f"a probe kernel fails: {_first_line(error)}") from error
        if probe.tolist() != [1, 2]:
            raise DeviceError(f"a probe kernel computed {probe.tolist()} in place of [1, 2]")

    def allocate(self, nbytes: int) -> Any:
        """Memory of at least this size, its contents unspecified; None for 0 bytes.

        Raises:
            DeviceError: if there is not that much, even after the pool was emptied.
        """
        _alive()
        if not nbytes:
            return None
        with cupy.cuda.Device(self.index), self.stream:
            try:
                return self._pool.malloc(nbytes)
            except cupy.cuda.memory.OutOfMemoryError:
                self.stream.synchronize()
                gc.collect()
                self._pool.free_all_blocks()
            try:
                return self._pool.malloc(nbytes)
            except cupy.cuda.memory.OutOfMemoryError as error:
                free, total = cupy.cuda.runtime.memGetInfo()
                raise DeviceError(
                    f"{self.name}: out of memory: {nbytes} bytes are asked while {self._pool.used_bytes()} are in use "
                    f"here and {free} of {total} are free"
                ) from error

    def write(self, memory: Any, host: np.ndarray[Any, Any]) -> None:
        """Copy a contiguous array of bytes to the beginning of ``memory``."""
        _alive()
        with cupy.cuda.Device(self.index):
            memory.copy_from_host_async(ctypes.c_void_p(host.ctypes.data), host.nbytes, self.stream)
            self.stream.synchronize()

    def read(self, host: np.ndarray[Any, Any], memory: Any, offset: int) -> None:
        """Fill a contiguous array of bytes from an offset of ``memory`` on."""
        _alive()
        with cupy.cuda.Device(self.index):
            (memory + offset).copy_to_host_async(ctypes.c_void_p(host.ctypes.data), host.nbytes, self.stream)
            self.stream.synchronize()

    def wait(self) -> None:
        """Wait until the stream is empty."""
        _alive()
        self.stream.synchronize()

    def enqueue(
        self, source: Source, size: Sequence[int], group: Sequence[int], arguments: Sequence[Any]
    ) -> None:
        """Put a kernel into the stream."""
        _alive()
        groups = [-(-n // g) for n, g in zip(size, group, strict=True)] + [1, 1]
        first, second, third = groups[:3]
        if first * second * third > _GROUPS:
            raise DeviceError(
                f"{self.name}: kernel {source.name!r} wants {first * second * third} groups of work-items, "
                f"and a launch has {_GROUPS} at most"
            )
        given = tuple(
            _place(x) if kind is None else kind(x)
            for x, kind in zip((*arguments, first, second), _kinds(source), strict=True)
        )
        with cupy.cuda.Device(self.index), self.stream:
            function = self._functions.get(source)
            if function is None:
                function = self._functions[source] = self._build(source)
            function((first * second * third,), tuple(group), given)

    def statistics(self) -> dict[str, int]:
        """Bytes in use and bytes kept for reuse."""
        live = int(self._pool.used_bytes())
        return {"live": live, "pooled": int(self._pool.total_bytes()) - live}

    def _build(self, source: Source) -> Any:
        # CuPy keeps binaries on disk by text, options and architecture.
        try:
            return cupy.RawModule(code=source.text, options=_OPTIONS).get_function(source.name)
        except _ERRORS as error:
            raise DeviceError(
                f"{self.name}: NVRTC does not build kernel {source.name!r}: {_complaint(error)}"
            ) from error


_ERRORS: Final = (
    cupy.cuda.runtime.CUDARuntimeError,
    cupy.cuda.driver.CUDADriverError,
    cupy.cuda.compiler.CompileException,
)


@cache
def _kinds(source: Source) -> tuple[Any, ...]:
    """What makes the numbers that a kernel takes; None for memory."""
    return tuple(p.numpy.type if isinstance(p, DType) else None for p in source.parameters)


def _place(memory: Any) -> Any:
    """Memory as a launch takes it: by its address."""
    return np.uint64(0 if memory is None else memory.ptr)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _complaint(error: Exception) -> str:
    """What a compiler's log says of the first error in it."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "error" in line), _first_line(error))


def _mark() -> None:
    global _forked
    _forked = True


def _alive() -> None:
    """Raise in a child of a process that uses CUDA already: it has no context there."""
    if _forked:
        raise DeviceError(
            "CUDA cannot be used in a forked process whose parent used it; "
            "start processes with multiprocessing.get_context('spawn')"
        )


@cache
def found() -> tuple[CUDADevice, ...]:
    """The devices, by CUDA's index; where one does not compile and run a kernel, none.

    Raises:
        BackendUnavailable: if there is none, with the reason.
    """
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailable(f"CUDA finds no device: {_first_line(error)}") from error
    if not count:
        raise BackendUnavailable("CUDA finds no device")
    try:
        devices = tuple(CUDADevice(i) for i in range(count))
    except DeviceError as error:
        raise BackendUnavailable(str(error)) from error
    os.register_at_fork(after_in_child=_mark)
    return devices
