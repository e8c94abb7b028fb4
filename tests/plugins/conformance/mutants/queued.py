"""`QueuedBackend`: a backend that computes later than it is asked, correct or with one of the faults of such a device.

Kernels stand in a line until somebody waits for a result, or until the line is long; then a thread runs them, in
order. Memory that is uploaded to comes from a pool and goes back there when its last array is gone. So each race that
a real queue runs into now and then is run into every time.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from plugins.conformance.mutants import record
from plugins.conformance.mutants.backend import GOOD, Host
from plugrad.backend import Backend, Capabilities, DeviceInfo, Kernel, KernelTable, get_backend
from plugrad.dtypes import ALL
from plugrad.spec import Device, Shape, Spec

LONG: Final = 64
"""A line of this length is run without anybody's waiting."""


class Array:
    """What the queue gives: memory, now or once it is computed, and the operands that a view may look into."""

    __slots__ = ("__weakref__", "error", "memory", "seen")

    def __init__(self, memory: Host | None = None) -> None:
        self.memory = memory
        self.error: Exception | None = None
        self.seen: Any = None


class Line:
    """The queue, and the thread that runs it."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._wanted = False
        self._running = False
        threading.Thread(target=self._serve, daemon=True).start()

    def put(self, task: Callable[[], None]) -> None:
        """Put a task at the end."""
        with self._changed:
            self._waiting.append(task)
            if len(self._waiting) >= LONG:
                self._wanted = True
                self._changed.notify_all()

    def finish(self) -> None:
        """Have all that stands there run, and wait for it."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting and not self._running)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted)
                tasks = list(self._waiting)
                self._waiting.clear()
                self._running, self._wanted = True, False
            for task in tasks:
                task()
            # What a task keeps alive goes before anybody is told that it is done.
            task = None  # type: ignore[assignment]
            tasks.clear()
            with self._changed:
                self._running = False
                self._changed.notify_all()


class _Table(KernelTable):
    def __init__(self, backend: QueuedBackend, good: KernelTable) -> None:
        super().__init__()
        self._backend = backend
        self._good = good

    def find(self, op: Any, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
        found = self._good.find(op, specs, attributes)
        if found is None:
            return None
        several = len(record.result_names(op, attributes)) if record.gives_tuple(op, attributes) else 0
        backend, function = self._backend, found.function

        def kernel(*arrays: Any, into: Any = None, **given: Any) -> Any:
            return backend.launch(function, arrays, given, into, several, op.data_dependent)

        return Kernel(kernel, found.when, found.inplace)

    def __contains__(self, op: object) -> bool:
        return op in self._good

    def __iter__(self) -> Any:
        return iter(self._good)

    def __len__(self) -> int:
        return len(self._good)


class QueuedBackend(Backend):
    """The correct backend's kernels, run later."""

    def __init__(
        self,
        name: str,
        *,
        reads_wait: bool = True,
        uploads_copy: bool = True,
        keeps_operands: bool = True,
        tells_errors: bool = True,
    ) -> None:
        """Make one; each of the options that is False is a fault.

        Args:
            name: its name.
            reads_wait: what is read is computed first.
            uploads_copy: an upload is done when it returns; else it stands in the line, and reads the host's memory.
            keeps_operands: the memory of an operand is used again only when all that reads it is done.
            tells_errors: what a kernel raised is raised where its result is read.
        """
        self.name = name
        self.kernels = _Table(self, get_backend(GOOD).kernels)
        self.line = Line()
        self._pool: dict[tuple[Shape, np.dtype[Any]], list[Host]] = {}
        self._reads_wait = reads_wait
        self._uploads_copy = uploads_copy
        self._keeps_operands = keeps_operands
        self._tells_errors = tells_errors

    # -- memory -----------------------------------------------------------------------------------------------

    def devices(self) -> Sequence[DeviceInfo]:
        return [DeviceInfo("a queue that runs when somebody waits")]

    def capabilities(self, device: Device) -> Capabilities:
        return Capabilities(frozenset(ALL), broadcasting=True, scalars=True)

    def _new(self, shape: Shape, dtype: np.dtype[Any]) -> Array:
        free = self._pool.setdefault((shape, dtype), [])
        try:
            memory = free.pop()
        except IndexError:
            memory = np.zeros(shape, dtype)
        array = Array(memory)
        weakref.finalize(array, free.append, memory).atexit = False
        return array

    def allocate(self, spec: Spec) -> Array:
        return self._new(spec.shape, spec.dtype.numpy)

    def from_host(self, value: Host, device: Device) -> Array:
        array = self._new(value.shape, value.dtype)
        memory = array.memory
        assert memory is not None
        if self._uploads_copy:
            np.copyto(memory, value)
        else:
            self.line.put(lambda: np.copyto(memory, value))
        return array

    def to_host(self, array: Array) -> Host:
        if self._reads_wait:
            self.line.finish()
        if array.error is not None:
            raise array.error
        if array.memory is None:
            return np.zeros((), np.float32)  # what is not computed yet is whatever was there
        return np.array(array.memory)

    def shape(self, array: Array) -> Shape:
        self.line.finish()
        if array.error is not None:
            raise array.error
        return np.shape(array.memory)

    def synchronize(self, device: Device) -> None:
        self.line.finish()

    # -- kernels ----------------------------------------------------------------------------------------------

    def launch(
        self, run: Callable[..., Any], arrays: Any, given: Any, into: Any, several: int, at_once: bool
    ) -> Any:
        """Put a kernel into the line; the arrays that it will fill."""
        results = [Array() for _ in range(several or 1)]
        operands = arrays if self._keeps_operands else self._memory(arrays)

        def task() -> None:
            try:
                for array in _flat(operands):
                    if array.error is not None:
                        raise array.error
                out = run(*self._memory(operands), **given, into=None if into is None else self._memory(into))
            except Exception as error:
                for result in results:
                    result.error = error if self._tells_errors else None
                return
            for result, memory in zip(results, out if several else [out], strict=True):
                result.memory = memory
                if isinstance(memory, np.ndarray) and memory.base is not None:
                    result.seen = operands

        self.line.put(task)
        if into is not None:
            return into
        return tuple(results) if several else results[0]

    def _memory(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(self._memory(v) for v in value)
        # Without memory yet, only the array itself can say what will be there.
        return value.memory if isinstance(value, Array) and value.memory is not None else value


def _flat(values: Any) -> list[Array]:
    return [
        a for v in values for a in (_flat(v) if isinstance(v, (list, tuple)) else [v]) if isinstance(a, Array)
    ]
