"""Faults of the plan and of its passes, put in one at a time: the suite's captured cases notice each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plugrad.backend import KernelTable, register_backend
from plugrad.dispatch.op import Op
from plugrad.dispatch.statement import register
from plugrad.graph import epilogue, memory, passes, plan, region
from plugrad.graph.ir import Graph, Value
from plugrad.graph.passes import common
from plugrad.graph.rewrite import Rewriter
from plugrad_conformance.checks import all_cases
from plugrad_conformance.checks.epilogues import TAILS
from plugrad_conformance.running import run_case
from plugrad_conformance.subject import Subject
from plugrad_numpy import _parallel
from plugrad_numpy.backend import NumPyBackend

OPS = (
    "softmax",
    "layer_norm",
    "gelu",
    "cross_entropy",
    "logsumexp",
    "lstm_sequence",
    "group_norm",
    "pad",
    "tile",
    "roll",
)


class Primitives(NumPyBackend):
    """NumPy with kernels of primitives alone: bodies make graphs of many nodes."""

    name = "primitives_of_numpy"

    def __init__(self) -> None:
        self.kernels = KernelTable()
        for op, kernels in NumPyBackend.kernels._kernels.items():
            if isinstance(op, Op) and op.primitive:
                for kernel in kernels:
                    self.kernels.add(op, kernel)


@pytest.fixture(scope="module")
def subject() -> Subject:
    register_backend(Primitives())
    return Subject(Primitives.name)


@pytest.fixture(autouse=True)
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions have parts, however few threads the environment allows."""
    monkeypatch.setattr(_parallel._state, "size", 2)


CASES = [
    c
    for c in all_cases()
    if (c.kind == "captured" and c.op in OPS)
    or (c.kind == "epilogues" and c.op in ("matrix_product", "conv") and c.variant in TAILS)
]


def failed(subject: Subject) -> Iterator[str]:
    """The cases that fail, each as soon as it does."""
    for case in CASES:
        record = run_case(case, subject)
        if record["status"] == "failed":
            yield record["id"]


def test_the_correct_one_passes(subject: Subject) -> None:
    assert len(CASES) > 24
    assert list(failed(subject)) == []


def _no_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view counts as memory of its own."""

    def roots(graph: Graph, views: Any) -> dict[Value, tuple[Value, ...]]:
        del views
        values = [*graph.inputs, *graph.constants, *(v for n in graph.nodes for v in n.results)]
        return {v: (v,) for v in values}

    monkeypatch.setattr(memory, "roots_of", roots)


def _too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is free before its last reader has run."""
    original = memory._block

    def block(layout: memory.Layout, free: list[int], size: int) -> int:
        taken = [b for b in range(len(layout.blocks)) if b not in free]
        return original(layout, free + taken[-1:], size)

    monkeypatch.setattr(memory, "_block", block)


def _attributes_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two applications that differ in an attribute alone are taken for one."""
    monkeypatch.setattr(
        common, "attribute_key", lambda value: value if isinstance(value, (int, float)) else None
    )
    monkeypatch.setattr(common, "sorted", lambda items: (), raising=False)


def _wrong_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowering reduces over the axis before."""
    original = passes.lower

    def lower(graph: Graph, backend: Any, modes: Any) -> Graph:
        rewriter = Rewriter(original(graph, backend, modes))
        for node in rewriter.source.nodes:
            if node.op.name == "sum" and node.attributes["axis"] and node.results[0].spec.ndim:
                spec = next(node.reads()).spec
                square = len(set(spec.shape)) < len(spec.shape)
                if square or node.attributes["keepdims"]:
                    node.attributes["axis"] = tuple(max(a - 1, 0) for a in node.attributes["axis"][:1])
            rewriter.copy(node)
        return rewriter.finish()

    monkeypatch.setitem(passes.PASSES, "lower", lambda g, c: lower(g, c.backend, c.modes))


def _dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last addition, an epilogue, is left out."""
    original = passes.PASSES["algebra"]

    def drop(graph: Graph, context: Any) -> Graph:
        graph = original(graph, context)
        rewriter = Rewriter(graph)
        adds = [n for n in graph.nodes if n.op.name == "add" and isinstance(n.operands[0], Value)]
        for node in graph.nodes:
            first = node.operands[0] if node.operands else None
            if adds and node is adds[-1] and isinstance(first, Value) and first.spec is node.results[0].spec:
                rewriter.replace(node, rewriter.value(first))
            else:
                rewriter.copy(node)
        return rewriter.finish()

    monkeypatch.setitem(passes.PASSES, "algebra", drop)


def _first_results_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line writes what leaves it into memory of its own, which the next replay writes again."""
    original = plan.lay_out

    def lay_out(graph: Graph, *rest: Any) -> Any:
        outputs, graph.outputs = graph.outputs, []
        try:
            return original(graph, *rest)
        finally:
            graph.outputs = outputs

    monkeypatch.setattr(plan, "lay_out", lay_out)


def _part_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last part of a region is not computed."""
    monkeypatch.setattr(
        Primitives, "spread", lambda self, work, count: [work(i) for i in range(max(count - 1, 0))]
    )


def _first_part_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part of a region reads the first part of its operands."""
    original = region._Runner._part

    def part(self: region._Runner, number: int, arrays: Any, places: Any) -> Any:
        other = copy.copy(self)
        other.__dict__["_inputs"] = [c and (c[0], [c[1][0]] * len(c[1])) for c in self._inputs]
        return original(other, number, arrays, places)

    monkeypatch.setattr(region._Runner, "_part", part)


def _addends_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parts of a region add up to is the first of them."""
    monkeypatch.setattr(region._Runner, "_total", lambda self, add, addends, into: addends[0])


def _changed_tails(monkeypatch: pytest.MonkeyPatch, change: Callable[[Graph], None]) -> None:
    original = epilogue.Epilogue.tail

    def tail(self: epilogue.Epilogue) -> tuple[Graph, list[Value]]:
        graph, others = original(self)
        change(graph)
        return graph, others

    monkeypatch.setattr(epilogue.Epilogue, "tail", tail)


def _epilogue_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product gives what it gives without its tail."""

    def change(graph: Graph) -> None:
        # The same number of results, and a kernel of the same kind: the last node gives the product itself.
        head, last = graph.inputs[0], graph.nodes[-1]
        if last.form.spec is head.spec:
            last.op, last.operands, last.attributes = register["maximum"], (head, head), {}

    _changed_tails(monkeypatch, change)


def _tail_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail takes the product for its other operand, and that for the product."""

    def change(graph: Graph) -> None:
        head, *others = graph.inputs
        other = next((v for v in others if v.spec is head.spec), head)
        for node in graph.nodes:
            swapped = {head: other, other: head}
            node.operands = tuple(swapped.get(o, o) if isinstance(o, Value) else o for o in node.operands)

    _changed_tails(monkeypatch, change)


FAULTS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    _no_aliases,
    _too_early,
    _attributes_forgotten,
    _wrong_axis,
    _dropped,
    _first_results_again,
    _part_left_out,
    _first_part_again,
    _addends_left_out,
    _epilogue_left_out,
    _tail_of_another,
)


@pytest.fixture(params=FAULTS, ids=lambda f: f.__name__.strip("_"))
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    request.param(monkeypatch)
    return request.param.__doc__ or ""


def test_each_fault_is_noticed(fault: str, subject: Subject) -> None:
    assert next(failed(subject), None), f"not noticed: {fault}"
