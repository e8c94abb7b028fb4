"""`CLDevice`: an OpenCL device that was seen to work, with its queue, its memory and its compiled kernels."""

from __future__ import annotations

import gc
import hashlib
import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final

import numpy as np
import pyopencl as cl

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.errors import BackendUnavailable, DeviceError, IndexRangeError
from plugrad.graph.source import Source
from plugrad.graph.source.dialect import MEMORY
from plugrad_opencl import _cache
from plugrad_opencl._dialect import TYPES
from plugrad_opencl._memory import Block, Memory, Pool, Supply, rounded
from plugrad_opencl._recorder import Recorder

_PROBE: Final = "__kernel void probe(__global int *x) { x[get_global_id(0)] += 1; }"
_INSTALL: Final = "install a driver: on Debian and Ubuntu `apt-get install pocl-opencl-icd` brings PoCL, which runs on any CPU"
_forked = False


class _Local(threading.local):
    """What each thread has to itself.

    Attributes:
        kernels: its kernel objects, as their arguments are state; each with the places of the memory among its
            arguments, and the most work-items of a group.
        recorder: what notes its launches now, if anything does.
    """

    def __init__(self) -> None:
        self.kernels: dict[Source, tuple[Any, tuple[int, ...], int]] = {}
        self.recorder: Recorder | None = None


