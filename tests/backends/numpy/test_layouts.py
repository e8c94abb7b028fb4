"""Layouts travel from kernel to kernel: a convolutional network stays channels-last, with no pass and no transposing copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.graph.epilogue import Epilogue
from plugrad.graph.ir import Composed, Graph, Node, Value
from plugrad.graph.plan import Plan
from plugrad_numpy.kernels import _tail

BATCH, CLASSES = 8, 10


def network(norm: bool) -> nn.Module:
    layers: list[nn.Module] = []
    before = 3
    for channels in (16, 32, 48):
        for _ in range(2):
            layers.append(nn.Conv2d(before, channels, 3, padding=1))
            layers += [nn.BatchNorm2d(channels)] * norm
            layers.append(nn.ReLU())
            before = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * 16, CLASSES))


def plan_of(model: Callable[[Any], Any], parameters: Any) -> Plan:
    optimizer = optim.AdamW(parameters, lr=1e-3)
    loss_fn = nn.CrossEntropyLoss()

    @pg.jit
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    random = np.random.default_rng(0)
    x = pg.asarray(random.standard_normal((BATCH, 3, 32, 32)).astype(np.float32))
    y = pg.asarray(random.integers(0, CLASSES, BATCH))
    for _ in range(3):
        step(x, y)
    plan: Plan = step.captures()[0].plan
    return plan


def images(values: Any) -> list[Value]:
    """Those of a batch of images, with an axis in which layouts differ."""
    return [v for v in values if v.spec.ndim == 4 and v.spec.shape[0] == BATCH and v.node is not None]


def is_channels_last(layout: Any) -> bool:
    return layout.transpose(0, 2, 3, 1).flags.c_contiguous and not layout.flags.c_contiguous


def names(graph: Graph) -> set[str]:
    inner = {n for node in graph.nodes if isinstance(node.op, Composed) for n in names(node.op.graph)}
    return {n.op.name for n in graph.nodes} | inner


def rows_of_images(plan: Plan) -> list[str]:
    """What makes images that are not channels-last, but what is made of a flat row for all."""
    wrong: list[Node] = []
    for node in plan.graph.nodes:
        for value in images(node.results):
            layout = plan._learned.get(value)
            if layout is None or not is_channels_last(layout):
                wrong.append(node)
    return [n.label for n in wrong]


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("joined", [True, False])
def test_a_network_of_six_convolutions_has_no_transposing_copy(
    norm: bool, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if joined:
        monkeypatch.setattr(_tail, "LEAST", 0)
    model = network(norm)
    plan = plan_of(model, list(model.parameters()))
    made = names(plan.graph)
    assert {
        "conv",
        "conv.vjp.x",
        "conv.vjp.weight",
        "max_pool",
        "max_pool.vjp.x",
        "relu",
        "relu.vjp.x",
    } <= made
    assert ("batch_norm_training.vjp" in made) is norm
    assert any(isinstance(n.op, Epilogue) for n in plan.graph.nodes) is joined
    # Neither a node that transposes, nor a value in another order than the kernels of convolutions want.
    assert not made & {"permute_dims", "contiguous", "matrix_transpose"}
    assert len(images(v for n in plan.graph.nodes for v in n.results)) >= 18
    # The gradient of the flat row alone comes row by row; the gradient of the pool is channels-last again.
    assert rows_of_images(plan) == ["reshape"]


def test_an_order_that_a_user_asks_for_is_seen() -> None:
    """The test itself: what is made row-major between two convolutions counts."""
    first, second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 3, padding=1)
    head = nn.Linear(4 * 1024, CLASSES)

    def model(x: Any) -> Any:
        h = first(x)
        h = pg.tanh(h.reshape((BATCH, 16 * 1024))).reshape((BATCH, 16, 32, 32))
        return head(pg.tanh(second(h)).reshape((BATCH, 4 * 1024)))

    plan = plan_of(model, [*first.parameters(), *second.parameters(), *head.parameters()])
    assert len(rows_of_images(plan)) > 1
