"""What of a graph is forward, what backward, what an update; and which forward node a node of the backward mirrors."""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass

from plugrad.graph.ir import Graph, Node, Value
from plugrad.spec import Spec


class Side(enum.Enum):
    """Where a node stands when the backward is drawn beside the forward, as its mirror image."""

    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a node.

    Attributes:
        side: its side.
        row: the height: the number of the forward node that it is, or mirrors, from 0.
    """

    side: Side
    row: int


def places(graph: Graph, forward_nodes: int | None = None) -> list[Place]:
    """The place of each node, in order.

    A forward node has a row of its own. The backward walks back through these: a rule stands at the height of the
    application that it is the rule of, and what lies between two rules at the height of what it reads. What comes
    after the last rule is an update, at the height of the gradient that it uses. A node that reads nothing of either
    stands beside the first that reads it.

    Args:
        graph: a graph as it was captured: passes put bodies in the place of rules.
        forward_nodes: how many nodes come before the backward of the results (`Capture.forward_nodes`), where there
            is one. Else the backward begins before the first rule, with what is made for that alone.
    """
    nodes = graph.nodes
    rules = [i for i, n in enumerate(nodes) if n.op.owner is not None]
    pulled = forward_nodes is not None and forward_nodes < len(nodes)
    first = forward_nodes if pulled else _start(graph, rules[0]) if rules else len(nodes)
    last = len(nodes) - 1 if pulled or not rules else rules[-1]
    assert first is not None
    found: list[Place] = []
    by_value: dict[Value, Place] = {}
    floating: list[int] = []
    partners = _Partners()
    height = 0
    for i, node in enumerate(nodes):
        late = [p.row for v in node.reads() if (p := by_value.get(v)) and p.side is not Side.FORWARD]
        if node.op.owner is not None:
            height = partners.of(node, height)
            place = Place(Side.BACKWARD, height)
        elif i < first or (i < last and not pulled and not late and any(True for _ in node.reads())):
            height = partners.add(node)
            place = Place(Side.FORWARD, height)
        else:
            place = Place(Side.UPDATE if i > last else Side.BACKWARD, min(late) if late else height)
            if not late:
                floating.append(i)
        found.append(place)
        if late or place.side is Side.FORWARD or node.op.owner is not None:
            by_value |= dict.fromkeys(node.results, place)
    readers = _readers(graph)
    for i in reversed(floating):
        read = [found[r].row for v in nodes[i].results for r in readers.get(v, ())]
        found[i] = Place(found[i].side, read[0] if read else found[i].row)
    return found


def _readers(graph: Graph) -> dict[Value, list[int]]:
    """By value, the numbers of the nodes that read it."""
    readers: dict[Value, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for value in node.reads():
            readers.setdefault(value, []).append(i)
    return readers


def _start(graph: Graph, first: int) -> int:
    """The number of the first node of the backward: seeds of cotangents, read by it alone, stand before the rules."""
    readers = _readers(graph)
    outputs = set(graph.outputs)
    while first > 0:
        before = graph.nodes[first - 1]
        read = [i for v in before.results for i in readers.get(v, ())]
        seeds = not list(before.reads()) and outputs.isdisjoint(before.results)
        if not (seeds and read and min(read) >= first):
            break
        first -= 1
    return first


class _Partners:
    """The applications that rules are the rules of."""

    def __init__(self) -> None:
        self._forward: list[Node] = []
        self._taken: set[tuple[int, str]] = set()

    def add(self, node: Node) -> int:
        """The row of a forward node."""
        self._forward.append(node)
        return len(self._forward) - 1

    def of(self, rule: Node, height: int) -> int:
        """The row of the application, seen from the height that the walk back has reached; else that height.

        Values that the rule saved tell applications apart. Where it saved none, the next one back is taken.
        """
        below = range(min(height, len(self._forward) - 1), -1, -1)
        above = range(len(self._forward) - 1, height, -1)  # a second backward begins at the end again
        for row in itertools.chain(below, above):
            if (row, rule.op.name) not in self._taken and _fits(rule, self._forward[row]):
                self._taken.add((row, rule.op.name))
                return row
        return height


def _fits(rule: Node, node: Node) -> bool:
    if node.op is not rule.op.owner:
        return False
    operands = dict(zip((o.name for o in node.op.operands), node.operands, strict=True))
    results = dict(zip((*node.op.outputs, *node.op.residuals), node.results, strict=False))
    for operand, given in zip(rule.op.operands, rule.operands, strict=True):
        if operand.name in operands or operand.name in results:
            known = operands.get(operand.name, results.get(operand.name))
            if isinstance(given, Value) and isinstance(known, Value) and given is not known:
                return False
        elif isinstance(given, Value):  # a cotangent: of the only output, or of the one that it names
            of = results.get(operand.name.removeprefix("ct_"), node.results[0])
            if of.spec.shape != given.spec.shape:
                return False
    return all(
        not isinstance(v, Spec) or not isinstance(o := operands.get(k), Value) or o.spec is v
        for k, v in rule.attributes.items()
    )
