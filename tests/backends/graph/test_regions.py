"""Regions and bundles: chosen where they pay, the same results, memory written once, nothing that leaves changed."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.backend import backend_of, resolve_device
from plugrad.graph.any_size import of_any_size
from plugrad.graph.bundle import Bundle
from plugrad.graph.ir import Graph
from plugrad.graph.jitted import jit
from plugrad.graph.region import Region
from plugrad.graph.serial import from_json, same, to_json


@pytest.fixture
def cutting(device: str) -> Iterator[Any]:
    """Regions of values of any size, on the device of the tests."""
    found = resolve_device(device)
    if not backend_of(found).capabilities(found).workers:
        pytest.skip("the device cuts nothing")
    with pg.use_device(device), of_any_size():
        yield


def regions(function: Any) -> list[Region]:
    return [n.op for c in function.captures() for n in c.plan.graph.nodes if isinstance(n.op, Region)]


def bundles(function: Any) -> list[Bundle]:
    return [n.op for c in function.captures() for n in c.plan.graph.nodes if isinstance(n.op, Bundle)]


def chain(x: pg.Tensor, y: pg.Tensor) -> pg.Tensor:
    a = x * y + x
    b = pg.tanh(a) * 0.5 + 0.5
    return (b * (1 - b)).sum(axis=1) + y[:, 0]


@pytest.mark.parametrize("rows", [4, 12, 37])
def test_a_chain_is_one_region(rows: int, cutting: Any) -> None:
    x, y = pg.random.normal((rows, 5)), pg.random.normal((rows, 5))
    captured = jit(chain)
    wanted = jit(chain, exact=True)
    for _ in range(3):
        np.testing.assert_allclose(captured(x, y).numpy(), wanted(x, y).numpy(), rtol=1e-6, atol=1e-6)
    (region,) = regions(captured)
    assert region.units == rows
    workers = backend_of(x.device).capabilities(x.device).workers
    assert min(2, workers) <= region.parts <= rows
    assert sum(b - a for a, b in region.bounds()) == rows
    assert not regions(wanted), "exact=True leaves every op whole"


def test_results_survive_the_next_call(cutting: Any) -> None:
    captured = jit(chain)
    x, y = pg.random.normal((8, 5)), pg.random.normal((8, 5))
    for _ in range(2):
        captured(x, y)
    first = captured(x, y)
    kept = first.numpy().copy()
    captured(y, x)
    np.testing.assert_array_equal(first.numpy(), kept)


def test_small_values_are_left_whole(device: str) -> None:
    with pg.use_device(device):
        captured = jit(chain)
        captured(pg.ones((8, 5)), pg.ones((8, 5)))
    assert not regions(captured)


def model_and_step(jitted: Any, width: int = 12) -> tuple[nn.Module, Any]:
    pg.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, 4))
    optimizer = optim.AdamW(model.parameters(), lr=0.05)

    def step(x: pg.Tensor, target: pg.Tensor) -> pg.Tensor:
        optimizer.zero_grad()
        loss = pg.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        return loss

    return model, jitted(step)


def test_a_training_step_with_regions_trains_alike(cutting: Any) -> None:
    x, target = pg.random.normal((16, 6)), pg.random.integers((16,), 0, 4)
    model, step = model_and_step(jit)
    other, plain = model_and_step(lambda f: f)
    for _ in range(5):
        np.testing.assert_allclose(step(x, target).item(), plain(x, target).item(), rtol=1e-5)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-4, atol=1e-5)
    assert regions(step), "layer norm, gelu and their rules have rows in common"


def test_a_bound_input_is_written_over_part_by_part(cutting: Any) -> None:
    state = pg.random.normal((8, 6))

    @jit
    def step(x: pg.Tensor) -> pg.Tensor:
        new = state * 0.5 + pg.exp(x - 1)
        state.assign(new)
        return (new * 2 - x).sum()

    want = state.numpy().copy()
    x = pg.random.normal((8, 6))
    for _ in range(4):
        held = state.detach() if _ == 2 else None
        before = None if held is None else held.numpy().copy()
        step(x)
        want = want * np.float32(0.5) + np.exp(x.numpy() - 1)
        np.testing.assert_allclose(state.numpy(), want, rtol=1e-5)
        if held is not None:
            np.testing.assert_array_equal(held.numpy(), before)
    assert regions(step)


def test_what_depends_on_a_region_never_runs_before_it(cutting: Any) -> None:
    """A reader that goes by way of a node outside must not join."""

    def fn(x: pg.Tensor) -> pg.Tensor:
        a = pg.exp(x) * 2
        total = a.sum()  # no row has it
        return (a / total + pg.tanh(a)) * (x + total)

    x = pg.random.normal((8, 6))
    captured = jit(fn)
    for _ in range(3):
        np.testing.assert_allclose(captured(x).numpy(), fn(x).numpy(), rtol=2e-6)
    assert regions(captured)


def test_a_part_that_fails_leaves_the_plan_usable(cutting: Any) -> None:
    table = pg.random.normal((5, 6))

    @jit
    def fn(rows: pg.Tensor) -> pg.Tensor:
        return pg.exp(pg.embedding(rows, table)) * 2 + 1

    right = pg.asarray(np.arange(8) % 5)
    wanted = fn(right).numpy().copy()
    with pytest.raises(pg.errors.PlugradError):
        fn(pg.asarray(np.array([0, 1, 2, 3, 4, 0, 1, 9])))
    np.testing.assert_array_equal(fn(right).numpy(), wanted)


def test_regions_and_bundles_are_shown_and_saved(cutting: Any) -> None:
    x, target = pg.random.normal((16, 6)), pg.random.integers((16,), 0, 4)
    _, step = model_and_step(jit)
    step(x, target)
    graph: Graph = step.captures()[0].plan.graph
    shown = str(graph)
    assert "region(" in shown
    assert "parts=" in shown
    assert "bundle(" in shown
    assert "adam_update(" in shown, "what is inside is shown too"
    again = from_json(to_json(graph))
    assert same(again, graph)
    (region, *_) = [n.op for n in again.nodes if isinstance(n.op, Region)]
    changed = Region.made_of(region.graph, {**region.facts(), "parts": region.parts + 1})
    assert changed.facts() != region.facts()


def joining(device: str) -> None:
    found = resolve_device(device)
    if not backend_of(found).capabilities(found).joining:
        pytest.skip("the device joins no memory")


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.AdamW(p, lr=0.05, weight_decay=0.1),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.SGD(p, lr=0.1),
        lambda p: optim.RMSprop(p, lr=0.01),
        lambda p: optim.Adagrad(p, lr=0.1),
    ],
)
def test_updates_are_bundled_and_the_same_bits(make: Any, device: str) -> None:
    joining(device)
    with pg.use_device(device):
        x = pg.random.normal((5, 3))

        def built(jitted: Any) -> tuple[nn.Module, Any]:
            pg.manual_seed(1)
            model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
            optimizer = make(model.parameters())

            def step() -> None:
                optimizer.zero_grad()
                (model(x) ** 2).sum().backward()
                optimizer.step()

            return model, jitted(step)

        model, step = built(jit)
        other, plain = built(lambda f: f)
        for _ in range(4):
            step()
            plain()
            for p, q in zip(model.parameters(), other.parameters(), strict=True):
                np.testing.assert_array_equal(p.numpy(), q.numpy())
                np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())
        (bundle,) = bundles(step)
        assert len(bundle.graph.nodes) == 4


def test_bundled_memory_is_let_go_of_where_somebody_holds_it(device: str) -> None:
    joining(device)
    with pg.use_device(device):
        x, target = pg.random.normal((16, 6)), pg.random.integers((16,), 0, 4)
        model, step = model_and_step(jit)
        other, plain = model_and_step(lambda f: f)
        held: list[tuple[Any, np.ndarray]] = []
        for i in range(8):
            step(x, target)
            plain(x, target)
            parameters, others = list(model.parameters()), list(other.parameters())
            if i == 3:  # a tensor over the same memory, an array of the host, a gradient
                for t in (parameters[0].detach(), parameters[1].numpy(), parameters[2].grad):
                    held.append((t, np.array(t if isinstance(t, np.ndarray) else t.numpy())))
            if i == 5:  # another value from outside
                for p in (parameters[1], others[1]):
                    with pg.no_grad():
                        p.assign(p * 0.5)
            for p, q in zip(parameters, others, strict=True):
                np.testing.assert_array_equal(p.numpy(), q.numpy())
        for t, was in held:
            np.testing.assert_array_equal(t if isinstance(t, np.ndarray) else t.numpy(), was)


def test_parameters_from_outside_come_to_lie_side_by_side_again(device: str) -> None:
    joining(device)
    with pg.use_device(device):
        x, target = pg.random.normal((16, 6)), pg.random.integers((16,), 0, 4)
        model, step = model_and_step(jit)
        other, plain = model_and_step(lambda f: f)
        plan = None
        for i in range(10):
            step(x, target)
            plain(x, target)
            plan = plan or step.captures()[0].plan
            if i in (0, 4):  # the first run learns; after another value, one run meets it and one moves it
                assert plan.scattered is (i == 0)
                with pg.no_grad():
                    for p in (next(iter(model.parameters())), next(iter(other.parameters()))):
                        p.assign(p * 0.5)
            elif i not in (1, 5, 6):
                assert not plan.scattered
            for p, q in zip(model.parameters(), other.parameters(), strict=True):
                np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_an_array_in_the_place_of_a_joined_one_is_not_joined(device: str) -> None:
    joining(device)
    found = resolve_device(device)
    backend = backend_of(found)
    spec = pg.zeros((8,), device=device).spec
    for _ in range(20):
        parts = list(backend.side_by_side([spec, spec, spec]))
        assert backend.joined(parts) is not None
        del parts[1]
        parts.insert(1, backend.allocate(spec))  # likely where the other one was
        assert backend.joined(parts) is None


def test_joined_memory_is_freed_with_its_arrays(device: str) -> None:
    joining(device)
    backend, found = backend_of(resolve_device(device)), resolve_device(device)
    spec = pg.zeros((1 << 18,), device=device).spec
    tracemalloc.start()
    try:
        for _ in range(8):
            parts = backend.side_by_side([spec, spec])
            whole = backend.joined(parts)
            assert backend.shape(whole) == (2 << 18,)
            assert backend.joined(parts[::-1]) is None
            assert backend.joined(parts[:1]) is None
            del parts, whole
        assert tracemalloc.get_traced_memory()[0] < spec.nbytes, "a row outlives its parts"
        with pg.use_device(found):
            x, target = pg.random.normal((16, 6)), pg.random.integers((16,), 0, 4)
            _, step = model_and_step(jit, width=1000)
            for _ in range(3):
                step(x, target)
        assert bundles(step)
        del step, _
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < spec.nbytes, "a model's rows outlive it"
    finally:
        tracemalloc.stop()


def test_parameters_of_different_counts_of_steps_are_apart(device: str) -> None:
    joining(device)
    with pg.use_device(device):

        def built(jitted: Any) -> tuple[list[pg.Tensor], Any, Any]:
            a, b = (pg.asarray(np.full(3, v, np.float32)).requires_grad_() for v in (1.0, 2.0))
            optimizer = optim.Adam([a, b], lr=0.1)

            def both() -> None:
                optimizer.zero_grad()
                ((a * b) ** 2).sum().backward()
                optimizer.step()

            def one() -> None:
                optimizer.zero_grad()
                (a**2).sum().backward()
                optimizer.step()

            return [a, b], jitted(both), jitted(one)

        ours, both, one = built(jit)
        theirs, both_eager, one_eager = built(lambda f: f)
        for captured, eager in ((both, both_eager), (both, both_eager), (one, one_eager)) * 2:
            captured()
            eager()
            for p, q in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(p.numpy(), q.numpy())
        assert len(bundles(both)) == 1, "only while the counts were the same"
