"""Plans reuse memory, and nobody sees it: what leaves a plan stays, what others hold is not written over."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.backend import backend_of, resolve_device
from plugrad.dispatch.modes import local
from plugrad.errors import IndexRangeError
from plugrad.graph.cost import bytes_of, flops_of
from plugrad.graph.ir import Graph
from plugrad.graph.plan import Plan
from plugrad.graph.profile import Profile, Roofline
from plugrad.spec import Spec


def spec(device: str, *shape: int) -> Spec:
    return Spec(shape, pg.float32, resolve_device(device))


def chain(device: str, length: int = 8) -> Graph:
    """exp of sin of exp ... of a matrix."""
    graph = Graph()
    value = graph.input(spec(device, 64, 65))
    for i in range(length):
        value = graph.add(pg.sin if i % 2 else pg.exp, [value], {}, value.spec)
    graph.outputs = [value]
    return graph


def planned(graph: Graph, device: str, **given: Any) -> Plan:
    return Plan(graph, backend_of(resolve_device(device)), local.modes, **given)


def placing(device: str) -> None:
    found = resolve_device(device)
    if not backend_of(found).capabilities(found).placing:
        pytest.skip("the device places no arrays")


def host(device: str, array: Any) -> np.ndarray:
    return np.array(backend_of(resolve_device(device)).to_host(array))


def test_a_chain_needs_one_block(device: str) -> None:
    placing(device)
    plan = planned(chain(device), device)
    x = pg.random.normal((64, 65), device=device)
    first, second, third = (plan.run([x._array])[0] for _ in range(3))
    assert plan.block_bytes <= 2 * 64 * 65 * 4 + 256
    assert max(plan.memory()) == 2 * 64 * 65 * 4, "one that is read and one that is made"
    want = x
    for i in range(8):
        want = pg.sin(want) if i % 2 else pg.exp(want)
    for out in (first, second, third):
        np.testing.assert_array_equal(host(device, out), want.numpy())


def test_what_left_a_plan_survives_the_next_run(device: str) -> None:
    plan = planned(chain(device, 3), device)
    outs, wanted = [], []
    for i in range(4):
        x = pg.full((64, 65), float(i), device=device)
        outs.append(plan.run([x._array])[0])
        wanted.append(host(device, outs[-1]))
    for out, want in zip(outs, wanted, strict=True):
        np.testing.assert_array_equal(host(device, out), want)


def test_cells_are_written_over_only_where_nobody_else_holds_them(device: str) -> None:
    placing(device)
    w = pg.random.normal((40, 30), device=device)

    @pg.jit
    def double() -> None:
        w.assign(w * 2.0)

    for _ in range(3):
        double()
    before = w._array
    double()
    del before
    place = id(w._array)
    double()
    assert id(w._array) == place, "in place"
    held, view = w.detach(), w.detach()[3:]
    read = w.numpy()
    values = read.copy()
    double()
    for what in (held.numpy(), read):
        np.testing.assert_array_equal(what, values)
    np.testing.assert_array_equal(view.numpy(), values[3:])
    np.testing.assert_array_equal(w.numpy(), values * 2)


def test_gradients_that_are_held_stay(device: str) -> None:
    with pg.use_device(device):
        model = nn.Linear(5, 3)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        @pg.jit
        def step(x: pg.Tensor) -> pg.Tensor:
            optimizer.zero_grad()
            loss = (model(x) ** 2).sum()
            loss.backward()
            optimizer.step()
            return loss

        kept = []
        for i in range(5):
            step(pg.full((4, 5), float(i + 1)))
            assert model.weight.grad is not None
            kept.append((model.weight.grad, model.weight.grad.numpy().copy()))
        for grad, values in kept:
            np.testing.assert_array_equal(grad.numpy(), values)


def test_an_error_leaves_the_plan_usable(device: str) -> None:
    table = pg.random.normal((7, 4), device=device)

    @pg.jit
    def look_up(index: pg.Tensor) -> pg.Tensor:
        return pg.exp(pg.take(pg.sin(table), index, axis=0))

    good, bad = (pg.asarray(i, device=device) for i in ([1, 2, 3], [1, 2, 9]))
    want = look_up(good).numpy().copy()
    for _ in range(3):
        with pytest.raises(IndexRangeError):
            look_up(bad).numpy()
        np.testing.assert_array_equal(look_up(good).numpy(), want)


def test_threads_do_not_share_blocks(device: str) -> None:
    plan = planned(chain(device, 6), device)
    failures: list[str] = []

    def work(seed: int) -> None:
        x = pg.full((64, 65), seed / 10, device=device)
        want = host(device, plan.run([x._array])[0])
        for _ in range(30):
            if not np.array_equal(host(device, plan.run([x._array])[0]), want):
                failures.append(f"thread {seed}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_profile(device: str, tmp_path: Path) -> None:
    graph = Graph()
    x, w = graph.input(spec(device, 30, 20)), graph.input(spec(device, 20, 10))
    product = graph.add(pg.ops.matrix_product, [x, w], {}, spec(device, 30, 10))
    graph.outputs = [graph.add(pg.exp, [product], {}, product.spec)]
    assert [flops_of(n) for n in graph.nodes] == [2 * 30 * 20 * 10, 300]
    assert [bytes_of(n) for n in graph.nodes] == [4 * (600 + 200 + 300), 4 * 600]
    plan = planned(graph, device)
    arrays = [pg.ones(v.spec.shape, device=device)._array for v in graph.inputs]
    plan.run(arrays)
    backend, where = backend_of(resolve_device(device)), resolve_device(device)
    times = []
    for _ in range(3):
        outputs, seconds = plan.timed(arrays)
        times.append(seconds)
    np.testing.assert_array_equal(host(device, outputs[0]), host(device, plan.run(arrays)[0]))
    profile = Profile(plan, times, Roofline.measure(backend, where, size=64))
    assert [r.name for r in profile.rows] == ["matrix_product", "exp"]
    assert profile.seconds == pytest.approx(sum(r.seconds for r in profile.rows))
    assert "matrix_product float32[30, 10]" in str(profile)
    profile.write(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [e["name"] for e in events] == ["matrix_product", "exp"]
    assert all(e["ph"] == "X" and e["dur"] > 0 for e in events)
    assert events[1]["ts"] == pytest.approx(events[0]["dur"])


def test_flops_of_layers(device: str) -> None:
    with pg.use_device(device):
        conv = nn.Conv2d(3, 8, 3, padding=1)

        @pg.jit
        def total(x: pg.Tensor) -> pg.Tensor:
            return conv(x).sum()

        total(pg.ones((2, 3, 10, 10)))
    [ready] = total.captures()
    [node] = [n for n in ready.plan.graph.nodes if n.op.name == "conv"]
    assert flops_of(node) == 2 * (2 * 8 * 10 * 10) * (3 * 3 * 3)


def test_a_step_is_profiled(device: str) -> None:
    with pg.use_device(device):
        model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        @pg.jit
        def step(x: pg.Tensor) -> pg.Tensor:
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        x = pg.ones((8, 20))
        first = float(step(x).item())
        profile = step.profile(x)
        assert float(step(x).item()) < first, "its calls are calls"
    names = [r.name for r in profile.rows]
    assert names.count("linear") == 2
    assert names.count("sgd_update") == 4 or "bundle" in names
    assert all(r.seconds > 0 for r in profile.rows)


def test_what_is_not_captured_has_no_profile(device: str) -> None:
    x = pg.ones((3,), device=device)
    doubled = pg.jit(lambda x: x * 2.0)
    doubled(x)
    with pg.detect_anomaly(), pytest.raises(pg.errors.CaptureError, match="no plan to profile"):
        doubled.profile(x)


def test_parameters_stay_where_they_are_from_the_second_call_on(device: str) -> None:
    placing(device)
    with pg.use_device(device):
        model = nn.Sequential(nn.Linear(150, 150), nn.Tanh(), nn.Linear(150, 3))
        optimizer = optim.AdamW(model.parameters())

        @pg.jit
        def step(x: pg.Tensor) -> None:
            optimizer.zero_grad()
            (model(x) ** 2).mean().backward()
            optimizer.step()

        x = pg.ones((4, 150))
        step(x)
        large = model[0].weight
        held = [large._array, optimizer.state[0]["mean"]._array, large.grad._array]
        places = [id(a) for a in held]
        del held
        for _ in range(2):
            step(x)
            now = [large._array, optimizer.state[0]["mean"]._array, large.grad._array]
            assert [id(a) for a in now] == places
            del now
