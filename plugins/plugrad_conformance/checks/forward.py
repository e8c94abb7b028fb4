"""``forward``: every op at its own samples, in every dtype, against its oracle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import FLOATING, INTEGER, as_dtype, float32, int64
from plugrad_conformance.cases import Case, Level, needed
from plugrad_conformance.checks._applying import Run, forward
from plugrad_conformance.subject import flat, names_missing_dtype, samples_of, stated_ops


def cases() -> Iterator[Case]:
    """Float32, or the dtype that the samples have, is level 1; every other is level 3."""
    for op in stated_ops():
        samples = samples_of(op, 0)
        first = own_dtype(samples)
        yield Case("forward", op.name, first, level=Level.L1, op=op.name, direction="forward")
        if first == "float32":
            for d in FLOATING:
                if d is not float32 and any(takes(op, s, d.name) for s in samples):
                    yield Case("forward", op.name, d.name, "", Level.L3, needed(d.name), op.name, "forward")
        for d in INTEGER:
            if d is not int64 and d.name != first and any(_recast(op, s, d.name) for s in samples):
                yield Case("forward", op.name, d.name, level=Level.L3, op=op.name, direction="forward")


def run(run: Run) -> None:
    """Every sample, or for an integer dtype those that can be had in it."""
    op = op_of(run)
    dtype = as_dtype(run.case.dtype)
    for sample in samples_of(op, run.case.seed):
        if names_missing_dtype(sample, run.subject):
            continue
        if run.case.level is Level.L1:
            forward(run, op, sample, float32)
        elif dtype.is_floating:
            if takes(op, sample, dtype.name):
                forward(run, op, in_dtype(sample, dtype.name), dtype)
        elif (operands := _recast(op, sample, dtype.name)) is not None:
            forward(run, op, sample, float32, operands=operands)


def op_of(run: Run) -> Op[..., Any]:
    """The op of a case."""
    return next(op for op in stated_ops() if op.name == run.case.op)


def own_dtype(samples: Sequence[Sample]) -> str:
    """The dtype under which an op's samples, as they are stated, go: float32 where one has a floating operand."""
    arrays = [o for s in samples for o in flat(list(s.operands)) if isinstance(o, np.ndarray)]
    if not arrays or any(a.dtype.kind == "f" for a in arrays):
        return "float32"
    return as_dtype(arrays[0].dtype).name


def in_dtype(sample: Sample, dtype: str) -> Sample:
    """The sample, or, where it makes a float32 result of no floating operand, the one that makes ``dtype``."""
    if "dtype" not in sample.attributes or has_floats(sample):
        return sample
    return Sample(*sample.operands, **{**sample.attributes, "dtype": dtype})


def has_floats(sample: Sample) -> bool:
    """Whether an operand of the sample is a floating array."""
    return any(isinstance(o, np.ndarray) and o.dtype.kind == "f" for o in flat(list(sample.operands)))


def takes(op: Op[..., Any], sample: Sample, dtype: str) -> bool:
    """Whether the sample changes with the floating dtype under test, and the op takes that."""
    if not has_floats(sample):
        stated = sample.attributes.get("dtype")
        return stated is not None and as_dtype(stated).is_floating and not sample.operands
    for operand, value in zip(op.operands, sample.operands, strict=False):
        for v in flat([value]):
            floating = isinstance(v, np.ndarray) and v.dtype.kind == "f"
            if floating and as_dtype(dtype) not in op.dtypes[operand.name]:
                return False
    return True


def _recast(op: Op[..., Any], sample: Sample, dtype: str) -> list[Any] | None:
    """The operands with their int64 arrays as ``dtype``, or None where the sample has none that the op takes so."""
    target = as_dtype(dtype)
    changed = False
    out: list[Any] = []
    if has_floats(sample):
        return None
    for operand, value in zip(op.operands, sample.operands, strict=False):
        taken = target in op.dtypes[operand.name]
        if isinstance(value, np.ndarray) and value.dtype == np.int64 and taken:
            # Unsigned ones wrap around: large values are what tells their order from a signed one.
            out.append(value.astype(target.numpy))
            changed = True
        elif isinstance(value, int) and not isinstance(value, bool) and target.kind == "uint":
            out.append(abs(value))
        else:
            out.append(value)
    return out if changed else None
