"""The same op of the same operands is computed once. All ops are functions of their operands, so any may be."""

from __future__ import annotations

from typing import Any

from plugrad.dispatch.call import attribute_key
from plugrad.graph.ir import Graph, Value
from plugrad.graph.rewrite import Rewriter


def common_subexpressions(graph: Graph) -> Graph:
    """The graph with each application once."""
    rewriter = Rewriter(graph)
    seen: dict[Any, Any] = {}
    for node in graph.nodes:
        operands = rewriter.operands(node)
        key = (
            node.op,
            *(o if isinstance(o, (Value, tuple)) else attribute_key(o) for o in operands),
            *((k, attribute_key(v)) for k, v in sorted(node.attributes.items())),
        )
        if key in seen:
            rewriter.replace(node, seen[key])
        else:
            rewriter.copy(node)
            seen[key] = rewriter.graph.nodes[-1].form
    return rewriter.finish()
