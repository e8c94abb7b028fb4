"""Graphs run node by node: what a plan does, as simply as can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plugrad.dispatch.lowering import flatten
from plugrad.graph.ir import Node, Value


def run_node(node: Node, function: Callable[..., Any], known: dict[Value, Any]) -> list[Any]:
    """Apply a kernel to what is known of the operands of a node; its results, which are known from then on."""
    operands = [
        [known[v] for v in o] if isinstance(o, tuple) else known[o] if isinstance(o, Value) else o
        for o in node.operands
    ]
    results = [a for a in flatten((function(*operands, **node.attributes),)) if a is not None]
    known.update(zip(node.results, results, strict=True))
    return results
