"""A few threads for work that NumPy does without the interpreter lock.

Large ufuncs release the lock, so the pieces of a big array can be worked on side by side, each piece in
blocks that stay in the cache of its core. Calls into the BLAS are left alone: it has threads of its own.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

__all__ = ["limit", "pieces", "run", "scratch", "thread_count"]

Piece = TypeVar("Piece")

_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables by which people limit the threads of numerical libraries; read once."""


class _State:
    """The pool, made when first wanted; a forked child starts without one, as it has none of its threads."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.pool: ThreadPoolExecutor | None = None
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


def pieces(length: int, least: int) -> list[slice]:
    """``range(length)`` cut into one slice a thread, none shorter than ``least`` where that can be."""
    count = max(1, min(thread_count(), length // max(1, least)))
    bounds = [length * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(bounds)]


def run(work: Callable[[Piece], Any], parts: Sequence[Piece]) -> None:
    """Call ``work`` on every part, side by side; the caller's thread takes the first part.

    Returns when all are done; raises what the first failing part raised. Within a part, a further
    `run` works in the thread it is called from. What NumPy does on floating-point events, which it keeps per
    thread, is in every thread what it is in the caller's.
    """
    if len(parts) <= 1 or thread_count() == 1 or getattr(_state.inside, "value", False):
        for part in parts:
            work(part)
        return
    with _state.lock:
        if _state.pool is None:
            _state.pool = ThreadPoolExecutor(max(1, _state.size - 1), thread_name_prefix="plugrad-numpy")
        pool = _state.pool
    events = np.geterr()
    futures: list[Future[Any]] = [pool.submit(_inside, work, part, events) for part in parts[1:]]
    try:
        _inside(work, parts[0], events)
    finally:
        wait(futures)
    for future in futures:
        future.result()


def scratch(slot: str, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array whose memory the calling thread uses again at its next call with this ``slot``.

    Its elements are unspecified. Fresh memory costs a page fault every 4 kB, which is more than many kernels
    take to fill it. Only blocks are kept: what is larger than `_KEPT` is allocated anew.
    """
    size = math.prod(shape) * dtype.itemsize
    if size > _KEPT:
        return np.empty(shape, dtype)
    kept = _state.scratch.__dict__
    memory = kept.get(slot)
    if memory is None or memory.size < size:
        memory = kept[slot] = np.empty(size, np.uint8)
    return memory[:size].view(dtype).reshape(shape)


def _inside(work: Callable[[Piece], Any], part: Piece, events: Any) -> None:
    _state.inside.value = True
    try:
        with np.errstate(**events):
            work(part)
    finally:
        _state.inside.value = False
