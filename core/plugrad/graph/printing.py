"""A graph for people: as text, one node a line."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.call import attribute_key
from plugrad.graph.ir import Composed, Graph, Node, Value

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op

_WIDTH: Final = 100
_ALIGNED: Final = 44
"""Results up to this width stand in one column."""
_LONG: Final = 80
_UNSAID: Final = frozenset(("device", "residuals"))
"""Attributes that the results say: where they are, and how many."""
_LINE: Final = re.compile(r"(.*):(\d+), in (\S+): (.*)", re.DOTALL)


def names_of(graph: Graph) -> dict[Value, str]:
    """A name for each value: ``x0`` for an input, ``c0`` for a constant, ``v0`` for what a node computes."""
    names = {v: f"x{i}" for i, v in enumerate(graph.inputs)}
    names |= {v: f"c{i}" for i, v in enumerate(graph.constants)}
    computed = [v for node in graph.nodes for v in node.results]
    return names | {v: f"v{i}" for i, v in enumerate(computed)}


def text(graph: Graph, *, lines: bool = False) -> str:
    """The graph, as it is printed.

    Attributes that are what the op takes by default are left out, and those that the specs of the results say.

    Args:
        graph: any graph.
        lines: with the user's line as a comment behind each node.
    """
    names = names_of(graph)
    shown = [f"{names[v]}: {v.spec}" for v in graph.inputs]
    printed = _wrapped("graph(", shown, ")", " " * 6)
    results = [", ".join(f"{names[v]}: {v.spec}" for v in node.results) for node in graph.nodes]
    constants = [f"{names[v]}: {v.spec}" for v in graph.constants]
    width = max((len(r) for r in (*results, *constants) if len(r) <= _ALIGNED), default=0)
    printed += [f"  {c:{width}} = constant" for c in constants]
    nodes = [f"  {r:{width}} = {applied(n, names)}" for r, n in zip(results, graph.nodes, strict=True)]
    if lines:
        across = max((len(n) for n in nodes if len(n) <= _WIDTH), default=0)
        said = [short_line(n.line) for n in graph.nodes]
        nodes = [f"{n:{across}}  # {line}" if line else n for n, line in zip(nodes, said, strict=True)]
    for node, shown_node in zip(graph.nodes, nodes, strict=True):
        printed.append(shown_node)
        if isinstance(node.op, Composed):
            printed += [f"      {line}" for line in text(node.op.graph, lines=lines).splitlines()]
    printed += _wrapped("  return ", [names[v] for v in graph.outputs], "", " " * 9)
    return "\n".join(printed)


def applied(node: Node, names: Mapping[Value, str]) -> str:
    """The application of a node: its op, its operands by name, its attributes."""
    parts = [_operand(o, names) for o in node.operands]
    parts += [f"{k}={short(v)}" for k, v in told(node).items()]
    return f"{node.op.name}({', '.join(parts)})"


def told(node: Node) -> dict[str, Any]:
    """The attributes that are worth telling: no defaults, and nothing that the results say."""
    if isinstance(node.op, Composed):
        return {k: v for k, v in node.op.facts().items() if isinstance(v, int)}
    usual = _defaults(node.op)
    spec = node.results[0].spec if len(node.results) == 1 else None
    said: dict[str, Any] = {} if spec is None else {"shape": spec.shape, "dtype": spec.dtype}
    return {
        k: v
        for k, v in node.attributes.items()
        if k not in _UNSAID
        and not (k in usual and _is_usual(v, usual[k]))
        and not (k in said and attribute_key(v) == attribute_key(said[k]))
        and not (spec is not None and v is spec)
    }


@functools.cache
def _defaults(op: Op[..., Any]) -> dict[str, Any]:
    stated = inspect.signature((op.owner or op).__wrapped__)  # type: ignore[attr-defined]
    return {p.name: p.default for p in stated.parameters.values() if p.default is not p.empty}


def _is_usual(value: Any, default: Any) -> bool:
    """Whether a value in its normal form is the default: ``(1, 1)`` is 1 for each axis, for a ``stride`` of 1."""
    if attribute_key(value) == attribute_key(default) or (isinstance(default, bool) and value == default):
        return True
    if isinstance(value, tuple) and value and not isinstance(default, tuple):
        return all(_is_usual(v, default) for v in value)
    return False


def short(value: Any) -> str:
    """An attribute, as it is printed: a slice as it is written, a long tuple by its beginning."""
    if isinstance(value, tuple):
        parts = ", ".join(short(v) for v in value)
        if len(parts) > _LONG:
            return f"({parts[:_LONG]}...)"
        return f"({parts}{',' * (len(value) == 1)})"
    if isinstance(value, slice):
        bounds = ":".join("" if b is None else str(b) for b in (value.start, value.stop))
        return bounds if value.step is None else f"{bounds}:{value.step}"
    return str(value) if not isinstance(value, str) else repr(value)


def short_line(line: str) -> str:
    """The user's line without the folders of its file: ``train.py:12: loss.backward()``."""
    found = _LINE.fullmatch(line)
    if found is None:
        return line
    path, number, _, code = found.groups()
    code = code if len(code) <= _LONG else code[: _LONG - 3] + "..."
    return f"{PurePath(path).name}:{number}: {code}".rstrip(": ")


def _wrapped(first: str, parts: list[str], last: str, indent: str) -> list[str]:
    lines = [first]
    for i, part in enumerate(parts):
        piece = part + (", " if i < len(parts) - 1 else last)
        if len(lines[-1]) + len(piece.rstrip()) > _WIDTH and lines[-1].strip() and i:
            lines.append(indent)
        lines[-1] += piece
    if not parts:
        lines[-1] += last
    return [line.rstrip() for line in lines]


def _operand(operand: Any, names: Mapping[Value, str]) -> str:
    if isinstance(operand, Value):
        return names[operand]
    if isinstance(operand, tuple):
        return f"[{', '.join(names[v] for v in operand)}]"
    return repr(operand)
