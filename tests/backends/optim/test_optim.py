"""Optimizers, schedules and clipping: formulas in NumPy, groups, state, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

import plugrad as pg
from plugrad import optim
from plugrad.errors import ArgumentError, CheckpointError, DTypeError, GradientError


def parameter(device: str, *shape: int, dtype: str = "float64", seed: int = 0) -> pg.Tensor:
    values = np.random.default_rng(seed).standard_normal(shape)
    return pg.asarray(values, dtype=dtype, device=device).requires_grad_()


def give(p: pg.Tensor, seed: int) -> np.ndarray:
    grad = np.random.default_rng(seed).standard_normal(p.shape)
    p.grad = pg.asarray(grad, dtype=p.dtype, device=p.device)
    return grad


def test_sgd_is_its_formula(device: str) -> None:
    p = parameter(device, 3, 2)
    want, velocity = p.numpy().copy(), 0.0
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.01)
    for i in range(5):
        g = give(p, i) + 0.01 * want
        velocity = g if i == 0 else 0.9 * velocity + g
        want = want - 0.1 * velocity
        optimizer.step()
    np.testing.assert_allclose(p.numpy(), want, rtol=1e-12)
    assert p.requires_grad
    assert p.is_leaf


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_is_its_formula(device: str, decoupled: bool) -> None:
    p = parameter(device, 3, 2)
    want = p.numpy().copy()
    m = v = 0.0
    kind = optim.AdamW if decoupled else optim.Adam
    optimizer = kind([p], lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    for t in range(1, 6):
        g = give(p, t)
        if decoupled:
            want = want - 0.01 * 0.1 * want
        else:
            g = g + 0.1 * want
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        want = want - 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-6)
        optimizer.step()
    np.testing.assert_allclose(p.numpy(), want, rtol=1e-11)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_each_goes_down_a_bowl(device: str, name: str) -> None:
    p = parameter(device, 4)
    optimizer = getattr(optim, name)([p], lr=0.1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_parameters_keep_their_dtype(device: str, dtype: str) -> None:
    for kind in (optim.SGD, optim.AdamW, optim.RMSprop, optim.Adagrad):
        p = parameter(device, 4, dtype=dtype)
        optimizer = kind([p], lr=0.1)
        give(p, 1)
        optimizer.step()
        assert str(p.dtype) == dtype
        assert np.isfinite(p.numpy().astype(np.float32)).all()


def test_groups_have_settings_of_their_own(device: str) -> None:
    a, b = parameter(device, 2), parameter(device, 2, seed=1)
    optimizer = optim.SGD([{"params": [a], "lr": 0.5}, {"params": b}], lr=0.1)
    before = a.numpy().copy(), b.numpy().copy()
    grads = give(a, 2), give(b, 3)
    optimizer.step()
    np.testing.assert_allclose(a.numpy(), before[0] - 0.5 * grads[0])
    np.testing.assert_allclose(b.numpy(), before[1] - 0.1 * grads[1])
    optimizer.param_groups[1]["lr"] = 0.0
    give(b, 4)
    at = b.numpy().copy()
    optimizer.step()
    np.testing.assert_array_equal(b.numpy(), at)


def test_a_parameter_without_gradient_stays(device: str) -> None:
    a, b = parameter(device, 2), parameter(device, 2, seed=1)
    optimizer = optim.Adam([a, b])
    give(a, 1)
    at = b.numpy().copy()
    optimizer.step()
    np.testing.assert_array_equal(b.numpy(), at)
    assert float(optimizer.state[1]["step"]) == 0
    optimizer.zero_grad()
    assert a.grad is None


def test_state_dict_goes_on_bitwise(device: str) -> None:
    a, b = parameter(device, 3), parameter(device, 3)
    first, second = optim.AdamW([a], lr=0.1), optim.AdamW([b], lr=0.7)
    for i in range(3):
        give(a, i)
        first.step()
    with pg.no_grad():
        b.assign(a.detach())
    second.load_state_dict(first.state_dict())
    assert second.param_groups[0].lr == 0.1
    for i in range(3):
        give(a, 10 + i)
        give(b, 10 + i)
        first.step()
        second.step()
    np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_foreign_state_changes_nothing(device: str) -> None:
    a = parameter(device, 3)
    optimizer = optim.Adam([a], lr=0.1)
    other = optim.SGD([parameter(device, 3)], lr=0.2).state_dict()
    with pytest.raises(CheckpointError, match="it is another optimizer's"):
        optimizer.load_state_dict(other)
    wrong = optim.Adam([parameter(device, 4)], lr=0.2).state_dict()
    with pytest.raises(CheckpointError, match=r"mean of parameter 0 has shape \(4,\), takes \(3,\)"):
        optimizer.load_state_dict(wrong)
    with pytest.raises(CheckpointError, match="no state of an optimizer"):
        optimizer.load_state_dict({})
    with pytest.raises(CheckpointError, match=r"groups of \[2\] parameters, this optimizer of \[1\]"):
        optimizer.load_state_dict(optim.Adam([parameter(device, 3), parameter(device, 3)]).state_dict())
    assert optimizer.param_groups[0].lr == 0.1


def test_errors_at_the_door(device: str) -> None:
    p = parameter(device, 2)
    with pytest.raises(ArgumentError, match="there are no parameters"):
        optim.SGD([])
    with pytest.raises(ArgumentError, match="stands twice"):
        optim.SGD([p, p])
    with pytest.raises(ArgumentError, match="takes tensors, got ndarray"):
        optim.SGD([np.zeros(2)])  # type: ignore[list-item]
    with pytest.raises(GradientError, match="must be a leaf"):
        optim.SGD([p * 2])
    with pytest.raises(DTypeError, match="must be floating, this one is int64"):
        optim.SGD([pg.zeros((2,), dtype="int64", device=device)])
    with pytest.raises(ArgumentError, match=r"lr: takes a number of at least 0, got -1"):
        optim.SGD([p], lr=-1)
    with pytest.raises(ArgumentError, match=r"lr: takes a number of at least 0, got nan"):
        optim.SGD([p], lr=math.nan)
    with pytest.raises(ArgumentError, match="Adam: betas takes two numbers"):
        optim.Adam([p], betas=(0.9, 1.0))
    with pytest.raises(ArgumentError, match="nesterov needs a momentum"):
        optim.SGD([p], nesterov=True)
    with pytest.raises(ArgumentError, match="no setting 'learning_rate'; there are lr, momentum"):
        optim.SGD([{"params": [p], "learning_rate": 1.0}])
    with pytest.raises(ArgumentError, match="no setting 'beta'"):
        optim.Adam([p]).param_groups[0]["beta"] = 1


def test_schedules(device: str) -> None:
    optimizer = optim.SGD([parameter(device, 2)], lr=1.0)
    warm = optim.LinearLR(optimizer, start_factor=0.25, total_iters=3)
    cosine = optim.CosineAnnealingLR(optimizer, T_max=4)
    schedule = optim.SequentialLR(optimizer, [warm, cosine], milestones=[3])
    rates = []
    for _ in range(7):
        rates += schedule.last_lr()
        schedule.step()
    expected = [0.25, 0.5, 0.75, 1.0] + [(1 + math.cos(math.pi * t / 4)) / 2 for t in (1, 2, 3)]
    np.testing.assert_allclose(rates, expected)


def test_a_schedule_is_resumed_by_its_state(device: str) -> None:
    optimizer = optim.SGD([parameter(device, 2)], lr=1.0)
    schedule = optim.StepLR(optimizer, step_size=2, gamma=0.1)
    for _ in range(5):
        schedule.step()
    again = optim.StepLR(optim.SGD([parameter(device, 2)], lr=9.0), step_size=2, gamma=0.1)
    again.load_state_dict(schedule.state_dict())
    assert again.last_lr() == schedule.last_lr()
    with pytest.raises(CheckpointError, match="StepLR: takes steps and 1 base rates"):
        again.load_state_dict({"steps": 1})


def test_schedules_refuse_impossible_numbers(device: str) -> None:
    optimizer = optim.SGD([parameter(device, 2)], lr=1.0)
    with pytest.raises(ArgumentError, match="StepLR: step_size takes a number above 0, got 0"):
        optim.StepLR(optimizer, step_size=0)
    with pytest.raises(ArgumentError, match="takes an Optimizer, got int"):
        optim.ExponentialLR(3, gamma=0.1)  # type: ignore[arg-type]
    schedule = optim.OneCycleLR(optimizer, max_lr=1.0, total_steps=3)
    schedule.step()
    schedule.step()
    with pytest.raises(ArgumentError, match="step 3 of a cycle of 3 steps"):
        schedule.step()


def test_clipping(device: str) -> None:
    a, b = parameter(device, 3), parameter(device, 2, 2)
    grads = give(a, 1), give(b, 2)
    norm = math.sqrt(sum((g * g).sum() for g in grads))
    got = optim.clip_grad_norm([a, b], max_norm=0.1)
    assert float(got) == pytest.approx(norm)
    left = math.sqrt(sum((p.grad.numpy() ** 2).sum() for p in (a, b)))
    assert left == pytest.approx(0.1, rel=1e-4)
    before = a.grad.numpy()
    optim.clip_grad_norm([a, b], max_norm=10.0)
    np.testing.assert_array_equal(a.grad.numpy(), before)
    give(a, 3)
    optim.clip_grad_value([a], 0.2)
    assert np.abs(a.grad.numpy()).max() <= 0.2
    a.grad = pg.asarray(np.array([1.0, np.nan, 1.0]), device=device)
    with pytest.raises(GradientError, match="norm of the gradients is nan"):
        optim.clip_grad_norm([a], 1.0, error_if_nonfinite=True)
    with pytest.raises(ArgumentError, match="max_norm"):
        optim.clip_grad_norm([a], -1.0)
