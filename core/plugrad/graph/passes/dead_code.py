"""Nodes and constants that no output needs go."""

from __future__ import annotations

from plugrad.graph.ir import Graph, Value
from plugrad.graph.rewrite import Rewriter


def dead_code(graph: Graph) -> Graph:
    """The graph without what is not needed."""
    needed: set[Value] = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.results):
            kept.append(node)
            needed.update(node.reads())
    rewriter = Rewriter(graph)
    for node in reversed(kept):
        rewriter.copy(node)
    new = rewriter.finish()
    for value in graph.constants:
        if value not in needed:
            del new.constants[rewriter.value(value)]
    return new
