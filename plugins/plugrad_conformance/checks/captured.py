"""``captured``: every op, and every gradient, through a plan: captured, planned, replayed, against the same oracles.

A plan calls kernels with memory that is reused from replay to replay (``into``), and takes views once. Each case runs
three times: captured and learned, planned, and replayed with other values in between. Where the device cuts regions into
parts, it does so three times more, with regions of values of any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import plugrad as pg
from plugrad.dispatch.modes import changed
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import float32
from plugrad.graph.any_size import of_any_size
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run, forward, gradient
from plugrad_conformance.checks.forward import has_floats, op_of, own_dtype
from plugrad_conformance.subject import names_missing_dtype, samples_of, stated_ops

TIMES = 3


def cases() -> Iterator[Case]:
    """Every op whose shapes are known before its values, and its gradient where it has one."""
    for op in stated_ops():
        if op.data_dependent:
            continue
        samples = samples_of(op, 0)
        dtype = own_dtype(samples)
        yield Case("captured", op.name, dtype, "", Level.L3, frozenset(), op.name, "forward")
        if op.differentiable and dtype == "float32":
            yield Case("captured", f"{op.name}.vjp", dtype, "", Level.L3, frozenset(), op.name, "vjp")


def run(run: Run) -> None:
    """Every sample, through one captured function each, several times with operands of other draws."""
    op, vjp = op_of(run), run.case.direction == "vjp"
    draws = [samples_of(op, run.case.seed + i) for i in range(TIMES)]
    for versions in zip(*draws, strict=True):
        if names_missing_dtype(versions[0], run.subject) or (vjp and not has_floats(versions[0])):
            continue
        for cut in (False, True) if run.subject.capabilities.workers else (False,):
            apply = captured(op, versions[0])
            # Under an observer a captured function runs as it is; a replay is what is to be seen here.
            with changed(observer=None), of_any_size() if cut else nullcontext():
                for sample in versions:
                    if vjp:
                        gradient(run, op, sample, float32, identity=False, apply=apply)
                    else:
                        forward(run, op, sample, float32, apply=apply)
            if not apply.captures():
                run.not_exercised = "functions are not captured here; is PLUGRAD_JIT 0 in the environment?"


def captured(op: Op[..., Any], sample: Sample) -> Any:
    """The op at a sample's attributes as a captured function of its operands."""
    return pg.jit(lambda operands: sample.apply(op, operands))
