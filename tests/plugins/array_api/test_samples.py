"""Every op on its samples, forward and backward, against the NumPy backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from support.samples import flat, operands, samples_of, stated_ops

SAMPLED = [op for op in stated_ops() if op.sampler is not None]
DIFFERENTIABLE = [op for op in SAMPLED if op.differentiable]
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


def assert_near(got: np.ndarray, wanted: np.ndarray, dtype: str, message: str) -> None:
    assert got.shape == wanted.shape, message
    assert got.dtype == wanted.dtype, message
    np.testing.assert_allclose(got, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], err_msg=message)


def results(op: Op[..., Any], sample: Sample, dtype: str, device: str) -> list[pg.Tensor]:
    with pg.use_device(device):
        return list(flat(sample.apply(op, operands(sample, dtype, device))))


@pytest.mark.parametrize("op", SAMPLED, ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_forward(op: Op[..., Any], dtype: str, device: str) -> None:
    for sample in samples_of(op):
        got, wanted = results(op, sample, dtype, device), results(op, sample, dtype, "numpy")
        for g, w in zip(got, wanted, strict=True):
            assert g.spec.device.name == device
            assert_near(g.numpy(), w.numpy(), dtype, f"{op.name} {sample}")


def gradients(op: Op[..., Any], sample: Sample, device: str) -> list[np.ndarray]:
    args = operands(sample, "float64", device, requires_grad=True)
    outs = [o for o in flat(sample.apply(op, args)) if o.requires_grad]
    rng = np.random.default_rng(3)
    for i, out in enumerate(outs):
        ct = pg.asarray(rng.standard_normal(out.shape), dtype=out.dtype, device=device)
        out.backward(ct, retain_graph=i + 1 < len(outs))
    return [t.grad.numpy() for t in flat(args) if t.requires_grad and t.grad is not None]


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_backward(op: Op[..., Any], strict: str) -> None:
    for sample in samples_of(op):
        got, wanted = gradients(op, sample, strict), gradients(op, sample, "numpy")
        for g, w in zip(got, wanted, strict=True):
            assert_near(g, w, "float64", f"{op.name} {sample}")


def test_every_primitive_has_a_kernel(device: str) -> None:
    kernels = pg.backend.get_backend(device).kernels
    primitives = [op for op in stated_ops() if op.primitive and "." not in op.name]
    assert len(primitives) > 50
    assert [op.name for op in primitives if op not in kernels] == []
