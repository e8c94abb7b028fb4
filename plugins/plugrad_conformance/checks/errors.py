"""``errors``: what an op must refuse is refused with the right error, and the device is as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import plugrad as pg
from plugrad.dispatch.op import Kind, Op
from plugrad.dispatch.sample import ErrorSample, Sample
from plugrad.dtypes import ALL, float32
from plugrad.errors import DeviceError, DTypeError, PlugradError, ShapeError
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run, forward, place_on
from plugrad_conformance.checks.forward import op_of
from plugrad_conformance.measure import Failure
from plugrad_conformance.subject import (
    Subject,
    names_missing_dtype,
    placed,
    rounded,
    samples_of,
    stated_ops,
    tensors,
)


def cases() -> Iterator[Case]:
    """Every op that takes a tensor."""
    for op in stated_ops():
        if op.operands:
            yield Case("errors", op.name, "", "", Level.L1, frozenset(), op.name, "forward")


def run(run: Run) -> None:
    """What the op's record says it refuses, wrong dtypes, shapes that do not broadcast, another device's tensor."""
    op, subject = op_of(run), run.subject
    samples = [s for s in samples_of(op, run.case.seed) if not names_missing_dtype(s, subject)]
    refused = [*wrong_dtypes(op, samples, subject), *wrong_shapes(op, samples)]
    if op.errors is not None:
        refused += op.errors(run.rng())
    for sample in refused:
        operands = placed([rounded(o, float32) for o in sample.operands], place_on(subject))
        _refuses(f"{op.name} of {sample}", sample.error, lambda s=sample, o=operands: s.apply(op, o))
        run.samples += 1
    first = next((s for s in samples if any(isinstance(o, np.ndarray) for o in s.operands)), None)
    if first is not None and len(tensors(_placed(first, subject))) > 1:
        operands = _placed(first, subject)
        at = next(i for i, o in enumerate(operands) if isinstance(o, pg.Tensor))
        operands[at] = pg.zeros(operands[at].shape, dtype=operands[at].dtype, device="null")
        _refuses(
            f"{op.name} of {first}, an operand being on another device",
            DeviceError,
            lambda: first.apply(op, operands),
        )
        run.samples += 1
    for good in samples[:2]:
        try:
            forward(Run(run.case, subject), op, good, float32)
        except Failure as failure:
            raise Failure(f"after the errors the op does not work any more: {failure}") from None


def _placed(sample: Sample, subject: Subject) -> list[Any]:
    return placed([rounded(o, float32) for o in sample.operands], place_on(subject))


def _refuses(what: str, error: type[PlugradError], apply: Any) -> None:
    try:
        results = apply()
        for t in tensors(results):
            t.numpy()  # a queue may tell of a wrong index only when it is read
    except error:
        return
    except Exception as other:
        raise Failure(f"{what}: raised {type(other).__name__}: {other}, wanted {error.__name__}") from None
    raise Failure(f"{what}: raised nothing, wanted {error.__name__}")


def wrong_dtypes(op: Op[..., Any], samples: list[Sample], subject: Subject) -> list[ErrorSample]:
    """For each operand of the first sample, a dtype that the op does not take there, if there is one."""
    full = next(
        (s for s in samples if s.operands and all(isinstance(o, np.ndarray) for o in s.operands)), None
    )
    if full is None:
        return []
    found = []
    for i, operand in enumerate(op.operands[: len(full.operands)]):
        # Those of a promoted group are refused together: the promoted dtype is what counts.
        changed = [i] if operand.name not in op.promoted else _promoted(op)
        for dtype in ALL:
            if (
                dtype in op.dtypes[operand.name]
                or dtype not in subject.capabilities.dtypes
                or dtype.is_floating
            ):
                continue
            values = list(full.operands)
            for j in changed:
                if j < len(values):
                    values[j] = np.ones(np.shape(values[j]), dtype.numpy)
            found.append(ErrorSample(DTypeError, *values, **full.attributes))
            break
    return found


def _promoted(op: Op[..., Any]) -> list[int]:
    return [i for i, o in enumerate(op.operands) if o.name in op.promoted]


def wrong_shapes(op: Op[..., Any], samples: list[Sample]) -> list[ErrorSample]:
    """For an elementwise op of several operands, shapes that do not broadcast."""
    if op.kind is not Kind.ELEMENTWISE:
        return []
    for sample in samples:
        arrays = [i for i, o in enumerate(sample.operands) if isinstance(o, np.ndarray) and o.size]
        if len(arrays) < 2:
            continue
        values = list(sample.operands)
        values[arrays[0]] = np.resize(values[arrays[0]], (2, 3))
        values[arrays[1]] = np.resize(values[arrays[1]], (2, 4))
        return [ErrorSample(ShapeError, *values, **sample.attributes)]
    return []
