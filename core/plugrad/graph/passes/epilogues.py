"""Elementwise ops become a part of the product, or of whatever else comes before them (`plugrad.graph.epilogue`), where its kernel computes both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.statement import Kind
from plugrad.errors import UnsupportedOp
from plugrad.graph.epilogue import Epilogue
from plugrad.graph.ir import Composed, Graph, Node, Value
from plugrad.graph.memory import kernel_of
from plugrad.graph.rewrite import Rewriter, specs_of, values_of

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.modes import Modes

LONGEST: Final = 16
"""Nodes of a tail at most."""


def epilogues(graph: Graph, backend: Backend, modes: Modes) -> Graph:
    """The graph with epilogues in the place of heads and their tails.

    Args:
        graph: a graph, lowered.
        backend: of the device. A head is a node whose kernel has an ``epilogue``, a tail what follows its first result; of
            a tail that the kernel does not take, a shorter beginning is tried.
        modes: kernels are chosen by ``matmul_precision``.
    """
    search = _Search(graph)
    for node in graph.nodes:
        if isinstance(node.op, Composed) or not _in_one_row(node) or node.op.kind is Kind.ELEMENTWISE:
            continue
        if kernel_of(node, backend, modes).epilogue is None:
            continue
        members = search.grown(node)
        while len(members) > 1:
            made, inputs = _epilogue(members, search.readers)
            try:
                made.kernel(backend, modes, {})
            except UnsupportedOp:
                members.pop()
                continue
            search.take(members, made, inputs)
            break
    return search.contracted() if search.taken else graph


class _Taken:
    """An epilogue that is to stand in the new graph.

    Attributes:
        members: the head, then the tail.
        op: what the node applies.
        inputs: its operands, values of the old graph.
    """

    def __init__(self, members: list[Node], op: Epilogue, inputs: list[Value]) -> None:
        self.members, self.op, self.inputs = members, op, inputs


class _Search:
    """Heads with their tails in a graph.

    Attributes:
        readers: by value, the nodes that read it; None for an output.
        taken: by the place in the order, that of an old node, the epilogues that come right after it.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.readers: dict[Value, list[Node | None]] = {v: [None] for v in graph.outputs}
        for node in graph.nodes:
            for value in dict.fromkeys(node.reads()):
                self.readers.setdefault(value, []).append(node)
        self.taken: dict[int, list[_Taken]] = {}
        self._at = {n: i for i, n in enumerate(graph.nodes)}  # of a member, the place of its epilogue
        self._members: set[Node] = set()

    def grown(self, head: Node) -> list[Node]:
        """The head and the longest tail whose members can all be computed at one place in the order."""
        if head in self._members:
            return [head]
        members = dict.fromkeys([head])
        waiting = [head]
        while waiting:
            for node in self._following(waiting.pop(0).results[:1]):
                if (
                    len(members) <= LONGEST
                    and node not in members
                    and self._fits(node, head)
                    and self._place([*members, node]) is not None
                ):
                    members[node] = None
                    waiting.append(node)
        # One that was found early may read what a later one makes.
        return sorted(members, key=self._at.__getitem__)

    def _following(self, values: Sequence[Value]) -> list[Node]:
        readers = [r for v in values for r in self.readers.get(v, ()) if r is not None]
        return sorted(readers, key=self._at.__getitem__)

    def _fits(self, node: Node, head: Node) -> bool:
        shape = head.results[0].spec.shape
        if (
            node in self._members
            or isinstance(node.op, Composed)
            or node.op.kind is not Kind.ELEMENTWISE
            or not isinstance(node.form, Value)
            or node.form.spec.shape != shape
            or any(isinstance(o, tuple) for o in node.operands)
        ):
            return False
        return all(_broadcasts(v.spec.shape, shape) and v not in head.results[1:] for v in node.reads())

    def _place(self, members: list[Node]) -> int | None:
        """After which node all can be computed at once, before anybody else reads of their results."""
        inside = set(members)
        read = {v.node for n in members for v in n.reads() if v.node is not None} - inside
        after = max([self._at[members[0]], *(self._at[n] for n in read)])
        for node in members:
            for reader in self._following(node.results):
                if reader not in inside and self._at[reader] <= after:
                    return None
        return after

    def take(self, members: list[Node], op: Epilogue, inputs: list[Value]) -> None:
        """Let an epilogue stand for the members."""
        place = self._place(members)
        assert place is not None
        self.taken.setdefault(place, []).append(_Taken(members, op, inputs))
        self._members.update(members)
        self._at |= dict.fromkeys(members, place)

    def contracted(self) -> Graph:
        """The graph with a node for each epilogue."""
        rewriter = Rewriter(self._graph)
        for i, node in enumerate(self._graph.nodes):
            if node not in self._members:
                rewriter.copy(node)
            for taken in self.taken.get(i, ()):
                old = _leaving(taken.members, self.readers)
                specs = [v.spec for v in old]
                form = rewriter.add(
                    taken.op,
                    [rewriter.value(v) for v in taken.inputs],
                    {},
                    specs[0] if len(specs) == 1 else tuple(specs),
                    taken.members[-1].line,
                )
                for before, after in zip(old, values_of(form), strict=True):
                    rewriter.replace_value(before, after)
        return rewriter.finish()


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(
        a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False)
    )


def _leaving(members: list[Node], readers: Mapping[Value, list[Node | None]]) -> list[Value]:
    """The first results of the members that others read, and all further ones of the head."""
    firsts = [n.results[0] for n in members]
    read = [v for v in firsts if any(r not in members for r in readers.get(v, ()))]
    return [*read, *members[0].results[1:]]


def _in_one_row(node: Node) -> bool:
    """Whether a node gives one value, or a tuple of values."""
    return isinstance(node.form, Value) or (
        isinstance(node.form, tuple) and all(isinstance(v, Value) for v in node.form) and bool(node.form)
    )


def _epilogue(
    members: list[Node], readers: Mapping[Value, list[Node | None]]
) -> tuple[Epilogue, list[Value]]:
    """What stands for the members, and the values that it takes."""
    inner = Graph()
    new: dict[Value, Value] = {}
    inputs: list[Value] = []

    def operand(old: Any) -> Any:
        if isinstance(old, tuple):
            return tuple(operand(v) for v in old)
        if not isinstance(old, Value):
            return old
        if old not in new:
            new[old] = inner.input(old.spec)
            inputs.append(old)
        return new[old]

    for node in members:
        operands = [operand(o) for o in node.operands]
        inner.add(node.op, operands, node.attributes, specs_of(node.form), node.line)
        new.update(zip(node.results, inner.nodes[-1].results, strict=True))
    inner.outputs = [new[v] for v in _leaving(members, readers)]
    return Epilogue(inner), inputs
