"""What a captured function has read of Python, and what becomes of it when that changes: a new capture, never a stale one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from support.captured import bits, same


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8, 2)
        self.scale = 1.0

    def forward(self, x: pg.Tensor) -> pg.Tensor:
        return self.last(self.drop(pg.relu(self.norm(self.first(x))))) * self.scale


def build(device: str) -> tuple[Net, optim.AdamW, pg.Tensor, pg.Tensor]:
    pg.random.manual_seed(0)
    model = Net()
    rng = np.random.default_rng(0)
    x = pg.asarray(rng.standard_normal((6, 4)).astype("float32"), device=device)
    y = pg.asarray(rng.integers(0, 2, 6), device=device)
    return model, optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1), x, y


def evaluation(model: Net, _: Any) -> None:
    model.eval()


def training_again(model: Net, _: Any) -> None:
    model.eval()
    model.train()


def another_parameter(model: Net, _: Any) -> None:
    model.first.weight = nn.Parameter(pg.ones((8, 4)))


def another_module(model: Net, _: Any) -> None:
    model.drop = nn.Dropout(0.0)


def frozen(model: Net, _: Any) -> None:
    model.first.weight.requires_grad = False


def frozen_and_back(model: Net, _: Any) -> None:
    model.last.weight.requires_grad = False
    model.last.weight.requires_grad = True


def another_number(model: Net, _: Any) -> None:
    model.scale = 3.0


def weight_decay(_: Net, optimizer: optim.AdamW) -> None:
    optimizer.param_groups[0]["weight_decay"] = 0.5


def rate(_: Net, optimizer: optim.AdamW) -> None:
    optimizer.param_groups[0].lr = 0.5


def state(model: Net, _: Any) -> None:
    model.load_state_dict({k: t + 1 for k, t in model.state_dict().items()})


def optimizer_state(_: Net, optimizer: optim.AdamW) -> None:
    saved = optimizer.state_dict()
    saved["state"] = {i: {k: t * 2.0 for k, t in s.items()} for i, s in saved["state"].items()}
    saved["param_groups"] = [{**g, "lr": 0.2, "eps": 1e-3} for g in saved["param_groups"]]
    optimizer.load_state_dict(saved)


def seed(_: Net, __: Any) -> None:
    pg.random.manual_seed(5)


def no_gradients(model: Net, _: Any) -> None:
    model.zero_grad()


CHANGES: list[tuple[Callable[[Net, Any], None], int]] = [
    (evaluation, 2),
    (training_again, 1),
    (another_parameter, 3),
    (another_module, 2),
    (frozen, 2),
    (frozen_and_back, 2),
    (another_number, 2),
    (weight_decay, 2),
    (rate, 1),
    (state, 1),
    (optimizer_state, 2),
    (seed, 1),
    (no_gradients, 1),
]


@pytest.mark.parametrize(("change", "captures"), CHANGES, ids=lambda c: getattr(c, "__name__", ""))
def test_a_change_between_steps(change: Callable[[Net, Any], None], captures: int, device: str) -> None:
    def run(captured: bool) -> Any:
        with pg.use_device(device):
            model, optimizer, x, y = build(device)
            loss_fn = nn.CrossEntropyLoss()

            def step(x: pg.Tensor, y: pg.Tensor) -> Any:
                optimizer.zero_grad()
                out = model(x)
                loss = loss_fn(out, y)
                loss.backward()
                optimizer.step()
                return loss, out

            fn = pg.jit(step) if captured else step
            found = []
            for i in range(6):
                if i == 3:
                    change(model, optimizer)
                out = bits(fn(x, y))
                grads = bits([p.grad for p in model.parameters()])
                found.append([out, grads, bits(model.state_dict()), bits(optimizer.state_dict()["state"])])
            if captured:
                assert len(fn.info()) == captures, fn.info()
            return found

    same(run(True), run(False))


def test_attributes_that_are_read_without_a_call(device: str) -> None:
    with pg.use_device(device):
        model, _, x, _ = build(device)

    class Holder:
        def __init__(self) -> None:
            self.model = model

        @pg.jit
        def method(self, x: pg.Tensor) -> pg.Tensor:
            return x @ pg.permute_dims(self.model.first.weight, (1, 0))

    def closure(x: pg.Tensor) -> pg.Tensor:
        return pg.sum(x) * model.scale

    holder = Holder()
    captured = pg.jit(closure)
    argument = pg.jit(lambda m, x: x * m.scale)
    for value in (1.0, 2.0, 3.0):
        model.scale = value
        with pg.use_device(device):
            model.first.weight = nn.Parameter(pg.ones((8, 4)) * value)
        same(bits(captured(x)), bits(closure(x)))
        same(bits(argument(model, x)), bits(x * value))
        same(bits(holder.method(x).detach()), bits(x @ pg.permute_dims(model.first.weight.detach(), (1, 0))))


def test_another_dtype(device: str) -> None:
    with pg.use_device(device):
        model, _, x, _ = build(device)
        model.eval()
        captured = pg.jit(model)
        same(bits(captured(x)), bits(model(x)))
        model.to("float64")
        wide = x.astype("float64")
        assert captured(wide).dtype is pg.float64
        same(bits(captured(wide)), bits(model(wide)))
        assert len(captured.info()) == 2


def test_modes_are_a_part_of_the_signature(device: str) -> None:
    with pg.use_device(device):
        model, _, x, _ = build(device)
        model.eval()
        captured = pg.jit(model)
        for _ in range(2):
            assert captured(x).requires_grad
            with pg.no_grad():
                assert not captured(x).requires_grad
            with pg.autocast("bfloat16"):
                got = captured(x)
                assert got.dtype is pg.bfloat16
                same(bits(got), bits(model(x)))
            with pg.set_matmul_precision("high"):
                same(bits(captured(x)), bits(model(x)))
        assert len(captured.info()) == 4


def test_the_current_device_is_a_part_of_the_signature(device: str) -> None:
    captured = pg.jit(lambda: pg.zeros((2,)))
    with pg.use_device(device):
        assert str(captured().device) == device
    with pg.use_device("null"):
        assert captured().device.name == "null"
    assert len(captured.info()) == 2


def counted(calls: list[int]) -> Any:
    @pg.jit
    def fn(x: pg.Tensor) -> pg.Tensor:
        calls.append(1)
        return x + 1.0

    return fn


def test_capture_can_be_turned_off(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    fn, x = counted(calls), pg.zeros((2,), device=device)
    monkeypatch.setenv("PLUGRAD_JIT", "0")
    for _ in range(3):
        np.testing.assert_array_equal(fn(x).numpy(), [1, 1])
    assert len(calls) == 3
    assert fn.info() == []
    monkeypatch.delenv("PLUGRAD_JIT")
    assert "PLUGRAD_JIT" not in os.environ
    for _ in range(3):
        fn(x)
    assert len(calls) == 4


def test_anomalies_are_looked_for_eagerly(device: str) -> None:
    calls: list[int] = []
    fn, x = counted(calls), pg.zeros((2,), device=device)
    fn(x)
    with pg.detect_anomaly():
        fn(x)
        fn(x)
        with pytest.raises(FloatingPointError, match="log"):
            pg.jit(lambda x: pg.log(x))(x)
    assert len(calls) == 3


def test_the_cache_is_bounded_and_says_so_once(device: str) -> None:
    calls: list[int] = []
    fn = counted(calls)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(1, 21):
            fn(pg.zeros((n,), device=device))
    assert [str(w.message) for w in caught if "more than 16 times" in str(w.message)] == [
        str(caught[0].message)
    ]
    assert caught[0].filename == __file__
    assert len(fn.info()) == 16
    assert len(calls) == 20
    fn(pg.zeros((20,), device=device))
    assert len(calls) == 20
    fn(pg.zeros((1,), device=device))  # the oldest, which went
    assert len(calls) == 21


def test_info_names_signature_and_size(device: str) -> None:
    fn = pg.jit(lambda x, k, name: pg.tanh(x * k))
    assert fn.info() == []
    fn(pg.zeros((2, 3), device=device), 2.0, name="it")
    (line,) = fn.info()
    assert line == "(float32[2, 3], 2.0, 'it'): 2 nodes"
