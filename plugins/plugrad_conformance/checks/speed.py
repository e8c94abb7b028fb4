"""``speed``: how long a few ops take. It is told, and counts for no level.

Each figure is the best of several, with the queue waited for before and after.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad import ops
from plugrad_conformance.cases import Case
from plugrad_conformance.checks._applying import Run

TIMES: Final = 5
BUDGET: Final = 2.0
"""Seconds after which no further repetition begins: a slow device tells one figure."""


def cases() -> Iterator[Case]:
    """By the op."""
    for name in WORK:
        yield Case("speed", name, dtype="float32", level=None)


def run(run: Run) -> None:
    """The best time, and what it comes to."""
    make, amount, unit = WORK[run.case.subject]
    rng = run.rng()

    def draw(*shape: int) -> pg.Tensor:
        return run.subject.tensor(rng.standard_normal(shape), "float32")

    work = make(draw)
    begun, best = time.perf_counter(), float("inf")
    for _ in range(TIMES):
        run.subject.backend.synchronize(run.subject.device)
        start = time.perf_counter()
        work()
        run.subject.backend.synchronize(run.subject.device)
        best = min(best, time.perf_counter() - start)
        run.samples += 1
        if time.perf_counter() - begun > BUDGET:
            break
    run.told = f"{best * 1e3:.3g} ms, {amount / best / 1e9:.3g} {unit}"


Draw = Callable[..., pg.Tensor]


def _unary(op: Any) -> Callable[[Draw], Callable[[], Any]]:
    def make(draw: Draw) -> Callable[[], Any]:
        x = draw(256, 1024)
        return lambda: op(x)

    return make


def _add(draw: Draw) -> Callable[[], Any]:
    x, y = draw(256, 1024), draw(256, 1024)
    return lambda: x + y


def _matmul(draw: Draw) -> Callable[[], Any]:
    x, y = draw(256, 256), draw(256, 256)
    return lambda: x @ y


def _conv(draw: Draw) -> Callable[[], Any]:
    x, w = draw(4, 16, 16, 16), draw(16, 16, 3, 3)
    return lambda: ops.conv(x, w, padding=1)


def _backward(draw: Draw) -> Callable[[], Any]:
    x, w = draw(128, 128), draw(128, 128).requires_grad_()

    def work() -> None:
        w.grad = None
        pg.tanh(x @ w).sum().backward()

    return work


def _upload(draw: Draw) -> Callable[[], Any]:
    device = draw(1).device
    host = np.zeros((256, 1024), np.float32)
    return lambda: pg.asarray(host, device=device)


_N: Final = 256 * 1024
WORK: Final[dict[str, tuple[Callable[[Draw], Callable[[], Any]], float, str]]] = {
    "add": (_add, 12.0 * _N, "GB/s"),
    "exp": (_unary(pg.exp), 8.0 * _N, "GB/s"),
    "sum": (_unary(pg.sum), 4.0 * _N, "GB/s"),
    "softmax": (_unary(lambda x: pg.softmax(x, axis=1)), 8.0 * _N, "GB/s"),
    "matrix_product": (_matmul, 2.0 * 256**3, "GFLOP/s"),
    "conv": (_conv, 2.0 * 4 * 16 * 16 * 16 * 16 * 9, "GFLOP/s"),
    "matmul-backward": (_backward, 4.0 * 128**3, "GFLOP/s"),
    "upload": (_upload, 4.0 * _N, "GB/s"),
}
"""By name: what makes the work, bytes or floating-point operations of one, and their unit per second."""
