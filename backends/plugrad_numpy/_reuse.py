"""Large memory that is used again: what an array gives back when nothing holds it any more, the next one gets.

Memory of megabytes comes from the system page by page, zeroed: 64 MB cost 4 to 10 ms, as much as many kernels that fill
it. So what leaves a plan at each call, and is let go of before the next, lies in the same memory again.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Final

import numpy as np

__all__ = ["Block", "array_like", "clear", "held"]

Array = np.ndarray[Any, Any]

LEAST: Final = 1 << 20
"""Bytes from which memory is kept: below, the C library keeps it."""

MOST: Final = 1 << 28
"""Bytes that are kept at most."""


class _Memory(np.ndarray[Any, Any]):
    """What is kept. Of a type of its own: NumPy makes the base of a base the base where both are plain arrays."""


class _Kept:
    """Memory that nothing refers to, by its size."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        # Taken without waiting: a block may die anywhere, in a thread that has the lock too.
        self.lock = threading.Lock()
        self.bytes = 0
        self.by_size: dict[int, list[_Memory]] = {}

    def give(self, memory: _Memory) -> None:
        """Keep memory, if there is room."""
        if not self.lock.acquire(blocking=False):
            return
        try:
            if self.bytes + memory.nbytes <= MOST:
                self.by_size.setdefault(memory.nbytes, []).append(memory)
                self.bytes += memory.nbytes
        finally:
            self.lock.release()

    def take(self, size: int) -> _Memory | None:
        """Memory of a size. Where there is none, all is let go of: the process must not grow by what it does not use."""
        if not self.lock.acquire(blocking=False):
            return None
        gone: dict[int, list[_Memory]] = {}
        try:
            found = self.by_size.get(size)
            if found:
                self.bytes -= size
                return found.pop()
            gone, self.by_size, self.bytes = self.by_size, {}, 0
        finally:
            self.lock.release()
        gone.clear()
        return None


_kept: Final = _Kept()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_kept.reset)


class Block(np.ndarray[Any, Any]):
    """The memory of one array, which has it as its base. It outlives all that refers to it, and is kept then."""

    def __del__(self, give: Any = _kept.give, kind: type = _Memory) -> None:
        """Keep the memory."""
        memory = self.base
        if type(memory) is kind:
            give(memory)  # not that of a view or a copy of a block, which NumPy makes blocks too


def array_like(layout: Array) -> Array:
    """A new array of the shape, the dtype and the strides of ``layout``, its elements unspecified."""
    size = layout.nbytes
    if size < LEAST:
        return np.empty_like(layout, subok=False)
    memory = _kept.take(size)
    if memory is None:
        memory = np.ndarray.__new__(_Memory, size, np.uint8)
    block = np.ndarray.__new__(Block, size, np.uint8, memory)
    return np.ndarray(layout.shape, layout.dtype, block, strides=layout.strides)


def held() -> int:
    """Bytes that are kept and not in use."""
    return _kept.bytes


def clear() -> None:
    """Give what is kept back to the system."""
    _kept.take(-1)
