"""Cotangents of selections that make up a tensor are put side by side, in the place of sums of tensors that are mostly zeros.

``x[0]``, ``x[1]`` and ``x[2]``, each used on its own, give ``x`` three cotangents, zero but for one place, which are added up. A
stack of the three is that sum, except for the sign of a zero: -0 + 0 is 0. So this is left out under ``exact``.
"""

from __future__ import annotations

from collections.abc import Mapping

from plugrad.dispatch.statement import register
from plugrad.graph.ir import Graph, Node, Value
from plugrad.graph.passes.dead_code import dead_code
from plugrad.graph.rewrite import Rewriter


def stack(graph: Graph) -> Graph:
    """The graph with stacks of cotangents in the place of their sums."""
    uses: dict[Value, int] = dict.fromkeys(graph.outputs, 2)
    inner: set[Value] = set()
    for node in graph.nodes:
        for value in node.reads():
            uses[value] = uses.get(value, 0) + 1
            if node.op.name == "add" and value.spec is node.results[0].spec:
                inner.add(value)
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        # From the last addition of a sum, so that each is looked at once.
        last = node.op.name == "add" and (node.results[0] not in inner or uses[node.results[0]] > 1)
        parts = _parts(node.results[0], uses) if last else None
        if parts is None:
            rewriter.copy(node)
        else:
            rewriter.replace(node, _stacked(rewriter, node, parts))
    return dead_code(rewriter.finish())


def _parts(value: Value, uses: Mapping[Value, int]) -> list[Value] | None:
    """The cotangents by their index, where a sum is made of one for each; None where it is not."""
    rules: list[Node] = []
    waiting = [value]
    while waiting:
        node = waiting.pop().node
        if node is None or (node.results[0] is not value and uses[node.results[0]] > 1):
            return None
        if node.op.name == "add" and all(
            isinstance(o, Value) and o.spec is value.spec for o in node.operands
        ):
            waiting += node.operands
        elif node.op is register["select"].vjp_for("x") and node.attributes["x"] is value.spec:
            rules.append(node)
        else:
            return None
    axes = {n.attributes["axis"] for n in rules}
    found = {n.attributes["index"]: n.operands[0] for n in rules}
    if len(axes) > 1 or len(found) < len(rules) or len(found) != value.spec.shape[axes.pop()]:
        return None
    return [found[i] for i in range(len(found))]


def _stacked(rewriter: Rewriter, node: Node, parts: list[Value]) -> Value:
    rule = node
    while rule.op.name == "add":
        rule = rule.operands[0].node
    axis, spec = rule.attributes["axis"], node.results[0].spec
    shape = (*spec.shape[:axis], 1, *spec.shape[axis + 1 :])
    one, line = spec.with_shape(shape), node.line
    rows = [
        rewriter.add(register["reshape"], [rewriter.value(p)], {"shape": shape, "copy": None}, one, line)
        for p in parts
    ]
    found: Value = rewriter.add(register["concatenate"], [tuple(rows)], {"axis": axis}, spec, line)
    return found
