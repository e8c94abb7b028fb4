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

TIMES: Final = 10
ROUNDS: Final = 40
NOISE: Final = 64
"""Bytes a time that are no array: an interned integer, a slot of a dictionary."""


def cases() -> Iterator[Case]:
    """Every op, its gradient with it where there is one."""
    for op in stated_ops():
        yield Case("leaks", op.name, "float32", "", Level.L4, frozenset(), op.name, "forward")


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
    gc.freeze()  # what is there already is not looked at by each collection
    before = live()
    tracemalloc.start(1)
    try:
        once()
        gc.collect()
        for _ in range(ROUNDS):
            host = tracemalloc.get_traced_memory()[0]
            for _ in range(TIMES):
                once()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - host
            # Caches fill up, and small blocks from before the tracing are replaced by traced ones: that stops.
            if grown <= NOISE * TIMES:
                break
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    after = live()
    if before is not None and after is not None and after > before:
        raise Failure(f"{sample}: {after - before} bytes more live on the device after the same work")
    if grown > NOISE * TIMES:
        raise Failure(f"{sample}: {grown} bytes more live on the host after each {TIMES} times")
    run.samples += 1
