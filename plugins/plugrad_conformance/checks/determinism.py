"""``determinism``: the same application gives the same bits again, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import plugrad as pg
from plugrad.dtypes import float32
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run, floating_at, place_on, pulled
from plugrad_conformance.checks.forward import has_floats, op_of, own_dtype
from plugrad_conformance.checks.sizes import larger
from plugrad_conformance.measure import Failure
from plugrad_conformance.subject import names_missing_dtype, placed, rounded, samples_of, stated_ops, tensors

TIMES = 3


def cases() -> Iterator[Case]:
    """Every op, and every gradient."""
    for op in stated_ops():
        yield Case(
            "determinism",
            op.name,
            own_dtype(samples_of(op, 0)),
            "",
            Level.L3,
            frozenset(),
            op.name,
            "forward",
        )
        if op.differentiable:
            yield Case("determinism", f"{op.name}.vjp", "float32", "", Level.L3, frozenset(), op.name, "vjp")


def run(run: Run) -> None:
    """A few samples and a large one, three times each."""
    op, subject, rng = op_of(run), run.subject, run.rng()
    samples = [s for s in samples_of(op, run.case.seed) if not names_missing_dtype(s, subject)]
    for sample in [*samples[-3:], *larger(op, samples, rng)[-1:]]:
        hosts = [rounded(o, float32) for o in sample.operands]

        def once(sample: Any = sample, hosts: Any = hosts) -> list[bytes]:
            if run.case.direction == "forward":
                results = tensors(sample.apply(op, placed(hosts, place_on(subject))))
            elif not has_floats(sample):
                return []
            else:
                fixed = np.random.default_rng(run.case.seed)

                def cts(outs: list[pg.Tensor]) -> list[pg.Tensor]:
                    return [
                        pg.asarray(
                            fixed.standard_normal(o.shape).astype(o.dtype.numpy), device=subject.device
                        )
                        for o in outs
                    ]

                found, _, _ = pulled(op, sample, hosts, cts, place_on(subject), floating_at(hosts))
                results = [t for t in found if t is not None]
            return [np.ascontiguousarray(subject.host(t)).tobytes() for t in results]

        first = once()
        for _ in range(TIMES - 1):
            if once() != first:
                raise Failure(f"{sample}: the bits differ from one time to the next")
        run.samples += 1
