"""`CLDevice`: an OpenCL device that was seen to work, with its queue, its memory and its compiled kernels."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import pyopencl as cl
from pyopencl.tools import ImmediateAllocator, MemoryPool

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.errors import BackendUnavailable, DeviceError, IndexRangeError
from plugrad.graph.source import Source
from plugrad.graph.source.dialect import MEMORY
from plugrad_opencl._dialect import TYPES

_PROBE: Final = "__kernel void probe(__global int *x) { x[get_global_id(0)] += 1; }"
_INSTALL: Final = "install a driver: on Debian and Ubuntu `apt-get install pocl-opencl-icd` brings PoCL, which runs on any CPU"
_forked = False


class CLDevice:
    """An OpenCL device. The queue is in order, so that memory which is given back may be given out again at once.

    Attributes:
        index: plugrad's index of the device.
        description: platform, device, driver and version.
        dtypes: what it stores and computes.
        on_host: its memory is the host's, as a CPU's is.
        queue: the queue that all threads share. Kernel objects are each thread's own, as their arguments are state.
    """

    def __init__(self, device: Any) -> None:
        """Compile and run a kernel on the device.

        Raises:
            DeviceError: if that does not work, with what the driver said.
        """
        self.index = 0
        platform = device.platform
        self.description = (
            f"{device.name.strip()}, {platform.name.strip()}, driver {device.driver_version.strip()}, "
            f"{device.version.strip()}"
        )
        self.on_host = bool(device.host_unified_memory)
        self.dtypes = frozenset(d for d in TYPES if d is not dtypes.float64 or device.double_fp_config)
        self._largest: int = device.max_mem_alloc_size
        self._group: int = device.max_work_group_size
        try:
            self._context = cl.Context([device])
            self.queue = cl.CommandQueue(self._context)
            self._pool = MemoryPool(ImmediateAllocator(self.queue))
            self._programs: dict[Source, Any] = {}
            self._lock = threading.Lock()
            self._local = threading.local()
            self._sites: dict[tuple[str, int, int], int] = {}
            self._armed = False
            self.claim = cl.Buffer(self._context, cl.mem_flags.READ_WRITE, 4)
            self.report = cl.Buffer(self._context, cl.mem_flags.READ_WRITE, 8)
            self._write(self.claim, np.zeros(1, np.int32))
            probe = np.arange(2, dtype=np.int32)
            buffer = self.allocate(probe.nbytes)
            self._write(buffer, probe)
            self.launch(Source("probe", _PROBE, (MEMORY,)), (2,), (1,), (buffer,))
            self._read(probe, buffer)
            if probe.tolist() != [1, 2]:
                raise DeviceError(f"a probe kernel computed {probe.tolist()} in place of [1, 2]")
        except cl.Error as error:
            raise DeviceError(f"a probe kernel fails: {_first_line(error)}") from error

    def allocate(self, nbytes: int) -> Any:
        """Memory of at least this size, its contents unspecified; None for 0 bytes.

        Raises:
            DeviceError: if there is not that much, even after the pool was emptied.
        """
        _alive()
        if not nbytes:
            return None
        if nbytes > self._largest:
            raise DeviceError(
                f"opencl:{self.index}: {nbytes} bytes are asked, and one array of this device has at most {self._largest}"
            )
        try:
            return self._pool.allocate(nbytes)
        except (cl.MemoryError, cl.RuntimeError, MemoryError):
            self.queue.finish()
            gc.collect()
            self._pool.free_held()
        try:
            return self._pool.allocate(nbytes)
        except (cl.MemoryError, cl.RuntimeError, MemoryError) as error:
            raise DeviceError(
                f"opencl:{self.index}: out of memory: {nbytes} bytes are asked while {self._pool.active_bytes} are in use"
            ) from error

    def upload(self, host: np.ndarray[Any, Any]) -> Any:
        """New memory with the bytes of a contiguous array, which may be reused afterwards."""
        memory = self.allocate(host.nbytes)
        if memory is not None:
            self._write(memory, host)
        return memory

    def download(self, host: np.ndarray[Any, Any], memory: Any, offset: int) -> None:
        """Fill a contiguous array with the bytes of ``memory`` from an offset in bytes on, once they are computed.

        Raises:
            IndexRangeError: if a kernel found an index out of range since the last download or synchronise.
        """
        _alive()
        if memory is not None and host.nbytes:
            self._read(host, memory, offset)
        self.check()

    def synchronize(self) -> None:
        """Wait until the queue is empty.

        Raises:
            IndexRangeError: as `download`.
        """
        _alive()
        self.queue.finish()
        self.check()

    def launch(
        self,
        source: Source,
        size: Sequence[int],
        group: Sequence[int],
        arguments: Sequence[Any],
        checks: bool = False,
    ) -> None:
        """Put a kernel into the queue.

        Args:
            source: the kernel.
            size: work-items along each axis, none 0; along the first axis brought to a multiple of ``group``.
            group: work-items of a group along each axis.
            arguments: memory and numbers, as ``source.parameters`` says.
            checks: whether it may report an index.
        """
        _alive()
        kernels = self._kernels()
        kernel = kernels.get(source)
        if kernel is None:
            kernel = kernels[source] = self._kernel(source)
        if group[0] > self._group:
            group = (self._group, *group[1:])
        whole = (-(-size[0] // group[0]) * group[0], *size[1:])
        kernel(self.queue, whole, group, *arguments)
        if checks:
            self._armed = (
                True  # after the kernel is in the queue: a check by another thread may come at any time
            )

    def site(self, name: str, axis: int, size: int) -> int:
        """A number by which a kernel reports an index that is out of range for an axis of an op's operand."""
        with self._lock:
            return self._sites.setdefault((name, axis, size), len(self._sites) + 1)

    def check(self) -> None:
        """Raise what kernels in the queue reported; the thread that asks first is told, whichever launched them.

        Raises:
            IndexRangeError: if an index was out of range.
        """
        if not self._armed:
            return
        with self._lock:
            self._armed = False
            claim, report = np.zeros(1, np.int32), np.zeros(1, np.int64)
            self._read(claim, self.claim)
            if not claim[0]:
                return
            self._read(report, self.report)
            self._write(self.claim, np.zeros(1, np.int32))
            name, axis, size = next(k for k, v in self._sites.items() if v == claim[0])
        raise IndexRangeError(f"{name}: index {report[0]} is out of range for axis {axis} of size {size}")

    def statistics(self) -> dict[str, int]:
        """Bytes in use and bytes kept for reuse."""
        live = int(self._pool.active_bytes)
        return {"live": live, "pooled": int(self._pool.managed_bytes) - live}

    def _kernels(self) -> dict[Source, Any]:
        """The kernel objects of this thread."""
        try:
            kernels: dict[Source, Any] = self._local.kernels
        except AttributeError:
            kernels = self._local.kernels = {}
        return kernels

    def _kernel(self, source: Source) -> Any:
        """A kernel object for this thread; its program is built once."""
        with self._lock:
            program = self._programs.get(source)
            if program is None:
                program = self._programs[source] = self._build(source)
        kernel = cl.Kernel(program, source.name)
        kernel.set_scalar_arg_dtypes([p.numpy if isinstance(p, DType) else None for p in source.parameters])
        return kernel

    def _build(self, source: Source) -> Any:
        # pyopencl keeps binaries by source, device and driver, and builds anew what it cannot read; PoCL does so itself.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a remark of the compiler is no warning of the user's program
            try:
                return cl.Program(self._context, source.text).build()
            except cl.Error as error:
                raise DeviceError(
                    f"opencl:{self.index}: the driver does not build kernel {source.name!r}: {_complaint(error)}"
                ) from error

    def _write(self, memory: Any, host: np.ndarray[Any, Any]) -> None:
        cl.enqueue_copy(self.queue, memory, host, is_blocking=True)

    def _read(self, host: np.ndarray[Any, Any], memory: Any, offset: int = 0) -> None:
        cl.enqueue_copy(self.queue, host, memory, src_offset=offset, is_blocking=True)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _complaint(error: Exception) -> str:
    """What a compiler's log says of the first error in it."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "error:" in line), _first_line(error))


def _mark() -> None:
    global _forked
    _forked = True


def _alive() -> None:
    """Raise in a child of a process that uses OpenCL already: its drivers' threads are not there, and it would hang."""
    if _forked:
        raise DeviceError(
            "OpenCL cannot be used in a forked process whose parent used it; "
            "start processes with multiprocessing.get_context('spawn')"
        )


@cache
def found() -> tuple[CLDevice, ...]:
    """The devices of all platforms that compile and run a kernel, in the order that OpenCL lists them.

    Raises:
        BackendUnavailable: if there is none, with the reason and the fix.
    """
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
            device.index = len(devices)
            devices.append(device)
    if not devices:
        reason = "; ".join(failures) if failures else "no OpenCL platform has a device"
        raise BackendUnavailable(f"{reason}; {_INSTALL}")
    os.register_at_fork(after_in_child=_mark)
    return tuple(devices)
