"""A plan of a device that lacks primitives, on one that places results, joins updates and has workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.backend import KernelTable, register_backend
from plugrad.graph.any_size import of_any_size
from plugrad.modes import fallback, fallback_counts
from plugrad.random import Generator, replayed
from plugrad_numpy import _parallel
from plugrad_numpy.backend import NumPyBackend

LACKS = ("tanh", "exp", "matrix_product", "concatenate")


class Lacking(NumPyBackend):
    """NumPy without some primitives, and without composites."""

    name = "lacking"

    def __init__(self) -> None:
        self.kernels = KernelTable()
        for op, kernels in NumPyBackend.kernels._kernels.items():
            if getattr(op, "body", None) is None and op.name not in LACKS:
                for kernel in kernels:
                    self.kernels.add(op, kernel)


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    register_backend(Lacking())


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_parallel._state, "size", 2)
    with of_any_size():
        yield


def test_values_that_stay_while_others_come() -> None:
    @pg.jit
    def fn(x: Any) -> Any:
        y = pg.tanh(x * 2)
        z = pg.exp(-pg.tanh(y + x))
        return y, z, pg.concat([y, z]) * 2 @ pg.ones((6, 3), device="lacking")

    random = np.random.default_rng(3)
    kept = []
    with fallback("numpy"):
        before = fallback_counts()
        for _ in range(4):
            host = random.standard_normal((64, 6)).astype(np.float32)
            kept.append((host, fn(pg.asarray(host, device="lacking"))))
        after = fallback_counts()
    ran = {k: after[k] - before.get(k, 0) for k in after if after[k] != before.get(k, 0)}
    assert ran == {"tanh": 8, "exp": 4, "concatenate": 4, "matrix_product": 4}
    for host, (y, z, product) in kept:
        wanted = np.tanh(host * 2)
        other = np.exp(-np.tanh(wanted + host))
        np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(z.numpy(), other, rtol=1e-6, atol=1e-6)
        both = np.concatenate([wanted, other]) * 2
        np.testing.assert_allclose(product.numpy(), both @ np.ones((6, 3)), rtol=1e-5, atol=1e-5)


def losses(device: str, captured: bool) -> list[float]:
    # A generator of its own: that of the process would have numbers on this device in all tests that follow.
    start = Generator(0).state_dict()
    with pg.use_device(device), replayed(start):
        model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))
        optimizer, loss_fn = optim.AdamW(model.parameters(), lr=0.01), nn.CrossEntropyLoss()

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run = pg.jit(step) if captured else step
        random = np.random.default_rng(1)
        x = pg.asarray(random.standard_normal((32, 5)).astype(np.float32))
        y = pg.asarray(random.integers(0, 3, 32))
        found = [float(run(x, y).item()) for _ in range(6)]
        if captured:
            assert len(run.captures()) == 1
        return found


def test_a_training_step() -> None:
    wanted = losses("numpy", captured=False)
    with fallback("numpy"):
        np.testing.assert_allclose(losses("lacking", captured=False), wanted, rtol=1e-5)
        np.testing.assert_allclose(losses("lacking", captured=True), wanted, rtol=1e-5)
    assert wanted[-1] < wanted[0]
