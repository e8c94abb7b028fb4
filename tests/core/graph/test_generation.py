"""Fused regions: what becomes one, on graphs before and after the pass, as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.core.graph.test_source import C

import plugrad as pg
from plugrad import tree
from plugrad.backend.kernels import Kernel
from plugrad.backend.null import NullBackend
from plugrad.dispatch.modes import local
from plugrad.errors import UnsupportedOp
from plugrad.graph.capture import Capture
from plugrad.graph.fused import Fused
from plugrad.graph.ir import Graph
from plugrad.graph.passes import Context, run_passes
from plugrad.graph.passes.growth import TURNS
from plugrad.graph.passes.lowering import lower
from plugrad.graph.serial import from_json, same, to_json
from plugrad.graph.source import program_of


class Generating(NullBackend):
    """Kernels of primitives, and generated ones."""

    name = "generating"

    def capabilities(self, device: Any) -> Any:
        return replace(super().capabilities(device), generating=True)

    def generate(self, graph: Graph) -> Kernel | None:
        return None if program_of(graph, C) is None else Kernel(lambda *_, **__: None)


BACKEND = Generating()


def ready(fn: Callable[..., Any], *args: Any, exact: bool = False, backend: Any = BACKEND) -> Graph:
    leaves, structure = tree.flatten((args, {}))
    return run_passes(Capture(fn, structure, leaves).graph, Context(backend, local.modes, exact))


def ops(graph: Graph) -> list[str]:
    """The ops of a graph, a region as what it is made of."""
    return [
        "fused(" + " ".join(m.op.name for m in n.op.graph.nodes) + ")"
        if isinstance(n.op, Fused)
        else n.op.name
        for n in graph.nodes
    ]


def regions(graph: Graph) -> list[Graph]:
    return [n.op.graph for n in graph.nodes if isinstance(n.op, Fused)]


def x(*shape: int, dtype: str = "float32") -> Any:
    return pg.zeros(shape or (128, 256), dtype=dtype)


@pytest.fixture(autouse=True)
def on_null() -> Any:
    """Graphs of the null device: nothing is computed."""
    with pg.use_device("null"):
        yield


def test_a_chain_of_any_dtypes_is_one_kernel() -> None:
    graph = ready(lambda a, b: pg.where(a > 0, a, pg.exp(a)) + b.astype("float32"), x(), x(dtype="int8"))
    assert ops(graph) == ["fused(less exp where astype add)"]


def test_a_device_that_does_not_generate_and_exact_results_have_none() -> None:
    def fn(a: Any) -> Any:
        return pg.exp(a) * 2 + 1

    assert ops(ready(fn, x(), exact=True)) == ["exp", "multiply", "add"]
    assert ops(ready(fn, x(), backend=NullBackend())) == ["exp", "multiply", "add"]
    assert ops(ready(fn, x(0, 3))) == ["exp", "multiply", "add"]
    assert ops(ready(lambda a: pg.exp(a), x())) == ["exp"]


def test_softmax_is_one_kernel_with_its_neighbours() -> None:
    graph = ready(lambda a, m: pg.softmax(pg.where(m, a, -1e9)) * 2, x(), x(dtype="bool"))
    assert ops(graph) == ["fused(where max subtract exp sum divide multiply)"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_over_any_axis_of_small_values(axis: int) -> None:
    assert len(ready(lambda a: pg.softmax(a, axis=axis), x(4, 5, 6))) == 1


def test_the_gradient_of_a_layer_norm_reads_its_operands_twice_and_writes_no_more_than_the_results() -> None:
    def fn(a: Any, w: Any, b: Any, c: Any) -> Any:
        return pg.grad(lambda a, w, b: pg.sum(pg.layer_norm(a, (256,), w, b) * c), argnums=(0, 1, 2))(a, w, b)

    rows, columns = ready(fn, x(), x(256), x(256), x()).nodes
    assert [v.spec.shape for v in rows.results] == [(128, 1), (128, 1), (128, 256)]
    assert [v.spec.shape for v in columns.results] == [(256,), (256,)]
    assert {v for v in columns.reads() if v.spec.shape == (128, 256)} <= set(rows.reads())


def test_what_stands_between_keeps_two_apart() -> None:
    def fn(a: Any, w: Any) -> Any:
        y = pg.exp(a) * 2
        return y + pg.matmul(y, w) * 3

    graph = ready(fn, x(8, 8), x(8, 8))
    assert ops(graph) == ["fused(exp multiply)", "matrix_product", "fused(multiply add)"]


def test_few_rows_are_over_before_their_results_are_read() -> None:
    def fn(a: Any) -> Any:
        return (a - pg.mean(a, axis=(0, 2), keepdims=True)) * 2

    graph = ready(fn, x(64, 8, 128))
    assert ops(graph) == ["fused(sum divide)", "fused(subtract multiply)"]
    assert ops(ready(fn, x(4, 8, 16))) == ["fused(sum divide subtract multiply)"]


def test_turns_over_a_row_are_few() -> None:
    def fn(a: Any) -> Any:
        for _ in range(4):
            a = pg.softmax(a)
        return a

    found = regions(ready(fn, x()))
    assert sum(len(g) for g in found) == 4 * 5
    for graph in found:
        program = program_of(graph, C)
        assert program is not None
        assert program.stages <= TURNS


def test_small_values_are_computed_where_they_are_read() -> None:
    graph = ready(
        lambda p, g, m, s, t, r: pg.adam_update(
            p, g, m, s, t, r, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, decoupled=True
        ),
        *[x()] * 4,
        x(dtype="float32")[0, 0],
        x()[0, 1],
    )
    (node,) = (n for n in graph.nodes if isinstance(n.op, Fused))
    assert len(node.results) == 3
    assert not any(n.op.name == "sqrt" for n in graph.nodes)


def test_views_of_results_stay_views() -> None:
    graph = ready(lambda a: pg.broadcast_to(pg.reshape(pg.exp(a) * 2, (128, 1, 256)), (128, 4, 256)), x())
    assert ops(graph) == ["fused(exp multiply)", "reshape", "broadcast_to"]


def test_parts_of_a_concatenation_are_written_to_their_places() -> None:
    graph = ready(lambda a: pg.stack([pg.exp(a) * 2, a + 1], axis=2), x())
    assert ops(graph) == ["fused(exp multiply add reshape reshape concatenate)"]


def test_a_narrower_dtype_comes_before_what_moves() -> None:
    graph = ready(lambda a: pg.reshape(pg.exp(a) + 1, (256, 128)).astype("float16"), x())
    assert ops(graph) == ["fused(exp add astype)", "reshape"]


def test_a_region_is_written_and_read_as_json() -> None:
    graph = ready(lambda a: pg.softmax(a) * 2, x())
    assert same(graph, from_json(to_json(graph)))


def test_a_region_made_for_another_device_says_so() -> None:
    (inner,) = regions(ready(lambda a: pg.softmax(a) * 2, x()))
    inner.outputs = [inner.nodes[0].results[0], inner.inputs[0]]
    with pytest.raises(UnsupportedOp, match="generates no kernel"):
        Fused(inner.of(inner.inputs, [], inner.inputs)).kernel(_Nothing(), local.modes, {})


class _Nothing(Generating):
    def generate(self, graph: Graph) -> Kernel | None:
        return None


def test_a_body_that_fuses_is_preferred_to_a_kernel() -> None:
    def fn(a: Any) -> Any:
        return pg.softmax(a) + pg.sort(a)

    leaves, structure = tree.flatten(((x(),), {}))
    graph = Capture(fn, structure, leaves).graph
    lowered = [n.op.name for n in lower(graph, BACKEND, local.modes).nodes]
    assert lowered == ["max", "subtract", "exp", "sum", "divide", "sort", "add"]
    exact = [n.op.name for n in lower(graph, BACKEND, local.modes, exact=True).nodes]
    assert exact == ["softmax", "sort", "add"]


def test_long_graphs_grow_in_a_line() -> None:
    def fn(a: Any) -> Any:
        for _ in range(3000):
            a = a * 1.5 + 1
        return a

    found = regions(ready(fn, x(4, 4)))
    assert sum(len(g) for g in found) == 6000
