"""``devices``: several devices of one backend, where there are several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

import plugrad as pg
from plugrad import ops
from plugrad.errors import DeviceError
from plugrad.spec import Device
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run
from plugrad_conformance.measure import Failure


def cases() -> Iterator[Case]:
    """By name; a backend with one device has none of them, and its level says so."""
    for name in NAMED:
        yield Case("devices", name, level=Level.L4, needs=frozenset(("devices",)))


def run(run: Run) -> None:
    """The device under test, and each other one of its backend that has the same dtypes."""
    own, backend = run.subject.device, run.subject.backend
    for i in range(run.subject.count):
        other = Device(own.name, i)
        if other is not own and backend.capabilities(other).dtypes >= run.subject.capabilities.dtypes:
            NAMED[run.case.subject](run, other)
            run.samples += 1
    if not run.samples:
        run.not_exercised = "no other device of the backend has the dtypes of this one"


def _moves(run: Run, other: Device) -> None:
    """Values go there and back."""
    host = run.rng().standard_normal((5, 7)).astype(np.float32)
    x = run.subject.tensor(host)
    there = x.to(other)
    if there.device is not other:
        raise Failure(f"x.to({other}) is on {there.device}")
    x[...] = 0.0
    if not np.array_equal((there + 1).numpy(), host + 1) or not np.array_equal(
        there.to(x.device).numpy(), host
    ):
        raise Failure(f"values that went to {other} are others there")


def _computes(run: Run, other: Device) -> None:
    """Both compute, in turns, and gradients cross with the tensors."""
    host = run.rng().standard_normal((4, 4))
    x = run.subject.tensor(host, "float32").requires_grad_()
    y = (x * 2.0).to(other)
    (y * y).sum().backward()
    if (
        x.grad is None
        or x.grad.device is not x.device
        or not np.allclose(x.grad.numpy(), 8 * host, rtol=1e-4)
    ):
        raise Failure(f"a gradient that comes back from {other} is wrong")


def _apart(run: Run, other: Device) -> None:
    """No op takes operands of two devices."""
    x = run.subject.tensor(np.ones(3), "float32")
    try:
        ops.add(x, pg.ones((3,), device=other))
    except DeviceError:
        return
    raise Failure("an op takes operands of two devices")


def _streams(run: Run, other: Device) -> None:
    """Each device has random numbers of its own."""
    generator = pg.random.Generator(3)
    mine, theirs = (
        pg.random.uniform((1000,), device=d, generator=generator).numpy() for d in (run.subject.device, other)
    )
    if len(np.intersect1d(mine, theirs)) > 5:
        raise Failure(f"{other} draws the same random numbers")


NAMED: Final[dict[str, Callable[[Run, Device], None]]] = {
    "moves": _moves,
    "computes": _computes,
    "apart": _apart,
    "random-streams": _streams,
}
