"""``threads``: several threads use the device at once, and each gets its own results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run
from plugrad_conformance.measure import Failure

Host = np.ndarray[Any, Any]

COUNT: Final = 4
ROUNDS: Final = 20


def cases() -> Iterator[Case]:
    """By name."""
    for name in NAMED:
        yield Case("threads", name, level=Level.L4)


def run(run: Run) -> None:
    """Start the threads together, and raise what the first of them raised."""
    work = NAMED[run.case.subject]
    barrier = threading.Barrier(COUNT)
    raised: list[BaseException] = []

    def body(index: int) -> None:
        try:
            rng = np.random.default_rng(run.case.seed + index)
            barrier.wait()
            for _ in range(ROUNDS):
                work(run, rng)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=body, args=(i,), daemon=True) for i in range(COUNT)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if raised:
        raise raised[0]
    run.samples += COUNT * ROUNDS


def _near(what: str, got: Host, wanted: Host) -> None:
    if not np.allclose(got, wanted, rtol=1e-4, atol=1e-4):
        raise Failure(f"{what}: another thread's, or none")


def _forward(run: Run, rng: np.random.Generator) -> None:
    """Ops, some of them in shapes that are settled for the first time."""
    n = int(rng.integers(2, 60))
    a, b = rng.standard_normal((n, 33)), rng.standard_normal((33, n))
    x, y = run.subject.tensor(a, "float32"), run.subject.tensor(b, "float32")
    _near("a product", (x @ y + 1.0).numpy(), a @ b + 1)
    _near("a softmax", pg.softmax(x, axis=1).sum(axis=1).numpy(), np.ones(n))


def _backward(run: Run, rng: np.random.Generator) -> None:
    """Gradients, each thread of tensors of its own."""
    a = rng.standard_normal((17, int(rng.integers(2, 60))))
    x = run.subject.tensor(a, "float32").requires_grad_()
    (x * x).sum().backward()
    assert x.grad is not None
    _near("a gradient", x.grad.numpy(), 2 * a)


def _transfers(run: Run, rng: np.random.Generator) -> None:
    """Uploads and reads."""
    a = rng.standard_normal(int(rng.integers(1, 50_000))).astype(np.float32)
    x = run.subject.tensor(a)
    _near("what comes back", x.numpy(), a)
    run.subject.backend.synchronize(run.subject.device)


NAMED: Final[dict[str, Callable[[Run, np.random.Generator], None]]] = {
    "forward": _forward,
    "backward": _backward,
    "transfers": _transfers,
}
