"""What the machine allows: the rates of a matrix product and of a copy, in two threads or as many as there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import plugrad as pg

SIDE = 1024


def _fastest(function: Callable[[], object], seconds: float = 0.4) -> float:
    """The shortest call of those that fit into ``seconds``, of five at least."""
    best, began, calls = float("inf"), time.perf_counter(), 0
    while calls < 5 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best


def products() -> float:
    """Floating-point operations a second in a product of two float32 matrices of 1024x1024, as plugrad makes it with NumPy."""
    a, b = (pg.asarray(np.ones((SIDE, SIDE), np.float32), device="numpy") for _ in range(2))
    return 2 * SIDE**3 / _fastest(lambda: pg.matmul(a, b))


def copy(size: int, threads: int) -> float:
    """Bytes read and written a second by a copy that touches ``size`` bytes: the better of one thread and ``threads``.

    What fits into a cache is copied at the cache's rate.
    """
    source = np.ones(max(size // 8, 1024), np.float32)
    target = np.empty_like(source)
    alone = _fastest(lambda: np.copyto(target, source), 0.1)
    pairs = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        together = _fastest(lambda: list(pool.map(lambda p: np.copyto(*p), pairs)), 0.1)
    return 2 * source.nbytes / min(alone, together)
