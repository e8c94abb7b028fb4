"""``leaks``: memory that an op took is given back, on the device and on the host."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad.dtypes import float32
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run, floating_at, place_on, pulled
from plugrad_conformance.checks.forward import has_floats, op_of
from plugrad_conformance.measure import Failure
from plugrad_conformance.subject import flat, names_missing_dtype, placed, rounded, samples_of, stated_ops

TIMES: Final = 25
NOISE: Final = 40
"""Bytes a time that are no array: an interned integer, a slot of a dictionary."""


def cases() -> Iterator[Case]:
    """Every op, its gradient with it where there is one."""
    for op in stated_ops():
        yield Case(
            "leaks",
            op.name,
            "float32",
            "",
            Level.L4,
            frozenset(),
            op.name,
            "vjp" if op.differentiable else "forward",
        )


def run(run: Run) -> None:
    """The largest sample many times; what lives afterwards is what lived before."""
    op, subject = op_of(run), run.subject
    samples = [s for s in samples_of(op, run.case.seed) if not names_missing_dtype(s, subject)]
    sample = max(
        samples,
        key=lambda s: sum(o.size for o in flat(list(s.operands)) if isinstance(o, np.ndarray)),
        default=None,
    )
    if sample is None:
        return
    hosts = [rounded(o, float32) for o in sample.operands]
    asked = floating_at(hosts) if op.differentiable and has_floats(sample) else []

    def ones(outs: list[pg.Tensor]) -> list[pg.Tensor]:
        return [pg.ones_like(o) for o in outs]

    def once() -> None:
        if asked:
            pulled(op, sample, hosts, ones, place_on(subject), asked)
        else:
            sample.apply(op, placed(hosts, place_on(subject)))

    def live() -> int | None:
        subject.backend.synchronize(subject.device)
        stats: dict[str, Any] = subject.backend.memory_stats(subject.device)
        return stats.get("live")

    for _ in range(3):
        once()
    gc.collect()
    before = live()
    tracemalloc.start(1)
    try:
        once()
        gc.collect()
        grown = []
        for _ in range(2):
            host = tracemalloc.get_traced_memory()[0]
            for _ in range(TIMES):
                once()
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0] - host)
    finally:
        tracemalloc.stop()
    after = live()
    if before is not None and after is not None and after > before:
        raise Failure(f"{sample}: {after - before} bytes more live on the device after {2 * TIMES} times")
    # What is kept once, a cache or a larger dictionary, does not grow a second time.
    if min(grown) > NOISE * TIMES:
        raise Failure(
            f"{sample}: {min(grown)} bytes more live on the host after {TIMES} times, and again after as many"
        )
    run.samples += 1
