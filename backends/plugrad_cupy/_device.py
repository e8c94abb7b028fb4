"""`CUDADevice`: a CUDA device through CuPy, with its stream, its memory and its compiled kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import cupy
import numpy as np

from plugrad.dtypes import DType
from plugrad.errors import BackendUnavailable, DeviceError
from plugrad.generated import Block, GeneratedDevice, Memory
from plugrad.graph.source import Source
from plugrad_cupy._dialect import CUDA_C, TYPES
from plugrad_cupy._library import LibraryCall

_OPTIONS: Final = ("--std=c++17",)

_GROUPS: Final = 2**31 - 1
"""Groups of a launch at most, and (below) threads of one (CUDA C++ Programming Guide, technical specifications)."""

_THREADS: Final = 1024

_ERRORS: Final = (
    cupy.cuda.runtime.CUDARuntimeError,
    cupy.cuda.driver.CUDADriverError,
    cupy.cuda.compiler.CompileException,
)


class CUDADevice(GeneratedDevice):
    """A CUDA device with one stream, which all threads share, and a memory pool of its own.

    The stream is not the default one, which waits for every other.

    Attributes:
        index: CUDA's index of the device.
        stream: the stream.
    """

    dialect = CUDA_C

    def __init__(self, index: int) -> None:
        """Compile and run a kernel on the device.

        Raises:
            DeviceError: if that does not work, with what CUDA said.
        """
        self.index = index
        self._functions: dict[Source, Any] = {}
        try:
            properties = cupy.cuda.runtime.getDeviceProperties(index)
            runtime, driver = cupy.cuda.runtime.runtimeGetVersion(), cupy.cuda.runtime.driverGetVersion()
            memory = int(properties["totalGlobalMem"])
            super().__init__(
                f"cupy:{index}",
                f"{properties['name'].decode()}, compute capability {properties['major']}.{properties['minor']}, "
                f"CUDA {_version(runtime)}, driver of CUDA {_version(driver)}",
                frozenset(TYPES),
                limit=memory,
                largest=memory,
            )
            self.handle = cupy.cuda.Device(index)
            with self.handle:
                self.stream = cupy.cuda.Stream(non_blocking=True)
                self._blocks = cupy.cuda.MemoryPool()
            self.probe()
        except _ERRORS as error:
            raise DeviceError(f"a probe kernel fails: {_first_line(error)}") from error

    def block(self, size: int) -> Block:
        """A block of CuPy's memory."""
        try:
            with self.handle, self.stream:
                return Block(self._blocks.malloc(size), size)
        except cupy.cuda.memory.OutOfMemoryError as error:
            raise MemoryError from error

    def trim(self) -> None:
        """Give what CuPy keeps back to CUDA."""
        with self.handle:
            self._blocks.free_all_blocks()

    def write(self, memory: Memory, host: np.ndarray[Any, Any]) -> None:
        """Copy bytes to the device."""
        with self.handle:
            memory.buffer.copy_from_host_async(ctypes.c_void_p(host.ctypes.data), host.nbytes, self.stream)
            self.stream.synchronize()

    def read(self, host: np.ndarray[Any, Any], memory: Memory, offset: int) -> None:
        """Copy bytes to the host."""
        with self.handle:
            place = memory.buffer + offset
            place.copy_to_host_async(ctypes.c_void_p(host.ctypes.data), host.nbytes, self.stream)
            self.stream.synchronize()

    def wait(self) -> None:
        """Wait until the stream is empty."""
        self.stream.synchronize()

    def enqueue(
        self, source: Source, size: tuple[int, ...], group: tuple[int, ...], arguments: Sequence[Any]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Put a kernel into the stream."""
        buffers = [a.buffer if isinstance(a, Memory) else a for a in arguments]
        self.put([self.prepared(source, size, group, buffers)])
        return size, group

    def prepared(
        self, source: Source, size: tuple[int, ...], group: tuple[int, ...], arguments: Sequence[Any]
    ) -> Any:
        """A kernel, its grid, its threads and its arguments."""
        if group[0] > _THREADS:
            group = (_THREADS, *group[1:])
        if isinstance(source, LibraryCall):
            given = [
                _address(x) if kind is None else x for x, kind in zip(arguments, _kinds(source), strict=True)
            ]
            return source, (1,), (1,), given
        first, second, third = (*(-(-n // g) for n, g in zip(size, group, strict=True)), 1, 1)[:3]
        if first * second * third > _GROUPS:
            raise DeviceError(
                f"{self.name}: kernel {source.name!r} wants {first * second * third} groups of work-items, "
                f"and a launch has {_GROUPS} at most"
            )
        given = [
            _address(x) if kind is None else kind(x)
            for x, kind in zip((*arguments, first, second), _kinds(source), strict=True)
        ]
        return self._function(source), (first * second * third,), group, given

    def set_argument(self, launch: Any, index: int, buffer: Any) -> None:
        """Set the address of an argument."""
        launch[3][index] = _address(buffer)

    def put(self, launches: Sequence[Any]) -> None:
        """Put kernels into the stream."""
        try:
            with self.handle, self.stream:
                for function, grid, threads, arguments in launches:
                    function(grid, threads, tuple(arguments))
        except _ERRORS as error:
            raise DeviceError(f"{self.name}: a kernel does not start: {_first_line(error)}") from error

    def _function(self, source: Source) -> Any:
        """The kernel, compiled once; CuPy keeps binaries on disk by text, options and architecture."""
        if isinstance(source, LibraryCall):
            return source
        function = self._functions.get(source)
        if function is None:
            try:
                with self.handle:
                    module = cupy.RawModule(code=source.text, options=_OPTIONS)
                    function = self._functions[source] = module.get_function(source.name)
            except _ERRORS as error:
                raise DeviceError(
                    f"{self.name}: NVRTC does not build kernel {source.name!r}: {_complaint(error)}"
                ) from error
        return function


@cache
def _kinds(source: Source) -> tuple[Any, ...]:
    """What makes the numbers that a kernel takes; None for memory."""
    return tuple(p.numpy.type if isinstance(p, DType) else None for p in source.parameters)


def _address(buffer: Any) -> np.uint64:
    return np.uint64(0 if buffer is None else buffer.ptr)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _complaint(error: Exception) -> str:
    """What a compiler's log says of the first error in it."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "error" in line), _first_line(error))


@cache
def found() -> tuple[CUDADevice, ...]:
    """The devices, by CUDA's index.

    Raises:
        BackendUnavailable: if there is none, or one does not run a kernel, with the reason.
    """
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailable(
            f"CUDA finds no device: {_first_line(error)}; an NVIDIA driver must be installed, and no older than CUDA "
            f"{_version(cupy.cuda.runtime.runtimeGetVersion())}, which this CuPy was built for"
        ) from error
    if not count:
        raise BackendUnavailable("CUDA finds no device")
    try:
        return tuple(CUDADevice(i) for i in range(count))
    except DeviceError as error:
        raise BackendUnavailable(str(error)) from error
