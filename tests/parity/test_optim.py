"""Optimizers and schedules against PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import plugrad as pg
from plugrad import optim

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-5, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"centered": True, "alpha": 0.9}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize(("name", "settings"), OPTIMIZERS, ids=lambda v: str(v))
def test_twenty_steps(name: str, settings: dict, dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal(s).astype(dtype) for s in ((3, 4), (5,), ())]
    ours = [pg.asarray(s).requires_grad_() for s in starts]
    theirs = [torch.tensor(s, requires_grad=True) for s in starts]
    a = getattr(optim, name)(ours, **settings)
    b = getattr(torch.optim, name)(theirs, **settings)
    for _ in range(20):
        for p, q in zip(ours, theirs, strict=True):
            grad = rng.standard_normal(p.shape).astype(dtype)
            p.grad = pg.asarray(grad)
            q.grad = torch.tensor(grad)
        a.step()
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=tolerance, atol=tolerance)


SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 7], "gamma": 0.1}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("LinearLR", {"start_factor": 0.1, "total_iters": 4}),
    ("CosineAnnealingLR", {"T_max": 10, "eta_min": 0.01}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 30}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 30, "anneal_strategy": "linear", "pct_start": 0.2}),
]


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize(("name", "settings"), SCHEDULES, ids=lambda v: str(v))
def test_schedules(name: str, settings: dict) -> None:
    a = optim.SGD([pg.zeros((1,)).requires_grad_()], lr=0.3)
    b = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    ours = getattr(optim, name)(a, **settings)
    theirs = getattr(torch.optim.lr_scheduler, name)(b, **settings)
    for _ in range(20):
        assert a.param_groups[0].lr == pytest.approx(b.param_groups[0]["lr"], rel=1e-9)
        ours.step()
        theirs.step()


def test_clip_grad_norm() -> None:
    rng = np.random.default_rng(1)
    grads = [rng.standard_normal(s).astype("float32") for s in ((3, 4), (5,))]
    for norm_type in (1.0, 2.0, 3.0, float("inf")):
        for max_norm in (0.5, 100.0):
            ours = [pg.zeros(g.shape).requires_grad_() for g in grads]
            theirs = [torch.zeros(g.shape, requires_grad=True) for g in grads]
            for p, q, g in zip(ours, theirs, grads, strict=True):
                p.grad, q.grad = pg.asarray(g), torch.tensor(g)
            a = optim.clip_grad_norm(ours, max_norm, norm_type)
            b = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
            assert float(a) == pytest.approx(float(b), rel=1e-5)
            for p, q in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5)
