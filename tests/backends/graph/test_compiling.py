"""A backend that compiles takes whole graphs; everything around them stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.backend import Capabilities, register_backend
from plugrad.dispatch.lowering import with_modes
from plugrad.dispatch.modes import local
from plugrad.errors import DeviceError
from plugrad.graph.ir import Graph, Value
from plugrad.spec import Device
from plugrad_numpy.backend import NumPyBackend
from support.graphs import run_node


class Compiling(NumPyBackend):
    """Runs a graph node by node: what a compiler of its own would do in one."""

    name = "compiling_numpy"

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.broken = False

    def capabilities(self, device: Device) -> Capabilities:
        found = super().capabilities(device)
        return replace(found, compiling=True, placing=False, joining=False, workers=0)

    def compile(self, graph: Graph) -> Callable[[Sequence[Any]], Sequence[Any]]:
        if self.broken:
            raise DeviceError("this compiler is broken")
        self.graphs.append(graph)
        kernels = [
            self.kernels.find(n.op, n.specs(), with_modes(n.attributes, local.modes)) for n in graph.nodes
        ]

        def run(inputs: Sequence[Any]) -> Sequence[Any]:
            known: dict[Value, Any] = {**dict(zip(graph.inputs, inputs, strict=True)), **graph.constants}
            for node, kernel in zip(graph.nodes, kernels, strict=True):
                assert kernel is not None
                run_node(node, kernel.function, known)
            return [known[v] for v in graph.outputs]

        return run


BACKEND = Compiling()


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    register_backend(BACKEND)


@pytest.fixture(autouse=True)
def there() -> Iterator[None]:
    BACKEND.broken = False
    BACKEND.graphs.clear()
    with pg.use_device(BACKEND.name):
        yield


def built(jitted: Any) -> tuple[nn.Module, Any]:
    pg.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.3), nn.Tanh(), nn.Linear(5, 1))
    optimizer = optim.AdamW(model.parameters(), lr=0.05)

    def step(x: pg.Tensor) -> pg.Tensor:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return model, jitted(step)


def test_a_training_step_is_one_graph() -> None:
    x = pg.asarray(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
    model, step = built(pg.jit)
    losses = [step(x).item() for _ in range(4)]
    other, plain = built(lambda f: f)
    assert losses == [plain(x).item() for _ in range(4)]
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    (graph,) = BACKEND.graphs
    assert {"linear", "linear.vjp.weight", "adam_update"} <= {n.op.name for n in graph.nodes}
    assert str(step.profile(x)).count("adam_update") == 4, "a profile runs it node by node"


def test_gradients_through_its_results() -> None:
    f = pg.jit(lambda x: (x**3).sum())
    slope = pg.grad(f)(pg.asarray([1.0, 2.0]))
    np.testing.assert_allclose(slope.numpy(), [3, 12])
    assert len(BACKEND.graphs) == 2, "the forward, and the backward that it was asked for"


def test_a_compiler_that_fails_changes_nothing() -> None:
    x = pg.ones((4, 3))
    model, step = built(pg.jit)
    before = [p.numpy().copy() for p in model.parameters()]
    BACKEND.broken = True
    with pytest.raises(DeviceError, match="broken"):
        step(x)
    for p, was in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), was)
    BACKEND.broken = False
    step(x)
