"""Kernels of movement, creation and indexing write the whole of ``into``, of any layout, and change no operand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.dispatch.op import Kind, Op
from plugrad_numpy.kernels import table
from support.samples import flat, operands, samples_of, stated_ops

KINDS = (Kind.MOVEMENT, Kind.CREATION, Kind.INDEXING)
OPS = [
    op
    for op in stated_ops()
    if op.kind in KINDS and op.sampler is not None and op in table and not op.data_dependent
]


def checked(function: Any) -> Any:
    """A kernel that also writes to arrays that it is given, which hold something else before."""

    def run(*arrays: Any, **attributes: Any) -> Any:
        before = [np.array(a) for a in flat_arrays(arrays)]
        out = function(*arrays, **attributes)
        for order in ("C", "F"):
            rubbish = np.full(np.shape(out), 7, np.asarray(out).dtype)
            into = np.asarray(rubbish, order=order)  # type: ignore[call-overload]
            assert function(*arrays, into=into, **attributes) is into
            np.testing.assert_array_equal(into, out)
        for array, old in zip(flat_arrays(arrays), before, strict=True):
            np.testing.assert_array_equal(array, old)
        run.calls += 1  # type: ignore[attr-defined]
        return out

    run.calls = 0  # type: ignore[attr-defined]
    return run


def flat_arrays(arrays: Sequence[Any]) -> list[Any]:
    return [a for x in arrays for a in (x if isinstance(x, list) else [x]) if a is not None]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_into(op: Op[..., Any], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def find(self: Any, wanted: Any, specs: Any, attributes: Any) -> Any:
        found = original(self, wanted, specs, attributes)
        if found is None or wanted.kind not in KINDS:
            return found
        calls.append(checked(found.function))
        return type(found)(calls[-1], found.when, found.inplace)

    original = type(table).find
    monkeypatch.setattr(type(table), "find", find)
    kept = {other: dict(other.cache) for other in stated_ops()}
    try:
        for other in kept:
            other.cache.clear()
        for sample in samples_of(op):
            given = operands(sample, dtype, "numpy", requires_grad=bool(op.differentiable))
            for out in flat(sample.apply(op, given)):
                if out.requires_grad:
                    out.backward(pg.ones_like(out))
    finally:
        for other, cache in kept.items():
            other.cache.clear()
            other.cache.update(cache)
    assert sum(c.calls for c in calls) >= len(samples_of(op))
