"""A graph as a picture: DOT for Graphviz, and SVG that needs nothing else.

The forward runs down on the left, and the backward up on the right, each rule at the height of the application that it
mirrors (`plugrad.graph.mirror`); updates stand at the far right. Colours are kinds of ops. A solid edge is a value that
the next op reads; a dashed one a value that the forward saves for the backward, which holds its memory until then.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from plugrad.dispatch.statement import Kind
from plugrad.graph.ir import Graph, Node, Value
from plugrad.graph.mirror import Place, Side, places
from plugrad.graph.printing import applied, names_of, short_line

COLOURS: Final = {
    Kind.ELEMENTWISE: "#dbeafe",
    Kind.REDUCTION: "#fde68a",
    Kind.SCAN: "#fcd9bd",
    Kind.MOVEMENT: "#e5e7eb",
    Kind.INDEXING: "#ddd6fe",
    Kind.CONTRACTION: "#bbf7d0",
    Kind.CREATION: "#f5f5f4",
    Kind.SORTING: "#fbcfe8",
    Kind.RANDOM: "#a5f3fc",
    Kind.OTHER: "#fecaca",
}
"""The colour of a node by the kind of its op; a rule has that of its op."""

_WIDTH, _HEIGHT, _GAP, _BETWEEN, _ROW, _MARGIN = 190, 40, 14, 90, 66, 24
_CHARACTERS: Final = 30


@dataclass(frozen=True, slots=True)
class _Edge:
    source: int
    target: int
    value: Value
    saved: bool


def _edges(graph: Graph, at: list[Place]) -> Iterator[_Edge]:
    made = {v: i for i, n in enumerate(graph.nodes) for v in n.results}
    for target, node in enumerate(graph.nodes):
        for value in dict.fromkeys(node.reads()):
            if (source := made.get(value)) is not None:
                saved = at[source].side is Side.FORWARD and at[target].side is not Side.FORWARD
                yield _Edge(source, target, value, saved)


def _specs(node: Node) -> str:
    return ", ".join(str(v.spec) for v in node.results)


def dot(graph: Graph, forward_nodes: int | None = None) -> str:
    """The graph in the DOT language: ``dot -Tsvg``, ``dot -Tpdf``.

    Args:
        graph: as it was captured; after passes, bodies stand where rules did and have no mirror image.
        forward_nodes: see `plugrad.graph.mirror.places`.
    """
    at, names = places(graph, forward_nodes), names_of(graph)
    lines = [
        "digraph plugrad {",
        '  node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=10, color="#6b7280"];',
        '  edge [color="#374151", arrowsize=0.6];',
        "  newrank=true;",
    ]
    for side in Side:
        members = [i for i, p in enumerate(at) if p.side is side]
        if not members:
            continue
        lines.append(f"  subgraph cluster_{side.value} {{ label={_quoted(side.value)}; color=white;")
        for i in members:
            node = graph.nodes[i]
            label = _quoted(f"{node.label}\n{_specs(node)}")
            tip = _quoted(f"{applied(node, names)}\n{short_line(node.line)}")
            lines.append(f'    n{i} [label={label}, fillcolor="{COLOURS[node.op.kind]}", tooltip={tip}];')
        lines.append("  }")
    for row in sorted({p.row for p in at}):
        beside = [f"n{i}" for i, p in enumerate(at) if p.row == row]
        if len(beside) > 1:
            lines.append(f"  {{ rank=same; {'; '.join(beside)}; }}")
    forward = [i for i, p in enumerate(at) if p.side is Side.FORWARD]
    lines += [f"  n{a} -> n{b} [style=invis];" for a, b in itertools.pairwise(forward)]
    for edge in _edges(graph, at):
        said = f"tooltip={_quoted(f'{names[edge.value]}: {edge.value.spec}')}"
        style = ', style=dashed, color="#dc2626"' if edge.saved else ""
        lines.append(f"  n{edge.source} -> n{edge.target} [constraint=false, {said}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def svg(graph: Graph, forward_nodes: int | None = None) -> str:
    """The graph as an SVG document; a pointer on a node or an edge shows it in full, with the user's line.

    Args:
        graph: as it was captured; after passes, bodies stand where rules did and have no mirror image.
        forward_nodes: see `plugrad.graph.mirror.places`.
    """
    at, names = places(graph, forward_nodes), names_of(graph)
    spots, width, heads = _spots(graph, at)
    taken = set(spots)
    height = _MARGIN + 20 + _ROW * (1 + max((p.row for p in at), default=0)) + 30
    width = max(width, 420)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif" font-size="10">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="context-stroke"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for side, x in heads.items():
        parts.append(f'<text x="{x}" y="{_MARGIN}" font-size="13" font-weight="bold">{side.value}</text>')
    for edge in _edges(graph, at):
        said = escape(f"{names[edge.value]}: {edge.value.spec}")
        colour = '#dc2626" stroke-dasharray="4 3' if edge.saved else "#6b7280"
        path = _curve(spots[edge.source], spots[edge.target], taken)
        parts.append(
            f'<path d="{path}" fill="none" stroke="{colour}" marker-end="url(#arrow)"><title>{said}</title></path>'
        )
    for i, (node, (x, y)) in enumerate(zip(graph.nodes, spots, strict=True)):
        tip = quoteattr(short_line(node.line))
        parts.append(
            f"<g data-node={quoteattr(str(i))} data-line={tip}><title>"
            f"{escape(applied(node, names))}\n{escape(short_line(node.line))}</title>"
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" '
            f'fill="{COLOURS[node.op.kind]}" stroke="#6b7280"/>'
            f'<text x="{x + 8}" y="{y + 16}" font-weight="bold">{escape(_cut(node.label))}</text>'
            f'<text x="{x + 8}" y="{y + 31}">{escape(_cut(_specs(node)))}</text></g>'
        )
    parts += _legend(graph, height)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[: _CHARACTERS - 1] + "…"


def _spots(graph: Graph, at: list[Place]) -> tuple[list[tuple[int, int]], int, dict[Side, int]]:
    """The corner of each node, the width of the picture, and where each side begins. What shares a row stands in a row."""
    rows: dict[Place, list[int]] = {}
    for i, place in enumerate(at):
        rows.setdefault(place, []).append(i)
    # Rules first, so that they stand beside what they mirror.
    within = {
        i: k
        for row in rows.values()
        for k, i in enumerate(sorted(row, key=lambda i: graph.nodes[i].op.owner is None))
    }
    heads: dict[Side, int] = {}
    x = _MARGIN
    for side in Side:
        if widest := max((len(row) for p, row in rows.items() if p.side is side), default=0):
            heads[side] = x
            x += widest * (_WIDTH + _GAP) - _GAP + _BETWEEN
    top = _MARGIN + 20
    spots = [(heads[p.side] + within[i] * (_WIDTH + _GAP), top + p.row * _ROW) for i, p in enumerate(at)]
    return spots, x - _BETWEEN + _MARGIN, heads


def _curve(source: tuple[int, int], target: tuple[int, int], spots: set[tuple[int, int]]) -> str:
    """From below or above a node to the next in its column, round or over those between, or across to another column."""
    (x0, y0), (x1, y1) = source, target
    half = _HEIGHT // 2
    if y0 == y1:
        if any(min(x0, x1) < x < max(x0, x1) and y == y0 for x, y in spots):
            return f"M{x0 + _WIDTH // 2} {y0}c0 -16 {x1 - x0} -16 {x1 - x0} 0"
        a, b = (x0 + _WIDTH, x1) if x1 > x0 else (x0, x1 + _WIDTH)
        return f"M{a} {y0 + half}L{b} {y0 + half}"
    down = y1 > y0
    a, b = (y0 + _HEIGHT, y1) if down else (y0, y1 + _HEIGHT)
    xa, xb = x0 + _WIDTH // 2, x1 + _WIDTH // 2
    if abs(y1 - y0) == _ROW or x0 != x1:
        bend = (b - a) // 2
        return f"M{xa} {a}C{xa} {a + bend} {xb} {b - bend} {xb} {b}"
    side = x0 + _WIDTH + min(_GAP + abs(y1 - y0) // 12, _BETWEEN - 10)
    return f"M{x0 + _WIDTH} {y0 + half}C{side} {y0 + half} {side} {y1 + half} {x1 + _WIDTH} {y1 + half}"


def _legend(graph: Graph, height: int) -> Iterator[str]:
    x = _MARGIN
    for kind in Kind:
        if any(n.op.kind is kind for n in graph.nodes):
            yield f'<rect x="{x}" y="{height - 22}" width="10" height="10" fill="{COLOURS[kind]}" stroke="#6b7280"/>'
            yield f'<text x="{x + 14}" y="{height - 13}">{kind.value}</text>'
            x += 24 + 6 * len(kind.value)
