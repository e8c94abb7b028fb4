"""Every op, and every gradient, through a plan: the same bits as without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.dispatch.op import Op
from plugrad.graph.jitted import jit
from support.samples import flat, operands, samples_of, stated_ops

OPS = [op for op in stated_ops() if op.sampler is not None and not op.data_dependent]


def same(got: Any, wanted: Any, what: str) -> None:
    ours, theirs = list(flat(got)), list(flat(wanted))
    assert len(ours) == len(theirs), what
    for g, w in zip(ours, theirs, strict=True):
        assert g.spec is w.spec, what
        assert g.requires_grad == w.requires_grad, what
        np.testing.assert_array_equal(g.numpy(), w.numpy(), err_msg=what)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_forward(op: Op[..., Any], device: str) -> None:
    for sample in samples_of(op):
        with pg.use_device(device):
            args = operands(sample, "float32", device)
            captured = jit(lambda args, sample=sample: sample.apply(op, args))
            wanted = sample.apply(op, args)
            for _ in range(2):
                same(captured(args), wanted, f"{op.name} {sample}")


@pytest.mark.parametrize("op", [op for op in OPS if op.differentiable], ids=lambda op: op.name)
def test_gradients_inside_and_outside(op: Op[..., Any], device: str) -> None:
    for sample in samples_of(op):

        def total(args: list[Any], sample: Any = sample) -> Any:
            outs = [r for r in flat(sample.apply(op, args)) if r.dtype.is_floating]
            return sum(((o * o).sum().astype("float32") for o in outs), start=pg.zeros((), device=device))

        def inside(args: list[Any]) -> list[Any]:
            loss = total(args)
            if loss.requires_grad:
                loss.backward()
            return [t.grad for t in flat(args)]

        with pg.use_device(device):
            wanted_args = operands(sample, "float32", device, requires_grad=True)
            loss = total(wanted_args)
            if not loss.requires_grad:
                continue
            loss.backward()
            wanted = [t.grad for t in flat(wanted_args)]
            outside = operands(sample, "float32", device, requires_grad=True)
            captured = jit(total)
            for _ in range(2):
                for t in flat(outside):
                    if t.requires_grad:
                        t.grad = None
                captured(outside).backward()
                for t, w in zip(flat(outside), wanted, strict=True):
                    assert (t.grad is None) == (w is None), f"{op.name} {sample}"
                    if w is not None:
                        np.testing.assert_array_equal(
                            t.grad.numpy(), w.numpy(), err_msg=f"{op.name} {sample}"
                        )
            captured = jit(inside)
            for _ in range(2):
                for t in flat(outside):
                    if t.requires_grad:
                        t.grad = None
                for t, got, w in zip(flat(outside), captured(outside), wanted, strict=True):
                    assert (got is None) == (w is None) == (t.grad is None), f"{op.name} {sample}"
                    if w is not None:
                        np.testing.assert_array_equal(got.numpy(), w.numpy(), err_msg=f"{op.name} {sample}")
                        np.testing.assert_array_equal(
                            t.grad.numpy(), w.numpy(), err_msg=f"{op.name} {sample}"
                        )
