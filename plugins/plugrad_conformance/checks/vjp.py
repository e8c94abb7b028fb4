"""``vjp``: every gradient, against the op's rule on oracles, and that rule against finite differences of the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from plugrad.dispatch.op import Kind
from plugrad.dtypes import FLOATING, as_dtype, float32
from plugrad_conformance.cases import Case, Level, needed
from plugrad_conformance.checks._applying import Run, floating_at, gradient
from plugrad_conformance.checks.forward import has_floats, op_of, takes
from plugrad_conformance.subject import names_missing_dtype, samples_of, stated_ops

TIED = (Kind.ELEMENTWISE, Kind.REDUCTION, Kind.SCAN, Kind.SORTING)
"""Families whose rules state what the derivative is at a kink and in a tie."""


def cases() -> Iterator[Case]:
    """Float32 is level 2, every other dtype level 3.

    The variant ``each`` asks for the gradient of one operand at a time, ``ties`` goes to kinks and ties: there the
    rule is what the op states, and no finite difference can tell.
    """
    for op in stated_ops():
        if not op.differentiable:
            continue
        samples = [s for s in samples_of(op, 0) if has_floats(s)]

        def case(dtype: str, variant: str, level: Level, name: str = op.name) -> Case:
            return Case("vjp", name, dtype, variant, level, needed(dtype), name, "vjp")

        yield case("float32", "", Level.L2)
        if any(len(floating_at(s.operands)) > 1 for s in samples):
            yield case("float32", "each", Level.L2)
        if op.kind in TIED:
            yield case("float32", "ties", Level.L2)
        for d in FLOATING:
            if d is not float32 and any(takes(op, s, d.name) for s in samples):
                yield case(d.name, "", Level.L3)


def run(run: Run) -> None:
    """Every sample with a floating operand."""
    op, dtype, variant = op_of(run), as_dtype(run.case.dtype), run.case.variant
    for sample in samples_of(op, run.case.seed):
        if not has_floats(sample) or names_missing_dtype(sample, run.subject):
            continue
        if not takes(op, sample, dtype.name):
            continue
        if variant == "ties" and not sample.attributes.get("stable", True):
            continue  # which of equal elements a gradient goes to is then not said
        operands = [halves(o) for o in sample.operands] if variant == "ties" else sample.operands
        places: list[list[int] | None] = [None]
        if variant == "each":
            places = [[i] for i in floating_at(sample.operands)]
        for wrt in places:
            gradient(
                run,
                op,
                sample,
                dtype,
                wrt=wrt,
                operands=operands,
                identity=variant != "ties" and dtype is float32,
                loose=variant == "ties",
            )
    if not run.samples:
        raise LookupError(f"no sample of {op.name} has a gradient in {dtype}")


def halves(value: Any) -> Any:
    """Floating values rounded to halves: kinks are met, and ties are common."""
    if isinstance(value, list):
        return [halves(v) for v in value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return np.round(value * 2) / 2
    return value
