"""What a kernel gives, held against the op's body and its shape rule, in every floating dtype."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.backend import backend_of
from plugrad.dispatch.lowering import apply_body
from plugrad.dispatch.op import Op
from plugrad.errors import DTypeError
from support.samples import flat, normalized, operands, samples_of, stated_ops

SAMPLED = [op for op in stated_ops() if op.sampler is not None]
TOLERANCE = {"float64": 1e-11, "float32": 2e-5, "bfloat16": 3e-2, "float16": 4e-3}


@pytest.mark.parametrize("op", SAMPLED, ids=lambda op: op.name)
def test_results_have_the_specs_of_the_rule(op: Op[..., Any], device: str) -> None:
    for sample in samples_of(op):
        for result in flat(sample.apply(op, operands(sample, "float32", device))):
            array = backend_of(result.device).to_host(result._array)
            assert array.shape == result.shape, f"{op.name} {sample}"
            assert array.dtype == result.dtype.numpy, f"{op.name} {sample}"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("op", SAMPLED, ids=lambda op: op.name)
def test_lower_precision_agrees_with_float64(op: Op[..., Any], dtype: str, device: str) -> None:
    for sample in samples_of(op):
        low = operands(sample, dtype, device)
        # The same values in float64: what is compared is the arithmetic, not the rounding of the inputs.
        high = [
            [v.astype("float64") if v.dtype.is_floating else v for v in a]
            if isinstance(a, list)
            else (a.astype("float64") if isinstance(a, pg.Tensor) and a.dtype.is_floating else a)
            for a in low
        ]
        try:
            expected = list(flat(sample.apply(op, high)))
            got = list(flat(sample.apply(op, low)))
        except DTypeError:
            continue
        for g, e in zip(got, expected, strict=True):
            if not g.dtype.is_floating:
                continue
            scale = np.abs(e.numpy()[np.isfinite(e.numpy())]).max(initial=1.0)
            np.testing.assert_allclose(
                g.numpy().astype(np.float64) / scale,
                e.numpy() / scale,
                rtol=TOLERANCE[dtype],
                atol=TOLERANCE[dtype],
                err_msg=f"{op.name} {sample}",
            )


# A transparent op is its body: there would be nothing to hold it against.
WITH_BODY = [op for op in SAMPLED if op.body is not None and not op.transparent]


@pytest.mark.parametrize("op", WITH_BODY, ids=lambda op: op.name)
def test_kernel_agrees_with_body(op: Op[..., Any], device: str) -> None:
    for sample in samples_of(op):
        args = operands(sample, "float64", device)
        out = list(flat(sample.apply(op, args)))
        defaults = {
            name: p.default
            for name, p in inspect.signature(op.__wrapped__).parameters.items()  # type: ignore[attr-defined]
            if p.default is not p.empty
        }
        attributes = {k: v for k, v in {**defaults, **sample.attributes}.items() if k in op.attributes}
        # A body gets tensors, also where the call has a Python number.
        floating = next((a.dtype for a in args if isinstance(a, pg.Tensor) and a.dtype.is_floating), None)
        padded = [
            pg.asarray(a, dtype=floating, device=device) if isinstance(a, (bool, int, float)) else a
            for a in args
        ] + [None] * (len(op.operands) - len(args))
        body = list(flat(apply_body(op, padded, normalized(op, padded, attributes))))
        for o, b in zip(out, body, strict=False):
            assert o.dtype is b.dtype
            np.testing.assert_allclose(
                o.numpy(), b.numpy(), rtol=1e-11, atol=1e-11, err_msg=f"{op.name} {sample}"
            )