class CLDevice:
    """An OpenCL device. The queue is in order, so that memory which is given back may be given out again at once.

    Attributes:
        index: plugrad's index of the device.
        description: platform, device, driver and version.
        dtypes: what it stores and computes.
        shared: the host sees its memory whenever the queue is empty.
        queue: the queue that all threads share.
        pool: its memory.
        local: what each thread has to itself.
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
        self.dtypes = frozenset(d for d in TYPES if d is not dtypes.float64 or device.double_fp_config)
        self.shared = _sees_memory(device)
        self._device = device
        self._largest: int = device.max_mem_alloc_size
        try:
            self._context = cl.Context([device])
            self.queue = cl.CommandQueue(self._context)
            self._supply = Supply(self._context, self.queue, device.global_mem_size, shared=self.shared)
            self.pool = Pool(self._block)
            self.local = _Local()
            self._programs: dict[Source, Any] = {}
            self._lock = threading.Lock()
            self._sites: dict[tuple[str, int, int], int] = {}
            self._armed = False
            self.claim = self.upload(np.zeros(1, np.int32))
            self.report = self.upload(np.zeros(1, np.int64))
            probe = np.arange(2, dtype=np.int32)
            memory = self.upload(probe)
            self.launch(Source("probe", _PROBE, (MEMORY,)), (2,), (1,), (memory,))
            self._read(probe, memory)
            if probe.tolist() != [1, 2]:
                raise DeviceError(f"a probe kernel computed {probe.tolist()} in place of [1, 2]")
        except cl.Error as error:
            raise DeviceError(f"a probe kernel fails: {_first_line(error)}") from error

    def allocate(self, nbytes: int) -> Memory | None:
        """Memory of at least this size, its contents unspecified; None for 0 bytes.

        Raises:
            DeviceError: if there is not that much, even after the pool was emptied.
        """
        if _forked:
            _refuse()
        if not nbytes:
            return None
        size = rounded(nbytes)
        if size > self._largest:
            size = self._unrounded(nbytes)
        recorder = self.local.recorder
        return self.pool.memory(size) if recorder is None else recorder.allocate(size)

    def upload(self, host: np.ndarray[Any, Any]) -> Any:
        """New memory with the bytes of a contiguous array, which may be reused afterwards."""
        if self.local.recorder is not None:
            self.local.recorder.refuse()
        memory = self.allocate(host.nbytes)
        if memory is not None:
            self._write(memory, host)
        return memory

    def download(self, host: np.ndarray[Any, Any], memory: Memory | None, offset: int) -> None:
        """Fill a contiguous array with the bytes of ``memory`` from an offset in bytes on, once they are computed.

        Raises:
            IndexRangeError: if a kernel found an index out of range since the last download or synchronise.
        """
        self._wait_begins()
        if memory is not None and host.nbytes:
            self._read(host, memory, offset)
        self.check()

    def synchronize(self) -> None:
        """Wait until the queue is empty.

        Raises:
            IndexRangeError: as `download`.
        """
        self._wait_begins()
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

        Raises:
            DeviceError: if the kernel does not build, or needs more than the device has.
        """
        if _forked:
            _refuse()
        local = self.local
        entry = local.kernels.get(source)
        if entry is None:
            entry = local.kernels[source] = self._kernel(source)
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
        if local.recorder is not None:
            local.recorder.note(source, whole, group, arguments, checks)
        if checks:
            # After the kernel is in the queue: a check by another thread may come at any time.
            self._armed = True

    def put(self, launches: Sequence[tuple[Any, tuple[int, ...], tuple[int, ...]]], checks: bool) -> None:
        """Put kernels into the queue whose arguments are set.

        Args:
            launches: the kernel objects, their work-items and those of a group.
            checks: whether one of them may report an index.

        Raises:
            DeviceError: if the driver does not take one.
        """
        if _forked:
            _refuse()
        enqueue, queue = cl.enqueue_nd_range_kernel, self.queue
        try:
            for kernel, size, group in launches:
                enqueue(queue, kernel, size, group)
        except cl.Error as error:
            raise self._cannot_start(kernel.function_name, size, group, error) from error
        if checks:
            self._armed = True

    def program(self, source: Source) -> Any:
        """The program of a kernel; it is built once.

        Raises:
            DeviceError: if the driver does not build it.
        """
        with self._lock:
            program = self._programs.get(source)
            if program is None:
                program = self._programs[source] = self._build(source)
        return program

    @contextmanager
    def recorded_by(self, recorder: Recorder) -> Iterator[None]:
        """Within it a recorder notes what this thread launches, and gives it memory."""
        self.local.recorder = recorder
        try:
            yield
        finally:
            self.local.recorder = None

    def _cannot_start(
        self, name: str, size: Sequence[int], group: Sequence[int], error: Exception
    ) -> DeviceError:
        """The error of a kernel that the driver does not put into the queue."""
        return DeviceError(
            f"opencl:{self.index}: kernel {name!r} of {math.prod(size)} work-items in groups of "
            f"{math.prod(group)} does not start: {_first_line(error)}"
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

    def release(self, pool: Pool) -> None:
        """Return the free blocks of a pool to the system, and those in use to this device's pool once they are free."""
        self._supply.drop(pool)
        pool.merge_into(self.pool)

    def statistics(self) -> dict[str, int]:
        """Bytes in use, bytes kept for reuse, and the most that both came to."""
        total = self._supply.total
        free = sum(size * len(blocks) for size, blocks in [*self.pool.free.items()])
        return {"live": total - free, "pooled": free, "peak": self._supply.peak}

    def _block(self, size: int) -> Block:
        """A block that is not in the pool."""
        if size > self._largest:
            self._unrounded(size)
        try:
            return self._supply.new(size)
        except MemoryError:
            self.queue.finish()
            gc.collect()
            self._supply.drop(self.pool)
        try:
            return self._supply.new(size)
        except MemoryError as error:
            raise DeviceError(
                f"opencl:{self.index}: out of memory: {size} bytes are asked while {self._supply.total} of "
                f"{self._supply.limit} are in use"
            ) from error

    def _unrounded(self, nbytes: int) -> int:
        """The size itself, where only the next size of a block is too large for the device."""
        if nbytes > self._largest:
            raise DeviceError(
                f"opencl:{self.index}: {nbytes} bytes are asked, and one array of this device has at most {self._largest}"
            )
        return nbytes

    def _kernel(self, source: Source) -> tuple[Any, tuple[int, ...], int]:
        """A kernel object for this thread, where the memory stands among its arguments, and its largest group."""
        kernel = cl.Kernel(self.program(source), source.name)
        kernel.set_scalar_arg_dtypes([p.numpy if isinstance(p, DType) else None for p in source.parameters])
        of_group = cl.kernel_work_group_info
        needed = kernel.get_work_group_info(of_group.LOCAL_MEM_SIZE, self._device)
        if needed > self._device.local_mem_size:
            raise DeviceError(
                f"opencl:{self.index}: kernel {source.name!r} needs {needed} bytes of local memory, and the device has "
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
                    f"opencl:{self.index}: the driver does not build kernel {source.name!r}: {_complaint(error)}"
                ) from error
            (binary,) = program.get_info(cl.program_info.BINARIES)
            _cache.store(key, binary)
            _cache.compiled()
            # What the driver makes of the binary later is found again when the binary is.
            return self._from_binary(binary)

    def _from_binary(self, binary: bytes) -> Any:
        return cl.Program(self._context, [self._device], [binary]).build()

    def _wait_begins(self) -> None:
        if _forked:
            _refuse()
        if self.local.recorder is not None:
            self.local.recorder.refuse()

    def _write(self, memory: Memory, host: np.ndarray[Any, Any]) -> None:
        seen = memory.block.host
        if seen is None:
            cl.enqueue_copy(self.queue, memory.buffer, host, is_blocking=True)
        else:
            self.queue.finish()  # kernels may still work on what the block held before
            np.copyto(seen[: host.nbytes].view(host.dtype), host)

    def _read(self, host: np.ndarray[Any, Any], memory: Memory, offset: int = 0) -> None:
        seen = memory.block.host
        if seen is None:
            cl.enqueue_copy(self.queue, host, memory.buffer, src_offset=offset, is_blocking=True)
        else:
            self.queue.finish()
            np.copyto(host, seen[offset : offset + host.nbytes].view(host.dtype))


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


def _mark() -> None:
    global _forked
    _forked = True


def _refuse() -> None:
    """Raise in a child of a process that uses OpenCL already: its drivers' threads are not there, and it would hang."""
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
            device.index = len(devices)
            devices.append(device)
    if not devices:
        reason = "; ".join(failures) if failures else "no OpenCL platform has a device"
        raise BackendUnavailable(f"{reason}; {_INSTALL}")
    os.register_at_fork(after_in_child=_mark)
    return tuple(devices)
