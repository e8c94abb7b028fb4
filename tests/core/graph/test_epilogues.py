"""Elementwise ops after a product become a part of it: graphs before and after the pass, as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

import plugrad as pg
from plugrad import tree
from plugrad.backend import KernelTable
from plugrad.backend.kernels import Kernel, OpLike
from plugrad.backend.null import NOTHING, NullBackend
from plugrad.dispatch.modes import local
from plugrad.errors import UnsupportedOp
from plugrad.graph.capture import Capture
from plugrad.graph.cost import bytes_of, flops_of
from plugrad.graph.drawing import dot
from plugrad.graph.epilogue import Epilogue
from plugrad.graph.ir import Graph, Node
from plugrad.graph.memory import kernel_of
from plugrad.graph.passes import Context, run_passes
from plugrad.graph.passes.epilogues import LONGEST, epilogues
from plugrad.graph.serial import from_json, same, to_json

NULL = NullBackend()
HEADS = ("linear", "matrix_product", "conv", "linear.vjp.x", "batch_norm_training")


class _Table(KernelTable):
    """Kernels of everything; those of `HEADS` take tails of so many nodes, but for ops that are named."""

    def __init__(self, longest: int, refused: Sequence[str]) -> None:
        super().__init__()
        self._longest, self._refused = longest, refused

    def find(self, op: OpLike, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
        return Kernel(lambda *a, **k: NOTHING, epilogue=self._made if op.name in HEADS else None)

    def _made(self, tail: Graph) -> Callable[..., Any] | None:
        assert not tail.constants
        if len(tail) > self._longest or any(n.op.name in self._refused for n in tail.nodes):
            return None
        return lambda *arrays, **given: (arrays, given)


class Chip(NullBackend):
    def __init__(self, longest: int = 99, refused: Sequence[str] = ()) -> None:
        super().__init__()
        self.kernels = _Table(longest, refused)


def x(*shape: int, **given: Any) -> Any:
    return pg.zeros(shape, dtype=given.get("dtype", "float32"))


def graph_of(fn: Callable[..., Any], *args: Any) -> Graph:
    leaves, structure = tree.flatten((args, {}))
    return Capture(fn, structure, leaves).graph


def body(graph: Graph) -> list[str]:
    """The lines of nodes without specs, those of an epilogue behind it, and that of the outputs."""
    lines = [re.sub(r": \w+\[[^\]]*\]", "", line) for line in str(graph).splitlines()]
    return [re.sub(" += ", " = ", line) for line in lines if re.match(" +([cv]|return)", line)]


def after(fn: Callable[..., Any], *args: Any, chip: Chip | None = None) -> list[str]:
    return body(epilogues(graph_of(fn, *args), chip or Chip(), local.modes))


def test_what_follows_a_layer_becomes_a_part_of_it() -> None:
    assert after(lambda a, w, b, r: pg.relu(pg.linear(a, w, b)) * 2 + r, x(4, 3), x(5, 3), x(5), x(5)) == [
        "  v0 = epilogue(x0, x1, x2, x3)",
        "        v0 = linear(x0, x1, x2)",
        "        v1 = relu(v0)",
        "        v2 = multiply(v1, 2)",
        "        v3 = add(v2, x3)",
        "        return v3",
        "  return v0",
    ]


def test_what_others_read_is_a_further_result() -> None:
    def fn(a: Any, w: Any) -> Any:
        y = a @ w
        z = pg.tanh(y)
        return z, pg.sum(y), pg.exp(z), pg.sum(z)

    assert after(fn, x(4, 3), x(3, 5)) == [
        "  v0, v1, v2 = epilogue(x0, x1)",
        "        v0 = matrix_product(x0, x1)",
        "        v1 = tanh(v0)",
        "        v2 = exp(v1)",
        "        return v0, v1, v2",
        "  v3 = sum(v0, axis=(0, 1))",
        "  v4 = sum(v1, axis=(0, 1))",
        "  return v1, v3, v2, v4",
    ]


def test_the_tail_follows_the_first_of_several_results() -> None:
    def fn(a: Any, r: Any) -> Any:
        y, mean, _ = pg.batch_norm_training(a, eps=0.5)
        return pg.relu(y) + r, mean * 2

    assert after(fn, x(4, 3), x(4, 3)) == [
        "  v0, v1, v2 = epilogue(x0, x1)",
        "        v0, v1, v2 = batch_norm_training(x0, None, None, eps=0.5)",
        "        v3 = relu(v0)",
        "        v4 = add(v3, x1)",
        "        return v4, v1, v2",
        "  v3 = multiply(v1, 2)",
        "  return v0, v3",
    ]

    def reads(a: Any) -> Any:
        y, mean, _ = pg.batch_norm_training(a, eps=0.5)
        return y - mean

    # What it reads of the head's other results is there after the head alone.
    graph = graph_of(reads, x(4, 3))
    assert epilogues(graph, Chip(), local.modes) is graph


def test_rules_and_masks_are_tails_too() -> None:
    def fn(a: Any, w: Any, m: Any) -> Any:
        def loss(a: Any) -> Any:
            return pg.sum(pg.where(m, pg.linear(pg.relu(a), w), 0.0))

        return pg.grad(loss)(a)

    lines = after(fn, x(4, 3), x(5, 3), x(4, 5, dtype="bool"))
    assert any("linear.vjp.x" in line for line in lines)
    assert any("relu.vjp.x(v0, x2)" in line for line in lines)
    forward = after(
        lambda a, w, m: pg.where(m, pg.linear(a, w), 0.0), x(4, 3), x(5, 3), x(4, 5, dtype="bool")
    )
    assert forward[2:4] == ["        v1 = where(x2, v0, 0.0)", "        return v1"]


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        (lambda a, w: pg.sum(a @ w), [(4, 3), (3, 5)]),  # no elementwise op
        (lambda a, w: pg.relu((a @ w).reshape((5, 4))), [(4, 3), (3, 5)]),  # a view between them
        (lambda a, w, r: (a @ w) + r, [(4, 3), (3, 5), (2, 4, 5)]),  # a larger result
        (
            lambda a, w: (lambda y: y + pg.sum(y))(a @ w),
            [(4, 3), (3, 5)],
        ),  # what it reads is made of the result
        (lambda a, w: pg.relu(a) @ w, [(4, 3), (3, 5)]),  # before it
        (lambda a, w: a @ w, [(4, 3), (3, 5)]),
    ],
)
def test_graphs_that_stay(fn: Any, shapes: Any) -> None:
    graph = graph_of(fn, *(x(*s) for s in shapes))
    done = epilogues(graph, Chip(), local.modes)
    assert done is graph


def test_a_residual_that_is_made_later_joins_where_nobody_reads_before() -> None:
    def fn(a: Any, w: Any, v: Any) -> Any:
        y = pg.linear(a, w)
        return pg.linear(a, v) + y

    # The first product waits for the second one, which is an operand of the sum.
    assert after(fn, x(4, 3), x(5, 3), x(5, 3)) == [
        "  v0 = linear(x0, x2, None)",
        "  v1 = epilogue(x0, x1, v0)",
        "        v0 = linear(x0, x1, None)",
        "        v1 = add(x2, v0)",
        "        return v1",
        "  return v1",
    ]


def test_the_value_of_a_head_is_read_before_its_tail_could_run() -> None:
    def fn(a: Any, w: Any) -> Any:
        y = a @ w
        row = pg.sum(y, axis=-1, keepdims=True)
        return pg.relu(y) - row

    # relu joins; the difference reads what is made of the product itself.
    assert after(fn, x(4, 3), x(3, 5)) == [
        "  v0, v1 = epilogue(x0, x1)",
        "        v0 = matrix_product(x0, x1)",
        "        v1 = relu(v0)",
        "        return v0, v1",
        "  v2 = sum(v0, axis=(1,), keepdims=True)",
        "  v3 = subtract(v1, v2)",
        "  return v3",
    ]


def test_two_products_and_their_sum() -> None:
    def fn(a: Any, w: Any, v: Any) -> Any:
        return pg.relu(a @ w) + pg.exp(a @ v)

    assert after(fn, x(4, 3), x(3, 5), x(3, 5)) == [
        "  v0 = epilogue(x0, x2)",
        "        v0 = matrix_product(x0, x1)",
        "        v1 = exp(v0)",
        "        return v1",
        "  v1 = epilogue(x0, x1, v0)",
        "        v0 = matrix_product(x0, x1)",
        "        v1 = relu(v0)",
        "        v2 = add(v1, x2)",
        "        return v2",
        "  return v1",
    ]


def test_a_shorter_tail_where_the_kernel_takes_no_longer_one() -> None:
    def fn(a: Any, w: Any) -> Any:
        return pg.tanh(pg.relu(a @ w) * 2)

    assert after(fn, x(4, 3), x(3, 5), chip=Chip(longest=1))[1:5] == [
        "        v0 = matrix_product(x0, x1)",
        "        v1 = relu(v0)",
        "        return v1",
        "  v1 = multiply(v0, 2)",
    ]
    refused = graph_of(fn, x(4, 3), x(3, 5))
    assert epilogues(refused, Chip(refused=["relu"]), local.modes) is refused
    assert epilogues(refused, NULL, local.modes) is refused


def test_a_long_tail_is_cut() -> None:
    def fn(a: Any, w: Any) -> Any:
        y = a @ w
        for _ in range(2 * LONGEST):
            y = pg.sin(y)
        return y

    done = epilogues(graph_of(fn, x(4, 3), x(3, 5)), Chip(), local.modes)
    first = done.nodes[0].op
    assert isinstance(first, Epilogue)
    assert len(first.graph) == LONGEST + 1
    assert len(done) == 1 + LONGEST


def test_exact_leaves_them_out() -> None:
    graph = graph_of(lambda a, w: pg.relu(a @ w), x(4, 3), x(3, 5))
    for exact, nodes in ((False, 1), (True, 2)):
        assert len(run_passes(graph, Context(Chip(), local.modes, exact))) == nodes


def made() -> Node:
    graph = graph_of(lambda a, w: pg.relu(pg.linear(a, w)) * a + 1, x(3, 3), x(3, 3))
    return epilogues(graph, Chip(), local.modes).nodes[0]


def test_what_is_called() -> None:
    """The operands of the head, then those of the tail that are not made in it, by position; attributes by name."""
    node = made()
    kernel = kernel_of(node, Chip(), local.modes)
    assert kernel.function("a", "w", into="there") == (("a", "w", None, "a"), {"into": "there"})
    tail, others = node.op.tail()
    assert [v.index for v in others] == [0]
    assert body(tail) == ["  v0 = relu(x0)", "  v1 = multiply(v0, x1)", "  v2 = add(v1, 1)", "  return v2"]
    conv = graph_of(lambda a, w, b: pg.relu(pg.conv(a, w, b, padding=1)), x(2, 3, 5, 5), x(4, 3, 3, 3), x(4))
    (node,) = epilogues(conv, Chip(), local.modes).nodes
    arrays, given = kernel_of(node, Chip(), local.modes).function("a", "w", "b", into=None)
    assert arrays == ("a", "w", "b")
    assert given.pop("padding") == ((1, 1), (1, 1))
    assert {"stride", "dilation", "groups", "into"} == set(given)
    with pytest.raises(
        UnsupportedOp, match=r"conv: the device has no kernel that computes conv \+ relu at once"
    ):
        kernel_of(node, NULL, local.modes)


def test_showing() -> None:
    graph = graph_of(lambda a, w: pg.relu(pg.linear(a, w)) * a + 1, x(3, 3), x(3, 3))
    done = epilogues(graph, Chip(), local.modes)
    again = from_json(to_json(done))
    assert isinstance(again.nodes[0].op, Epilogue)
    assert same(done, again)
    assert not same(done, epilogues(graph, Chip(longest=2), local.modes))
    assert "linear + relu + multiply + add" in dot(done)
    assert flops_of(done.nodes[0]) == sum(map(flops_of, graph.nodes)) == 2 * 27 + 3 * 9
    assert bytes_of(done.nodes[0]) == 4 * 3 * 9
