"""Updates of small parameters become bundles, which a device runs as one (`plugrad.graph.bundle`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.call import attribute_key
from plugrad.dispatch.factors import Factor, factors_of
from plugrad.graph.bundle import Bundle
from plugrad.graph.ir import Composed, Graph, Node, Value
from plugrad.graph.rewrite import Rewriter, specs_of
from plugrad.graph.source.program import fuses

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend

SMALL: Final = 1 << 16
"""Bytes of a result up to which starting a kernel counts."""


def bundle(graph: Graph, backend: Backend) -> Graph:
    """The graph with bundles in the place of updates, where the device joins memory.

    Updates are nodes whose results nothing reads but what binds them outside. Those that the device can compute in the
    kernel which makes what they read are left to fused regions.
    """
    device = graph.device
    if device is None or not backend.capabilities(device).joining:
        return graph
    generating = backend.capabilities(device).generating
    read = {v for n in graph.nodes for v in n.reads()}
    outputs = set(graph.outputs)
    groups: dict[Any, list[Node]] = {}
    for node in graph.nodes:
        if generating and fuses(node):
            continue
        if node.results and all(v in outputs and v not in read for v in node.results):
            own = _own(node)
            if own is not None:
                groups.setdefault(_key(node, own), []).append(node)
    last = {nodes[-1]: nodes for nodes in groups.values() if len(nodes) > 1}
    waiting = {n for nodes in last.values() for n in nodes}
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        if node in last:
            _add(rewriter, last[node])
        elif node not in waiting:
            rewriter.copy(node)
    return rewriter.finish()


def _own(node: Node) -> frozenset[int] | None:
    """Which operands a small node works on element by element, to results of their shape; None if it does not."""
    spec = node.results[0].spec
    if isinstance(node.op, Composed):
        return None
    if not spec.size or not spec.shape or spec.nbytes > SMALL:
        return None
    if any(v.spec.shape != spec.shape for v in node.results):
        return None
    factors = factors_of(node.op, node.specs(), node.attributes, [v.spec for v in node.results])
    cut: set[frozenset[str]] = set()
    for axis, size in enumerate(spec.shape):
        if size > 1:
            own = next((f for f in factors if _along(f, axis)), None)
            if own is None:
                return None
            cut.add(frozenset(own.axes))
    if len(cut) > 1 or any(k in node.attributes for k in next(iter(cut), ())):
        return None
    # Without an axis of more than one element nothing tells: the operands of the results' shape are taken.
    names = next(iter(cut), None)
    found = set()
    for i, (stated, given) in enumerate(zip(node.op.operands, node.operands, strict=True)):
        same = isinstance(given, Value) and given.spec.shape == spec.shape
        if names is None or stated.name in names:
            if not same:
                return None
            found.add(i)
        elif not isinstance(given, Value) or given.spec.shape:
            return None
    return frozenset(found)


def _along(factor: Factor, axis: int) -> bool:
    return all(a == axis for a in factor.axes.values()) and all(a == axis for a in factor.results)


def _key(node: Node, own: frozenset[int]) -> Any:
    """What nodes of one bundle have in common."""
    operands = tuple(v.spec.dtype if i in own else v for i, v in enumerate(node.operands))
    attributes = tuple((k, attribute_key(v)) for k, v in sorted(node.attributes.items()))
    return node.op.name, own, operands, attributes, tuple(v.spec.dtype for v in node.results)


def _add(rewriter: Rewriter, nodes: list[Node]) -> None:
    """A node for a bundle."""
    own = _own(nodes[0])
    assert own is not None
    count = len(nodes[0].operands)
    columns = [[n.operands[i] for n in nodes] if i in own else [nodes[0].operands[i]] for i in range(count)]
    inner = Graph()
    inputs = [[inner.input(v.spec) for v in column] for column in columns]
    for m, node in enumerate(nodes):
        operands = [column[m if i in own else 0] for i, column in enumerate(inputs)]
        inner.add(node.op, operands, node.attributes, specs_of(node.form), node.line)
    results = range(len(nodes[0].results))
    inner.outputs = [n.results[r] for r in results for n in inner.nodes]
    applied = Bundle(inner, frozenset(range(count)) - own)
    given = [rewriter.value(v) for column in columns for v in column]
    form = rewriter.add(applied, given, {}, tuple(v.spec for v in inner.outputs))
    for old, new in zip([n.results[r] for r in results for n in nodes], form, strict=True):
        rewriter.replace_value(old, new)
