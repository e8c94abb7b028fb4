"""Nodes that one generated kernel can compute become fused regions (`plugrad.graph.fused`), as `growth` finds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.statement import register
from plugrad.dtypes import DType
from plugrad.graph.fused import Fused
from plugrad.graph.ir import Graph, Node, Value
from plugrad.graph.passes.dead_code import dead_code
from plugrad.graph.passes.growth import Group, Growth
from plugrad.graph.rewrite import Rewriter, specs_of, values_of

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend

_MOVING: Final = frozenset(("reshape", "broadcast_to", "permute_dims", "strided_slice", "concatenate"))


def generate(graph: Graph, backend: Backend) -> Graph:
    """The graph with fused regions in the place of nodes, where the device generates kernels.

    Args:
        graph: a graph, lowered.
        backend: of the device.
    """
    device = graph.device
    if device is None or not backend.capabilities(device).generating:
        return graph
    graph = _narrowed(graph)
    return _contracted(graph, Growth(graph), backend)


def _narrowed(graph: Graph) -> Graph:
    """The graph with casts to narrower dtypes before what only moves elements: it moves fewer bytes then."""
    count = Counter(v for n in graph.nodes for v in n.reads())
    count.update(graph.outputs)
    rewriter = Rewriter(graph)

    def cast(value: Value, dtype: DType) -> Value:
        node = value.node
        spec = value.spec.with_dtype(dtype)
        if node is None or node.op.name not in _MOVING or count[value] > 1:
            made = rewriter.add(register["astype"], [rewriter.value(value)], {"dtype": dtype}, spec)
        elif node.op.name == "concatenate":
            parts = tuple(cast(v, dtype) for v in node.reads())
            made = rewriter.add(node.op, [parts], node.attributes, spec, node.line)
        else:
            (x,) = node.reads()
            made = rewriter.add(node.op, [cast(x, dtype)], node.attributes, spec, node.line)
        return made  # type: ignore[no-any-return]

    for node in graph.nodes:
        dtype = node.results[0].spec.dtype if node.op.name == "astype" else None
        x = next(node.reads(), None)
        if dtype is not None and x is not None and dtype.itemsize < x.spec.dtype.itemsize:
            rewriter.replace(node, cast(x, dtype))
        else:
            rewriter.copy(node)
    return dead_code(rewriter.finish())


def _contracted(graph: Graph, growth: Growth, backend: Backend) -> Graph:
    """The graph with a node for each region, all in an order in which they can run."""
    rewriter = Rewriter(graph)
    done: set[Group] = set()
    made: dict[Group, Fused | None] = {}
    leaving: dict[Group, list[Value]] = {}
    taken: dict[Group, list[Value]] = {}
    groups = list(dict.fromkeys(growth.of.values()))
    readers = growth.readers
    for group in groups:
        if group.again and _region(group, readers)[0].generate(backend) is None:
            group.again.clear()
    readers = _readers(groups, readers)
    for group in groups:
        made[group] = None
        if group.shape is not None and group.gains:
            fused, taken[group], leaving[group] = _region(group, readers)
            if fused.generate(backend) is not None:
                made[group] = fused

    # Each node or region once all that it reads is there; without recursion, as chains may be long.
    for node in graph.nodes:
        stack = [growth.of[node]]
        while stack:
            group = stack[-1]
            if group in done:
                stack.pop()
                continue
            waiting = [g for g in growth.read_by(group) if g not in done]
            if waiting:
                stack += dict.fromkeys(waiting)
                continue
            stack.pop()
            done.add(group)
            fused_op = made[group]
            if fused_op is None:
                for member in group.members:
                    rewriter.copy(member)
                continue
            values = leaving[group]
            form = rewriter.add(
                fused_op,
                [rewriter.value(v) for v in taken[group]],
                {},
                tuple(v.spec for v in values) if len(values) > 1 else values[0].spec,
            )
            for old, new in zip(values, values_of(form), strict=True):
                rewriter.replace_value(old, new)
    return rewriter.finish()


def _readers(
    groups: Sequence[Group], readers: Mapping[Value, list[Node | None]]
) -> dict[Value, list[Node | None]]:
    """The readers of each value, once regions compute again what they do."""
    found = {v: list(r) for v, r in readers.items()}
    for group in groups:
        members = set(group.members)
        for value in group.again:
            found[value] = [r for r in found[value] if r not in members]
            assert value.node is not None
            for read in value.node.reads():
                if read not in group.again:
                    found.setdefault(read, []).append(group.members[0])
    return found


def _region(
    group: Group, readers: Mapping[Value, list[Node | None]]
) -> tuple[Fused, list[Value], list[Value]]:
    """The fused region of a group, the values that it reads, and those that are read outside."""
    inner = Graph()
    new: dict[Value, Value] = {}
    outer: dict[Value, Value] = {}

    def operand(old: Any) -> Any:
        if isinstance(old, tuple):
            return tuple(operand(v) for v in old)
        if not isinstance(old, Value):
            return old
        if old in new:
            return new[old]
        if old in group.again:
            add(old.node)
            return new[old]
        if old not in outer:
            outer[old] = inner.input(old.spec)
        return outer[old]

    def add(node: Any) -> None:
        operands = [operand(o) for o in node.operands]
        inner.add(node.op, operands, node.attributes, specs_of(node.form), node.line)
        new.update(zip(node.results, inner.nodes[-1].results, strict=True))

    members = set(group.members)
    for node in group.members:
        add(node)
    made = (v for n in group.members for v in n.results)
    leaving = [v for v in made if any(r is None or r not in members for r in readers.get(v, ()))]
    inner.outputs = [new[v] for v in leaving]
    return Fused(inner), list(outer), leaving
