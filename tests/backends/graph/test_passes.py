"""What the passes make of whole training steps computes the same bits; and so do special values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim, tree
from plugrad.backend import backend_of, resolve_device
from plugrad.dispatch.data import TensorData
from plugrad.dispatch.modes import local
from plugrad.graph.capture import Capture
from plugrad.graph.ir import Graph, Value
from plugrad.graph.memory import kernel_of
from plugrad.graph.passes import PASSES, Context, run_passes
from plugrad.graph.passes.constants import constants
from plugrad.graph.passes.lowering import lower
from plugrad.graph.serial import from_json, same, to_json
from support.graphs import run_node


def captured(fn: Callable[..., Any], *args: Any) -> tuple[Graph, list[Any]]:
    """The graph of ``fn(*args)``, and the arrays of its inputs."""
    leaves, structure = tree.flatten((args, {}))
    capture = Capture(fn, structure, leaves)
    tensors = [t for t in leaves if isinstance(t, TensorData)]
    inputs: list[Any] = [None] * len(capture.graph.inputs)
    for index, t in zip(capture.arguments, tensors, strict=True):
        inputs[index] = t._array
    for cell, index, _ in capture.cells:
        inputs[index] = cell._array
    assert all(i is not None for i in inputs)
    return capture.graph, inputs


def computed(graph: Graph, inputs: list[Any], device: str) -> list[bytes]:
    """The bits of the outputs, each node by the kernel of the device."""
    backend = backend_of(resolve_device(device))
    known: dict[Value, Any] = {**dict(zip(graph.inputs, inputs, strict=True)), **graph.constants}
    for node in graph.nodes:
        run_node(node, kernel_of(node, backend, local.modes).function, known)
    return [np.ascontiguousarray(backend.to_host(known[v])).tobytes() for v in graph.outputs]


class Block(nn.Module):
    """A layer of a transformer over an embedding, and its head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 11)

    def forward(self, tokens: Any) -> Any:
        return self.head(self.layer(self.embed(tokens)))


def network() -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(24, 5),
    )


def training(name: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    pg.manual_seed(3)
    rng = np.random.default_rng(4)
    if name == "cnn":
        model = network()
        args = (pg.asarray(rng.standard_normal((3, 1, 8, 8), "float32")), pg.asarray(rng.integers(0, 5, 3)))
    else:
        model = Block()
        args = (pg.asarray(rng.integers(0, 11, (2, 5))), pg.asarray(rng.integers(0, 11, 10)))
    optimizer = optim.AdamW(model.parameters(), lr=0.01)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        out = model(x)
        loss = pg.cross_entropy(out.reshape((-1, out.shape[-1])), y)
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step, args


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_a_training_step_gives_the_same_bits_after_each_pass(name: str, device: str) -> None:
    with pg.use_device(device):
        step, args = training(name)
        graph, inputs = captured(step, *args)
        backend = backend_of(resolve_device(device))
        wanted = computed(lower(graph, backend, local.modes), inputs, device)
        steps: list[str] = []

        def told(which: str, _: Graph, after: Graph) -> None:
            steps.append(which)
            got = computed(lower(after, backend, local.modes), inputs, device)
            assert got == wanted, which

        after = run_passes(graph, Context(backend, local.modes), told)
        assert steps[: len(PASSES)] == list(PASSES)
        lowered = lower(graph, backend, local.modes)
        assert len(after) < len(lowered)
        assert after.constants
        # Once more changes nothing.
        assert same(run_passes(after, Context(backend, local.modes)), after)
        for g in (graph, lowered, after):
            again = from_json(to_json(g))
            assert same(again, g)
        assert computed(again, inputs, device) == wanted


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.5, 3e-45, -1e-310, 6e-8, 65504.0, 3e38]


def detours(a: Any) -> list[Any]:
    shape = a.shape
    wide = {"float16": "float32", "bfloat16": "float32", "float32": "float64"}.get(str(a.dtype), "float64")
    return [
        a * 1,
        a * pg.ones(shape, dtype=a.dtype),
        a / 1,
        a - 0,
        pg.negative(pg.negative(a)),
        a.astype(wide).astype(a.dtype),
        a.reshape((4, 3)).reshape(shape),
        pg.concat([a]),
        pg.strided_slice(a, ((None, None, None),)),
    ]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_algebra_holds_for_special_values(dtype: str, device: str) -> None:
    where = resolve_device(device)
    if getattr(pg, dtype) not in backend_of(where).capabilities(where).dtypes:
        pytest.skip(f"{device} has no {dtype}")
    with pg.use_device(device), np.errstate(all="ignore"):
        host = np.array(SPECIAL).astype(getattr(pg, dtype).numpy)
        a = pg.asarray(host)
        graph, _ = captured(detours, a)
        after = run_passes(graph, Context(backend_of(a.device), local.modes))
        assert len(graph) > len(after) == 0
        for i, eager in enumerate(detours(a)):
            got = eager.numpy()
            nan = np.isnan(host.astype("f8"))
            assert (np.isnan(got.astype("f8")) == nan).all(), i
            assert got[~nan].tobytes() == host[~nan].tobytes(), i


def test_constants_are_what_the_device_computes(device: str) -> None:
    with pg.use_device(device):

        def fn(a: Any) -> Any:
            return a + pg.reshape(pg.exp(pg.iota(3).astype("float32")) * pg.full((), 0.1), (1, 3))

        a = pg.asarray(np.arange(6, dtype="float32").reshape(2, 3))
        graph, inputs = captured(fn, a)
        backend = backend_of(a.device)
        graph = lower(graph, backend, local.modes)
        after = constants(graph, backend, local.modes)
        assert [n.op.name for n in after.nodes] == ["add"]
        assert computed(after, inputs, device) == computed(graph, inputs, device)


def thirds(x: pg.Tensor) -> pg.Tensor:
    """Each third of ``x`` by itself."""
    a, b, c = pg.unstack(x, axis=1)
    return (a * b + pg.sin(c)).sum()


@pytest.mark.parametrize("selections", ["all", "twice", "some"])
def test_cotangents_of_all_selections_are_stacked(selections: str, device: str) -> None:
    def fn(x: pg.Tensor) -> pg.Tensor:
        if selections == "some":
            return (x[:, 0] * pg.sin(x[:, 2])).sum()
        return thirds(x) if selections == "all" else thirds(x) + (x[:, 1] ** 2).sum()

    with pg.use_device(device):
        x = pg.random.normal((4, 3, 2))
        captured = pg.jit(pg.grad(fn))
        for _ in range(2):
            np.testing.assert_allclose(captured(x).numpy(), pg.grad(fn)(x).numpy(), rtol=1e-6)
        names = [n.op.name for n in captured.captures()[0].plan.graph.nodes]
        if backend_of(x.device).kernels.count(pg.ops.select.vjp):
            assert ("concatenate" in names) == (selections == "all"), names
            exact = pg.jit(pg.grad(fn), exact=True)
            np.testing.assert_array_equal(exact(x).numpy(), pg.grad(fn)(x).numpy())
            assert "concatenate" not in [n.op.name for n in exact.captures()[0].plan.graph.nodes]
