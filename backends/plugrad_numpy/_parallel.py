"""A few threads for work that NumPy does without the interpreter lock.

Large ufuncs release the lock, so the pieces of a big array can be worked on side by side, each piece in
blocks that stay in the cache of its core. Calls into the BLAS are left alone: it has threads of its own.
"""

from __future__ import annotations

import contextvars
import math
import os
import queue
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

__all__ = ["is_inside", "limit", "pieces", "run", "scratch", "thread_count"]

Piece = TypeVar("Piece")

_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables by which people limit the threads of numerical libraries; read once."""


class _Worker(threading.Thread):
    """A thread that runs what is put into its queue: cheaper to wake than one of `concurrent.futures`, by a third."""

    def __init__(self, number: int) -> None:
        super().__init__(name=f"plugrad-numpy-{number}", daemon=True)
        self.queue: queue.SimpleQueue[tuple[Callable[[], None], threading.Lock]] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        """Work, for as long as the process lives."""
        _state.inside.value = True
        while True:
            task, done = self.queue.get()
            task()
            del task  # it holds arrays
            done.release()


class _State:
    """The workers, made when first wanted; a forked child starts without them, as it has none of their threads."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.workers: list[_Worker] = []
        self.size = 0
        self.cap: int | None = None
        self.lock = threading.Lock()
        self.inside = threading.local()
        self.scratch = threading.local()


_state = _State()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_state.reset)


_KEPT = 4 << 20
"""Bytes that a slot of `scratch` keeps at most."""


def _available() -> int:
    """Processors that this process may use, at most what the variables of `_LIMITS` say where they are set."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = [os.environ.get(name, "").split(",")[0].strip() for name in _LIMITS]
    return min([count, *(int(text) for text in given if text.isdigit() and int(text) > 0)])


def thread_count() -> int:
    """Threads that `run` uses: the processors in the process's affinity, at most ``OMP_NUM_THREADS`` and
    ``OPENBLAS_NUM_THREADS``, as they were when the first work was split, and at most what `limit` set.
    """
    if _state.size == 0:
        _state.size = _available()
    return _state.size if _state.cap is None else min(_state.size, _state.cap)


def limit(count: int | None) -> None:
    """Let `run` use at most ``count`` threads, the caller's included; None lifts the limit."""
    if count is not None and count < 1:
        raise ValueError(f"limit: {count} threads; takes 1 or more, or None")
    _state.cap = count


def is_inside() -> bool:
    """Whether the calling thread works on a part of `run`."""
    return getattr(_state.inside, "value", False)


def pieces(length: int, least: int) -> list[slice]:
    """``range(length)`` cut into one slice a thread; within a part of `run`, all of it.

    Args:
        length: how much there is.
        least: how much is worth a thread, about what is done while one wakes up (40 us). The first piece, which the
            caller's thread works on at once, is longer by that, so that all end together.
    """
    least = max(1, least)
    count = max(1, min(thread_count(), length // least))
    if count == 1 or is_inside():
        return [slice(0, length)]
    rest = max(1, (length - least) // count)
    bounds = [0, *(length - rest * i for i in range(count - 1, -1, -1))]
    return [slice(a, b) for a, b in pairwise(bounds)]


def run(work: Callable[[Piece], Any], parts: Sequence[Piece]) -> None:
    """Call ``work`` on every part, side by side; the caller's thread takes the first part.

    Returns when all are done; raises what the first failing part raised. Within a part, a further
    `run` works in the thread it is called from. Context variables, in which NumPy keeps what it does on floating-point
    events, are in every thread what they are in the caller's.
    """
    if len(parts) <= 1 or thread_count() == 1 or is_inside():
        for part in parts:
            work(part)
        return
    errors: dict[int, BaseException] = {}
    waiting = []
    for i, worker in enumerate(_workers(len(parts) - 1), start=1):
        done = threading.Lock()
        done.acquire()
        worker.queue.put((_task(work, parts[i], i, errors), done))
        waiting.append(done)
    _state.inside.value = True
    try:
        work(parts[0])
    finally:
        _state.inside.value = False
        for done in waiting:
            done.acquire()
    if errors:
        raise errors[min(errors)]


def _task(
    work: Callable[[Piece], Any], part: Piece, number: int, errors: dict[int, BaseException]
) -> Callable[[], None]:
    run_in_context = contextvars.copy_context().run

    def task() -> None:
        try:
            run_in_context(work, part)
        except BaseException as error:
            errors[number] = error

    return task


def _workers(count: int) -> list[_Worker]:
    with _state.lock:
        while len(_state.workers) < count:
            _state.workers.append(_Worker(len(_state.workers)))
        return _state.workers[:count]


def scratch(slot: str, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array whose memory the calling thread uses again at its next call with this ``slot``.

    Its elements are unspecified. Fresh memory costs a page fault every 4 kB, which is more than many kernels
    take to fill it. Only blocks are kept: what is larger than `_KEPT` is allocated anew.

    Numbers are the slots of kernels whose work calls no other kernel: these share their memory, which is little
    then, and in the cache from the kernel before. Whatever calls others on its way has slots of names.
    """
    size = math.prod(shape) * dtype.itemsize
    if size > _KEPT:
        return np.empty(shape, dtype)
    kept = _state.scratch.__dict__
    memory = kept.get(slot)
    if memory is None or memory.size < size:
        memory = kept[slot] = np.empty(size, np.uint8)
    return memory[:size].view(dtype).reshape(shape)
