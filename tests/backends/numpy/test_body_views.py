"""Bodies on NumPy arrays, where a view shows: an op that does not say `may_alias` gives memory of its own."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.dispatch.lowering import apply_body
from plugrad.dispatch.op import Op
from support.samples import flat, normalized, operands, samples_of, stated_ops

OWNING = [
    op
    for op in stated_ops()
    if op.sampler is not None and op.body is not None and not op.transparent and not op.may_alias
]


@pytest.mark.parametrize("op", OWNING, ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_bodies_give_no_views(op: Op[..., Any], dtype: str) -> None:
    parameters = inspect.signature(op.__wrapped__).parameters.values()  # type: ignore[attr-defined]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    for sample in samples_of(op):
        args = operands(sample, dtype, "numpy")
        floating = next((a.dtype for a in flat(args) if a.dtype.is_floating), None)
        args = [
            pg.asarray(a, dtype=floating, device="numpy") if isinstance(a, (bool, int, float)) else a
            for a in args
        ] + [None] * (len(op.operands) - len(args))
        attributes = {k: v for k, v in {**defaults, **sample.attributes}.items() if k in op.attributes}
        results = list(flat(apply_body(op, args, normalized(op, args, attributes))))
        for result in results:
            for operand in flat(args):
                assert not np.may_share_memory(result._array, operand._array), f"{op.name} {sample}"
