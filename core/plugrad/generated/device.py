"""`GeneratedDevice`: what a language of the C family and its runtime do for generated kernels."""

from __future__ import annotations

import gc
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

import numpy as np

from plugrad.backend import get_backend
from plugrad.dtypes import DType, int32
from plugrad.errors import DeviceError, IndexRangeError
from plugrad.generated.memory import Block, Memory, Pool, Supply, rounded
from plugrad.generated.recorder import Recorder
from plugrad.graph.source import Dialect, Source
from plugrad.graph.source.dialect import Writer
from plugrad.spec import Device


class _Local(threading.local):
    """What each thread has to itself.

    Attributes:
        kernels: what `GeneratedDevice.enqueue` keeps for each source.
        recorder: what notes its launches now, if anything does.
    """

    def __init__(self) -> None:
        self.kernels: dict[Source, Any] = {}
        self.recorder: Recorder | None = None


class GeneratedDevice(ABC):
    """A device that compiles and runs kernels of the C family, in the order in which it is given them.

    A backend derives a class of its own, whose constructor opens the runtime, calls this one's, and then `probe`.

    Attributes:
        dialect: its language.
        name: the device as people name it, such as ``opencl:0``; a backend that finds several numbers them.
        description: what it is: the processor, its driver and version.
        dtypes: what it stores and computes.
        pool: its memory.
        local: what each thread has to itself.
        lock: for what threads must do one at a time.
        claim: memory of an int32, 0, by which kernels agree on who reports an index.
        report: memory of an int64, the index that was reported.
    """

    dialect: ClassVar[Dialect]

    def __init__(
        self, name: str, description: str, dtypes: frozenset[DType], *, limit: int, largest: int
    ) -> None:
        """Begin with no memory.

        Args:
            name: its name.
            description: what it is.
            dtypes: what it stores and computes.
            limit: bytes that all memory may come to.
            largest: bytes that one array may have.
        """
        self.name = name
        self.description = description
        self.dtypes = dtypes
        self.local = _Local()
        self._largest = largest
        self._supply = Supply(self.block, limit)
        self.pool = Pool(self._block)
        self.lock = threading.Lock()
        self._sites: dict[tuple[str, int, int], int] = {}
        self._armed = False
        _watch_forks()

    def probe(self) -> None:
        """Compile and run a kernel, and make what indices are reported by.

        Raises:
            DeviceError: if the kernel computes something else.
        """
        self.claim = self.upload(np.zeros(4, np.uint8))
        self.report = self.upload(np.zeros(8, np.uint8))
        values = np.arange(2, dtype=np.int32)
        memory = self.upload(values.view(np.uint8))
        self.launch(_probe(self.dialect), (2,), (1,), (memory,))
        self.read(values.view(np.uint8), memory, 0)
        if values.tolist() != [1, 2]:
            raise DeviceError(f"a probe kernel computed {values.tolist()} in place of [1, 2]")

    @abstractmethod
    def block(self, size: int) -> Block:
        """A new block of memory.

        Raises:
            MemoryError: if there is no room for it.
        """

    @abstractmethod
    def write(self, memory: Memory, host: np.ndarray[Any, Any]) -> None:
        """Copy a contiguous array of bytes to the beginning of ``memory``; return when it may be reused."""

    @abstractmethod
    def read(self, host: np.ndarray[Any, Any], memory: Memory, offset: int) -> None:
        """Fill a contiguous array of bytes from an offset of ``memory`` on, once they are computed."""

    @abstractmethod
    def wait(self) -> None:
        """Return when all that the device was given is done."""

    @abstractmethod
    def enqueue(
        self, source: Source, size: tuple[int, ...], group: tuple[int, ...], arguments: Sequence[Any]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Give the device a kernel, and return at once.

        Args:
            source: the kernel, which is compiled when it is met for the first time.
            size: work-items along each axis, none 0; along the first more than that may run.
            group: work-items of a group along each axis; fewer, where the device has not so many.
            arguments: memory, None for that of no bytes, and numbers, as ``source.parameters`` says.

        Returns:
            Work-items and those of a group, as they were launched.

        Raises:
            DeviceError: if the kernel does not build, or needs more than the device has.
        """

    @abstractmethod
    def prepared(
        self, source: Source, size: tuple[int, ...], group: tuple[int, ...], arguments: Sequence[Any]
    ) -> Any:
        """A launch that `put` takes, its arguments set: numbers, None, and buffers of blocks.

        Args:
            source: the kernel.
            size: work-items along each axis, as `enqueue` gave them.
            group: those of a group.
            arguments: as ``source.parameters`` says.
        """

    @abstractmethod
    def set_argument(self, launch: Any, index: int, buffer: Any) -> None:
        """Set an argument of a prepared launch that is memory."""

    @abstractmethod
    def put(self, launches: Sequence[Any]) -> None:
        """Give the device prepared launches, and return at once.

        Raises:
            DeviceError: if the driver does not take one.
        """

    def trim(self) -> None:  # noqa: B027 - most runtimes keep nothing
        """Give what the runtime keeps of dropped blocks back to the system."""

    def allocate(self, nbytes: int) -> Memory | None:
        """Memory of at least this size, its contents unspecified; None for 0 bytes.

        Raises:
            DeviceError: if there is not that much, even after the pool was emptied.
        """
        if _forked:
            self._refuse()
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
            self.write(memory, host)
        return memory

    def download(self, host: np.ndarray[Any, Any], memory: Memory | None, offset: int) -> None:
        """Fill a contiguous array of bytes from an offset of ``memory`` on, once they are computed.

        Raises:
            IndexRangeError: if a kernel found an index out of range since the last download or synchronise.
        """
        self._wait_begins()
        if memory is not None and host.nbytes:
            self.read(host, memory, offset)
        self.check()

    def synchronize(self) -> None:
        """Wait until all is done.

        Raises:
            IndexRangeError: as `download`.
        """
        self._wait_begins()
        self.wait()
        self.check()

    def launch(
        self,
        source: Source,
        size: Sequence[int],
        group: Sequence[int],
        arguments: Sequence[Any],
        checks: bool = False,
    ) -> None:
        """Give the device a kernel: see `enqueue`; ``checks`` tells whether it may report an index."""
        if _forked:
            self._refuse()
        whole, parts = self.enqueue(source, tuple(size), tuple(group), arguments)
        if self.local.recorder is not None:
            self.local.recorder.note(source, whole, parts, arguments, checks)
        if checks:
            # After the kernel was given: a check by another thread may come at any time.
            self._armed = True

    def repeat(self, launches: Sequence[Any], checks: bool) -> None:
        """Give the device prepared launches; ``checks`` tells whether one may report an index."""
        if _forked:
            self._refuse()
        self.put(launches)
        if checks:
            self._armed = True

    @contextmanager
    def recorded_by(self, recorder: Recorder) -> Iterator[None]:
        """Within it a recorder notes what this thread launches, and gives it memory."""
        self.local.recorder = recorder
        try:
            yield
        finally:
            self.local.recorder = None

    def site(self, name: str, axis: int, size: int) -> int:
        """A number by which a kernel reports an index that is out of range for an axis of an op's operand."""
        with self.lock:
            return self._sites.setdefault((name, axis, size), len(self._sites) + 1)

    def check(self) -> None:
        """Raise what kernels reported; the thread that asks first is told, whichever launched them.

        Raises:
            IndexRangeError: if an index was out of range.
        """
        if not self._armed:
            return
        with self.lock:
            self._armed = False
            claim, report = np.zeros(1, np.int32), np.zeros(1, np.int64)
            self.read(claim.view(np.uint8), self.claim, 0)
            if not claim[0]:
                return
            self.read(report.view(np.uint8), self.report, 0)
            self.write(self.claim, np.zeros(4, np.uint8))
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
            self.wait()
            gc.collect()
            self._supply.drop(self.pool)
            self.trim()
        try:
            return self._supply.new(size)
        except MemoryError as error:
            raise DeviceError(
                f"{self.name}: out of memory: {size} bytes are asked while {self._supply.total} of "
                f"{self._supply.limit} are in use"
            ) from error

    def _unrounded(self, nbytes: int) -> int:
        """The size itself, where only the next size of a block is too large for the device."""
        if nbytes > self._largest:
            raise DeviceError(
                f"{self.name}: {nbytes} bytes are asked, and one array of this device has at most {self._largest}"
            )
        return nbytes

    def _wait_begins(self) -> None:
        if _forked:
            self._refuse()
        if self.local.recorder is not None:
            self.local.recorder.refuse()

    def _refuse(self) -> None:
        """Raise in a child of a process that uses the device: its driver's threads are not there, and it would hang."""
        raise DeviceError(
            f"{self.name} cannot be used in a forked process whose parent used it; "
            "start processes with multiprocessing.get_context('spawn')"
        )


def device_of(device: Device) -> GeneratedDevice:
    """The device of a backend of generated kernels."""
    found: GeneratedDevice = get_backend(device.name).found[device.index]  # type: ignore[attr-defined]
    return found


@cache
def _probe(dialect: Dialect) -> Source:
    """A kernel that adds 1 to each of two numbers."""
    write = Writer(dialect, "probe")
    write.memory("x", int32, const=False)
    write.line(f"x[{dialect.indices[0]}] += 1;")
    return write.source()


_forked = False


def _mark() -> None:
    global _forked
    _forked = True


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_mark)
