"""`Plan`: a graph made ready to run on one device, as a straight line of kernel calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from plugrad.dispatch.lowering import with_modes
from plugrad.graph.ir import Graph, Value
from plugrad.graph.passes.common import common_subexpressions
from plugrad.graph.passes.dead_code import dead_code
from plugrad.graph.passes.lowering import lower

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.modes import Modes


class Plan:
    """Runs a graph.

    Attributes:
        graph: what runs, after all passes.
        run: from the arrays of the inputs, the arrays of the outputs.
        source: the Python code of ``run``.
    """

    def __init__(self, graph: Graph, backend: Backend, modes: Modes) -> None:
        graph = dead_code(graph)
        graph = lower(graph, backend, modes)
        self.graph = common_subexpressions(graph)
        self.run, self.source = _line(self.graph, backend, modes)


def _line(graph: Graph, backend: Backend, modes: Modes) -> tuple[Callable[[Sequence[Any]], list[Any]], str]:
    """The code that calls the kernels in order, and lets go of each array after its last reader."""
    last: dict[Value, int] = {}
    for i, node in enumerate(graph.nodes):
        for value in node.reads():
            last[value] = i
    kept = set(graph.outputs)
    names = {v: f"x{i}" for i, v in enumerate(graph.inputs)}
    scope: dict[str, Any] = {}
    for i, (value, array) in enumerate(graph.constants.items()):
        names[value], scope[f"c{i}"] = f"c{i}", array
    lines = ["def run(inputs):"]
    if graph.inputs:
        lines.append(f"  {''.join(f'x{i}, ' for i in range(len(graph.inputs)))}= inputs")
    for i, node in enumerate(graph.nodes):
        found = backend.kernels.find(node.op, node.specs(), with_modes(node.attributes, modes))
        assert found is not None
        scope[f"k{i}"] = found.function
        arguments = []
        for j, operand in enumerate(node.operands):
            if isinstance(operand, (Value, tuple)) or operand is None:
                arguments.append(_argument(operand, names))
            else:
                scope[f"s{i}_{j}"] = operand
                arguments.append(f"s{i}_{j}")
        for key, value in node.attributes.items():
            scope[f"a{i}_{key}"] = value
            arguments.append(f"{key}=a{i}_{key}")
        for j, value in enumerate(node.results):
            names[value] = f"v{i}_{j}"
        form = _form(node.form, names)
        lines.append(f"  {form} = k{i}({', '.join(arguments)})")
        dead = [
            v
            for v in dict.fromkeys(node.reads())
            if last[v] == i and v not in kept and v not in graph.constants
        ]
        dead += [v for v in node.results if v not in last and v not in kept]
        if dead:
            lines.append(f"  {' = '.join(names[v] for v in dead)} = None")
    lines.append(f"  return [{', '.join(names[v] for v in graph.outputs)}]")
    source = "\n".join(lines)
    exec(compile(source, "<plan>", "exec"), scope)
    return scope["run"], source


def _argument(operand: Any, names: dict[Value, str]) -> str:
    if isinstance(operand, Value):
        return names[operand]
    if isinstance(operand, tuple):
        return f"[{', '.join(names[v] for v in operand)}]"
    return "None"


def _form(form: Any, names: dict[Value, str]) -> str:
    if isinstance(form, (tuple, list)):
        return f"({''.join(_form(part, names) + ', ' for part in form)})" if form else "_"
    return "_" if form is None else names[form]
