"""`GeneratedDevice`: what a language of the C family and its runtime have to do for the generated kernels."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from plugrad.dtypes import DType
from plugrad.errors import IndexRangeError
from plugrad.graph.source import Dialect, Source


class GeneratedDevice(ABC):
    """A device that compiles and runs kernels of the C family. What it is given, it does in that order.

    A backend writes a class of its own for it; its instances need ``claim`` and ``report``, which `prepare` makes.

    Attributes:
        name: the device as people name it, such as ``opencl:0``.
        description: what it is: the processor, its driver and version.
        dialect: its language.
        dtypes: what it stores and computes.
        claim: memory of an int32, 0, by which kernels agree on who reports an index.
        report: memory of an int64, the index that was reported.
    """

    name: str
    description: str
    dialect: Dialect
    dtypes: frozenset[DType]
    claim: Any
    report: Any

    def prepare(self) -> None:
        """Make what kernels report indices by; memory and copies must work by then."""
        self._lock = threading.Lock()
        self._sites: dict[tuple[str, int, int], int] = {}
        self._armed = False
        self.claim = self.upload(np.zeros(4, np.uint8))
        self.report = self.upload(np.zeros(8, np.uint8))

    @abstractmethod
    def allocate(self, nbytes: int) -> Any:
        """Memory of at least this size, its contents unspecified; None for 0 bytes.

        Memory that nobody holds any more may be given out again at once.

        Raises:
            DeviceError: if there is not that much, even after everything that was kept for reuse was given back.
        """

    @abstractmethod
    def write(self, memory: Any, host: np.ndarray[Any, Any]) -> None:
        """Copy a contiguous array of bytes to the beginning of ``memory``; return when it may be reused."""

    @abstractmethod
    def read(self, host: np.ndarray[Any, Any], memory: Any, offset: int) -> None:
        """Fill a contiguous array of bytes from an offset of ``memory`` on, once they are computed."""

    @abstractmethod
    def wait(self) -> None:
        """Return when all that the device was given is done."""

    @abstractmethod
    def enqueue(
        self, source: Source, size: Sequence[int], group: Sequence[int], arguments: Sequence[Any]
    ) -> None:
        """Give the device a kernel, and return at once.

        Args:
            source: the kernel, which is compiled when it is met for the first time.
            size: work-items along each axis of the launch, none 0; along the first, work-items beyond it may run too.
            group: work-items of a group along each axis.
            arguments: memory, None for that of no bytes, and numbers, as ``source.parameters`` says.

        Raises:
            DeviceError: if the device's compiler does not take the kernel.
        """

    @abstractmethod
    def statistics(self) -> dict[str, int]:
        """Bytes in use (``live``) and kept for reuse (``pooled``)."""

    def upload(self, host: np.ndarray[Any, Any]) -> Any:
        """New memory with the bytes of a contiguous array, which may be reused afterwards."""
        memory = self.allocate(host.nbytes)
        if memory is not None:
            self.write(memory, host)
        return memory

    def download(self, host: np.ndarray[Any, Any], memory: Any, offset: int) -> None:
        """Fill a contiguous array of bytes from an offset of ``memory`` on, once they are computed.

        Raises:
            IndexRangeError: if a kernel found an index out of range since the last download or synchronise.
        """
        if memory is not None and host.nbytes:
            self.read(host, memory, offset)
        self.check()

    def synchronize(self) -> None:
        """Wait until all is done.

        Raises:
            IndexRangeError: as `download`.
        """
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
        """`enqueue`; ``checks`` tells whether the kernel may report an index."""
        self.enqueue(source, size, group, arguments)
        if checks:
            # After the kernel was given: a check by another thread may come at any time.
            self._armed = True

    def site(self, name: str, axis: int, size: int) -> int:
        """A number by which a kernel reports an index that is out of range for an axis of an op's operand."""
        with self._lock:
            return self._sites.setdefault((name, axis, size), len(self._sites) + 1)

    def check(self) -> None:
        """Raise what kernels reported; the thread that asks first is told, whichever launched them.

        Raises:
            IndexRangeError: if an index was out of range.
        """
        if not self._armed:
            return
        with self._lock:
            self._armed = False
            claim, report = np.zeros(1, np.int32), np.zeros(1, np.int64)
            self.read(claim.view(np.uint8), self.claim, 0)
            if not claim[0]:
                return
            self.read(report.view(np.uint8), self.report, 0)
            self.write(self.claim, np.zeros(4, np.uint8))
            name, axis, size = next(k for k, v in self._sites.items() if v == claim[0])
        raise IndexRangeError(f"{name}: index {report[0]} is out of range for axis {axis} of size {size}")
