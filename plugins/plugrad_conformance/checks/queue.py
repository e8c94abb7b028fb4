"""``queue``: a device that computes later than it is asked gives the same results: reads wait, memory is not reused early.

On a device that computes at once these cases cannot fail; a device with a queue runs into each race several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad import optim
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run
from plugrad_conformance.measure import Failure

Host = np.ndarray[Any, Any]

ROUNDS: Final = 5
SIZE: Final = 192


def cases() -> Iterator[Case]:
    """By name."""
    for name in NAMED:
        yield Case("queue", name, level=Level.L4)


def run(run: Run) -> None:
    """Several rounds, each with other values."""
    rng = run.rng()
    for _ in range(ROUNDS):
        NAMED[run.case.subject](run, rng)
        run.samples += 1


def _busy(run: Run, rng: np.random.Generator) -> tuple[pg.Tensor, Host]:
    """Work that keeps a queue busy: powers of a matrix that turns vectors, and what they come to."""
    angle = float(rng.uniform(0.1, 3.0))
    turn = np.eye(SIZE)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    x = run.subject.tensor(turn, "float32")
    y = x
    for _ in range(6):
        y = y @ y
    return y, np.linalg.matrix_power(turn, 64)


def _near(what: str, got: Host, wanted: Host) -> None:
    error = float(np.max(np.abs(got.astype(np.float64) - wanted), initial=0.0))
    scale = float(np.max(np.abs(wanted), initial=1.0))
    if not error <= 1e-4 * scale:
        raise Failure(f"{what}: it is {error:.3g} away from what it must be")


def _read(run: Run, rng: np.random.Generator) -> None:
    """A result is read the moment that it was asked for."""
    y, wanted = _busy(run, rng)
    _near("a result that is read at once", y.numpy(), wanted)


def _many_reads(run: Run, rng: np.random.Generator) -> None:
    """Results are read in another order than they were asked for."""
    made = [_busy(run, rng) for _ in range(3)]
    for y, wanted in reversed(made):
        _near("one of several results", y.numpy(), wanted)


def _host_reused(run: Run, rng: np.random.Generator) -> None:
    """The host's memory is overwritten at once after the upload, while the queue has other work."""
    y, wanted = _busy(run, rng)
    host = rng.standard_normal(300_000).astype(np.float32)
    kept = host.copy()
    x = pg.asarray(host, device=run.subject.device)
    host[...] = 0
    _near("what was uploaded behind other work", (x + 1).numpy(), kept.astype(np.float64) + 1)
    _near("the work before the upload", y.numpy(), wanted)


def _freed(run: Run, rng: np.random.Generator) -> None:
    """Operands are dropped while what reads them waits; new arrays of the same size come at once."""
    y, wanted = _busy(run, rng)
    value = rng.standard_normal((SIZE, SIZE))
    x = run.subject.tensor(value, "float32")
    z = x + 1.0
    for i in range(4):
        z = z * 1.0
        x = run.subject.tensor(np.full((SIZE, SIZE), float(i)), "float32")
    del x
    junk = [run.subject.tensor(np.full((SIZE, SIZE), -7.0), "float32") for _ in range(4)]
    _near("what was made of an operand that was dropped", z.numpy(), value.astype(np.float32) + 1.0)
    _near("the work before", y.numpy(), wanted)
    del junk


def _assigned(run: Run, rng: np.random.Generator) -> None:
    """A tensor is assigned to right after an op that reads it was asked for."""
    value = rng.standard_normal((SIZE, SIZE))
    x = run.subject.tensor(value, "float32")
    y, _ = _busy(run, rng)
    before = x * 2.0
    x[...] = 0.0
    x += 3.0
    after = x * 2.0
    _near("what was read before an assignment", before.numpy(), value.astype(np.float32) * 2.0)
    _near("what was read after it", after.numpy(), np.full((SIZE, SIZE), 6.0))
    y.numpy()


def _stepped(run: Run, rng: np.random.Generator) -> None:
    """An optimizer's step follows its gradients, and the next loss the step, without a read in between."""
    del rng
    w = run.subject.tensor(np.ones((SIZE, SIZE)), "float32").requires_grad_()
    x = run.subject.tensor(np.eye(SIZE), "float32")
    optimizer = optim.SGD([w], lr=0.125)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = ((x @ w) ** 2).mean() * (SIZE * SIZE / 2)
        loss.backward()
        optimizer.step()
        losses.append(loss)
    wanted = np.array([(0.875**i) ** 2 for i in range(4)]) * SIZE * SIZE / 2
    _near("losses of steps that follow each other", np.array([float(v.item()) for v in losses]), wanted)


def _synchronized(run: Run, rng: np.random.Generator) -> None:
    """After `synchronize` everything is done: reading it is right, and so is reading it again."""
    y, wanted = _busy(run, rng)
    run.subject.backend.synchronize(run.subject.device)
    first = np.array(run.subject.host(y))
    _near("what is read after synchronize", first, wanted)
    if first.tobytes() != np.ascontiguousarray(run.subject.host(y)).tobytes():
        raise Failure("what is read after synchronize changes")


NAMED: Final[dict[str, Callable[[Run, np.random.Generator], None]]] = {
    "read-after-write": _read,
    "reads-out-of-order": _many_reads,
    "host-memory-reused": _host_reused,
    "freed-in-flight": _freed,
    "assigned-in-flight": _assigned,
    "steps": _stepped,
    "synchronize": _synchronized,
}
