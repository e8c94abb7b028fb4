"""`CLDevice`: an OpenCL device that was seen to work, with its queue and its compiled kernels."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

import numpy as np
import pyopencl as cl

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.errors import BackendUnavailable, DeviceError
from plugrad.generated.device import GeneratedDevice
from plugrad.generated.memory import Block, Memory
from plugrad.graph.source import Source
from plugrad_opencl import _cache
from plugrad_opencl._blocks import buffer_block, shared_block
from plugrad_opencl._dialect import OPENCL_C, TYPES

_INSTALL: Final = "install a driver: on Debian and Ubuntu `apt-get install pocl-opencl-icd` brings PoCL, which runs on any CPU"


class CLDevice(GeneratedDevice):
    """An OpenCL device with one queue, which all threads share and which is in order.

    Attributes:
        shared: the host sees its memory whenever the queue is empty.
        queue: the queue.
    """

    dialect = OPENCL_C

    def __init__(self, device: Any) -> None:
        """Compile and run a kernel on the device.

        Raises:
            DeviceError: if that does not work, with what the driver said.
        """
        platform = device.platform
        self.shared = _sees_memory(device)
        self._device = device
        self._programs: dict[Source, Any] = {}
        try:
            super().__init__(
                "opencl",
                f"{device.name.strip()}, {platform.name.strip()}, driver {device.driver_version.strip()}, "
                f"{device.version.strip()}",
                frozenset(d for d in TYPES if d is not dtypes.float64 or device.double_fp_config),
                limit=device.global_mem_size,
                largest=device.max_mem_alloc_size,
            )
            self._context = cl.Context([device])
            self.queue = cl.CommandQueue(self._context)
            self.probe()
        except cl.Error as error:
            raise DeviceError(f"a probe kernel fails: {_first_line(error)}") from error

    def block(self, size: int) -> Block:
        """A new buffer, or memory that the host shares."""
        try:
            if self.shared:
                return shared_block(self._context, self.queue, size)
            return buffer_block(self._context, size)
        except (cl.MemoryError, cl.RuntimeError) as error:
            raise MemoryError from error

    def write(self, memory: Memory, host: np.ndarray[Any, Any]) -> None:
        """Copy bytes to the device."""
        seen = memory.block.host
        if seen is None:
            cl.enqueue_copy(self.queue, memory.buffer, host, is_blocking=True)
        else:
            self.queue.finish()  # kernels may still work on what the block held before
            np.copyto(seen[: host.nbytes], host)

    def read(self, host: np.ndarray[Any, Any], memory: Memory, offset: int) -> None:
        """Copy bytes to the host."""
        seen = memory.block.host
        if seen is None:
            cl.enqueue_copy(self.queue, host, memory.buffer, src_offset=offset, is_blocking=True)
        else:
            self.queue.finish()
            np.copyto(host, seen[offset : offset + host.nbytes])

    def wait(self) -> None:
        """Wait until the queue is empty."""
        self.queue.finish()

    def enqueue(
        self, source: Source, size: tuple[int, ...], group: tuple[int, ...], arguments: Sequence[Any]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Put a kernel into the queue."""
        # Kernel objects are each thread's own, as their arguments are state.
        kernels = self.local.kernels
        entry = kernels.get(source)
        if entry is None:
            entry = kernels[source] = self._kernel(source)
        kernel, places, most = entry
        if group[0] > most:
            group = (most, *group[1:])
        whole = (-(-size[0] // group[0]) * group[0], *size[1:])
        given = [*arguments]
        for i in places:
            memory = given[i]
            if memory is not None:
                given[i] = memory.buffer
        try:
            kernel(self.queue, whole, group, *given)
        except cl.Error as error:
            raise self._cannot_start(source.name, whole, group, error) from error
        return whole, group

    def prepared(
        self, source: Source, size: tuple[int, ...], group: tuple[int, ...], arguments: Sequence[Any]
    ) -> Any:
        """A kernel object with its arguments, its work-items and those of a group."""
        kernel = cl.Kernel(self._program(source), source.name)
        for i, (argument, kind) in enumerate(zip(arguments, source.parameters, strict=True)):
            kernel.set_arg(i, kind.numpy.type(argument) if isinstance(kind, DType) else argument)
        return kernel, size, group

    def set_argument(self, launch: Any, index: int, buffer: Any) -> None:
        """Set an argument of the kernel object."""
        launch[0].set_arg(index, buffer)

    def put(self, launches: Sequence[Any]) -> None:
        """Put kernel objects into the queue."""
        enqueue, queue = cl.enqueue_nd_range_kernel, self.queue
        try:
            for kernel, size, group in launches:
                enqueue(queue, kernel, size, group)
        except cl.Error as error:
            raise self._cannot_start(kernel.function_name, size, group, error) from error

    def _program(self, source: Source) -> Any:
        """The program of a kernel; it is built once."""
        with self.lock:
            program = self._programs.get(source)
            if program is None:
                program = self._programs[source] = self._build(source)
        return program

    def _cannot_start(
        self, name: str, size: Sequence[int], group: Sequence[int], error: Exception
    ) -> DeviceError:
        """The error of a kernel that the driver does not put into the queue."""
        return DeviceError(
            f"{self.name}: kernel {name!r} of {math.prod(size)} work-items in groups of "
            f"{math.prod(group)} does not start: {_first_line(error)}"
        )

    def _kernel(self, source: Source) -> tuple[Any, tuple[int, ...], int]:
        """A kernel object, where the memory stands among its arguments, and its largest group."""
        kernel = cl.Kernel(self._program(source), source.name)
        kernel.set_scalar_arg_dtypes([p.numpy if isinstance(p, DType) else None for p in source.parameters])
        of_group = cl.kernel_work_group_info
        needed = kernel.get_work_group_info(of_group.LOCAL_MEM_SIZE, self._device)
        if needed > self._device.local_mem_size:
            raise DeviceError(
                f"{self.name}: kernel {source.name!r} needs {needed} bytes of local memory, and the device has "
                f"{self._device.local_mem_size}"
            )
        most = kernel.get_work_group_info(of_group.WORK_GROUP_SIZE, self._device)
        places = tuple(i for i, p in enumerate(source.parameters) if not isinstance(p, DType))
        return kernel, places, most

    def _build(self, source: Source) -> Any:
        key = hashlib.sha256(f"{self.description}\n{source.text}".encode()).hexdigest()
        stored = _cache.load(key)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a remark of the compiler is no warning of the user's program
            if stored is not None:
                with suppress(cl.Error):  # a binary that the driver refuses is made anew
                    return self._from_binary(stored)
            try:
                program = cl.Program(self._context, source.text).build()
            except cl.Error as error:
                raise DeviceError(
                    f"{self.name}: the driver does not build kernel {source.name!r}: {_complaint(error)}"
                ) from error
            (binary,) = program.get_info(cl.program_info.BINARIES)
            _cache.store(key, binary)
            _cache.compiled()
            # What the driver makes of the binary later is found again when the binary is.
            return self._from_binary(binary)

    def _from_binary(self, binary: bytes) -> Any:
        return cl.Program(self._context, [self._device], [binary]).build()


def _sees_memory(device: Any) -> bool:
    """Whether host and device share memory that both may touch without maps, and it is the same memory."""
    if not device.host_unified_memory:
        return False
    try:
        able = device.svm_capabilities
    except (AttributeError, cl.Error):
        return False
    return bool(able & cl.device_svm_capabilities.FINE_GRAIN_BUFFER)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _complaint(error: Exception) -> str:
    """What a compiler's log says of the first error in it."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "error:" in line), _first_line(error))


@cache
def found() -> tuple[CLDevice, ...]:
    """The devices of all platforms that compile and run a kernel, in the order that OpenCL lists them.

    Raises:
        BackendUnavailable: if there is none, with the reason and the fix.
    """
    _cache.prepare()
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        raise BackendUnavailable(f"no OpenCL platform is found ({_first_line(error)}); {_INSTALL}") from error
    devices: list[CLDevice] = []
    failures: list[str] = []
    for platform in platforms:
        try:
            listed = platform.get_devices()
        except cl.Error as error:
            failures.append(f"{platform.name.strip()}: {_first_line(error)}")
            continue
        for handle in listed:
            try:
                device = CLDevice(handle)
            except DeviceError as error:
                failures.append(f"{handle.name.strip()} of {platform.name.strip()}: {error}")
                continue
            device.name = f"opencl:{len(devices)}"
            devices.append(device)
    if not devices:
        reason = "; ".join(failures) if failures else "no OpenCL platform has a device"
        raise BackendUnavailable(f"{reason}; {_INSTALL}")
    return tuple(devices)
