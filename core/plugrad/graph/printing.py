"""A graph for people: as text, one node a line."""

from __future__ import annotations

from typing import Any

from plugrad.graph.ir import Graph, Value


def names_of(graph: Graph) -> dict[Value, str]:
    """A name for each value: ``x0`` for an input, ``v0`` for what a node computes."""
    names = {v: f"x{i}" for i, v in enumerate(graph.inputs)}
    for node in graph.nodes:
        for value in node.results:
            names[value] = f"v{len(names) - len(graph.inputs)}"
    return names


def text(graph: Graph) -> str:
    """The graph, as it is printed."""
    names = names_of(graph)
    lines = [f"graph({', '.join(f'{names[v]}: {v.spec}' for v in graph.inputs)})"]
    for node in graph.nodes:
        results = ", ".join(f"{names[v]}: {v.spec}" for v in node.results)
        parts = [_operand(o, names) for o in node.operands]
        parts += [f"{k}={v}" for k, v in node.attributes.items()]
        lines.append(f"  {results} = {node.op.name}({', '.join(parts)})")
    lines.append(f"  return {', '.join(names[v] for v in graph.outputs)}")
    return "\n".join(lines)


def _operand(operand: Any, names: dict[Value, str]) -> str:
    if isinstance(operand, Value):
        return names[operand]
    if isinstance(operand, tuple):
        return f"[{', '.join(names[v] for v in operand)}]"
    return repr(operand)
