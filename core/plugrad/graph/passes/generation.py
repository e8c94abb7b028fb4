"""Nodes that one generated kernel can compute become fused regions (`plugrad.graph.fused`).

A region has a space of indices, the shape of its first member. Members compute values of all of its axes; reductions over
one set of them; and values of the axes that these keep. It grows node by node, each joining the region whose values it reads,
as long as nothing outside stands between the two. Small values that a region alone reads are computed within it at last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from plugrad.graph.fused import Fused
from plugrad.graph.ir import Graph, Node, Value
from plugrad.graph.rewrite import Rewriter, specs_of, values_of
from plugrad.graph.source.program import MADE, MOVED, REDUCTIONS, Axes, fuses
from plugrad.spec import Shape

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend

MEMBERS: Final = 128
"""Nodes of a region at most."""

DEPTH: Final = 256
"""Regions and nodes that are looked at, at most, for a way from one to another."""

TURNS: Final = 3
"""How often a region goes over the axes that it reduces, at most: each time anew it reads, and computes, what it needs."""

SMALL: Final = 1 << 14
"""Elements of a space that one work-item may go through alone."""

ROWS: Final = 64
"""Rows, each reduced by itself, that keep a device busy."""

COLUMNS: Final = 1024
"""As `ROWS`, of reductions over other axes than the last ones, whose neighbours are taken together."""


def generate(graph: Graph, backend: Backend) -> Graph:
    """The graph with fused regions in the place of nodes, where the device generates kernels.

    Args:
        graph: a graph, lowered.
        backend: of the device.
    """
    device = graph.device
    if device is None or not backend.capabilities(device).generating:
        return graph
    growth = _Growth(graph)
    return _contracted(graph, growth, backend)


class _Group:
    """A region while it grows, or a node by itself.

    Attributes:
        members: its nodes, in order.
        axes: by value that a member computes, its axes; see `plugrad.graph.source.program.Axes`.
        shape: of the space; None for a node that is in no region.
        reduced: the axes that its reductions run over; None as long as there is none.
        level: by value that a member computes, how many reductions it hangs on, one upon the other.
        first: the place of its first member.
    """

    def __init__(self, first: int) -> None:
        self.members: list[Node] = []
        self.axes: dict[Value, Axes] = {}
        self.shape: Shape | None = None
        self.reduced: frozenset[int] | None = None
        self.level: dict[Value, int] = {}
        self.first = first

    def start(self, node: Node) -> None:
        """Begin with a node."""
        self.members.append(node)
        if not fuses(node):
            return
        self.shape = (
            next(node.reads()).spec.shape if node.op.name in REDUCTIONS else node.results[0].spec.shape
        )
        found = self.fit(node)
        assert found is not None
        self._add(node, found)

    def add(self, node: Node, axes: Axes) -> None:
        """A new member."""
        self.members.append(node)
        self._add(node, axes)

    def _add(self, node: Node, axes: Axes) -> None:
        self.axes[node.results[0]] = axes
        if node.op.name in REDUCTIONS:
            self.reduced = self._over(node)
        self.level[node.results[0]] = self.height(node)

    def height(self, node: Node) -> int:
        """How many reductions its result hangs on."""
        below = max((self.level.get(v, 0) for v in node.reads()), default=0)
        return below + (node.op.name in REDUCTIONS)

    def fit(self, node: Node) -> Axes | None:
        """The axes of a node's result in this space; None where it does not lie in it."""
        assert self.shape is not None
        if self.height(node) >= TURNS:
            return None
        name, result = node.op.name, node.results[0].spec.shape
        if name in REDUCTIONS:
            return self._reduction(node)
        if name == "permute_dims" and any(v in self.axes for v in node.reads()):
            return None
        if name == "reshape":
            (x,) = node.reads()
            if x not in self.axes:
                return self._whole(result)
            rest = iter([a for a in self.axes[x] if a is not None])
            return tuple(None if n == 1 else next(rest) for n in result)
        found: list[int | None] = [None] * len(result)
        for value in node.reads():
            own = self.axes.get(value)
            if own is None:
                continue
            for axis, place in zip(own, range(len(result) - len(own), len(result)), strict=True):
                if axis is not None:
                    if found[place] not in (None, axis):
                        return None
                    found[place] = axis
        if any(f is None and n != 1 for f, n in zip(found, result, strict=True)):
            whole = self._whole(result)
            if whole is None or any(f not in (None, w) for f, w in zip(found, whole, strict=True)):
                return None
            found = list(whole)
        if self._partly(node, found):
            return None
        return tuple(found)

    def _partly(self, node: Node, axes: Iterable[int | None]) -> bool:
        """Whether values of all axes come of reductions of few rows, which should be over before they are read."""
        assert self.shape is not None
        if self.reduced is None or not self.height(node) or self.busy():
            return False
        return not self.reduced.isdisjoint(a for a in axes if a is not None)

    def busy(self) -> bool:
        """Whether the rows keep a device busy, or everything is small."""
        assert self.shape is not None
        assert self.reduced is not None
        size = kept = 1
        for axis, n in enumerate(self.shape):
            size *= n
            kept *= 1 if axis in self.reduced else n
        last = len(self.shape) - len(self.reduced)
        rows = all(a >= last for a in self.reduced)
        return size <= SMALL or kept >= (ROWS if rows else COLUMNS)

    def _whole(self, shape: Shape) -> Axes | None:
        """The axes of a value of all axes; None for another shape."""
        assert self.shape is not None
        if shape != self.shape:
            return None
        return tuple(None if n == 1 else a for a, n in enumerate(shape))

    def _over(self, node: Node) -> frozenset[int]:
        assert self.shape is not None
        return frozenset(a for a in node.attributes["axis"] if self.shape[a] != 1)

    def _reduction(self, node: Node) -> Axes | None:
        (x,) = node.reads()
        assert self.shape is not None
        whole = self._whole(x.spec.shape)
        over = self._over(node) if whole is not None else None
        if whole is None or not over or (self.reduced is not None and over != self.reduced):
            return None
        if self.axes.get(x, whole) != whole:
            return None
        if self.level.get(x) and not self.busy():
            return None
        axes = node.attributes["axis"]
        keep = node.attributes["keepdims"]
        return tuple(None if i in axes else a for i, a in enumerate(whole) if keep or i not in axes)

    def merges(self, other: _Group) -> bool:
        """Whether all of another region can be part of this one."""
        if other.shape != self.shape or len(self.members) + len(other.members) > MEMBERS:
            return False
        return self.reduced is None or other.reduced is None or self.reduced == other.reduced

    def merge(self, other: _Group) -> None:
        """Take all of another region."""
        self.members += other.members
        self.axes |= other.axes
        self.level |= other.level
        self.reduced = self.reduced if other.reduced is None else other.reduced
        self.first = min(self.first, other.first)

    @property
    def gains(self) -> bool:
        """Whether one kernel of it does the work of several."""
        return sum(n.op.name not in MOVED and n.op.name not in MADE for n in self.members) > 1


class _Growth:
    """All regions of a graph.

    Attributes:
        of: the group of each node.
        readers: by value, the nodes that read it; None for an output.
    """

    def __init__(self, graph: Graph) -> None:
        self.of: dict[Node, _Group] = {}
        self.readers: dict[Value, list[Node | None]] = {v: [None] for v in graph.outputs}
        self._place = {node: i for i, node in enumerate(graph.nodes)}
        self._taking: dict[Value, _Group] = {}
        for node in graph.nodes:
            for value in dict.fromkeys(node.reads()):
                self.readers.setdefault(value, []).append(node)
        for i, node in enumerate(graph.nodes):
            self._grow(i, node)
        for group in dict.fromkeys(self.of.values()):
            self._release(group)
        for group in dict.fromkeys(self.of.values()):
            self._absorb(group)

    def _grow(self, i: int, node: Node) -> None:
        joined: _Group | None = None
        if fuses(node) and node.op.name not in MADE:
            for group in self._near(node):
                if joined is None:
                    axes = group.fit(node) if len(group.members) < MEMBERS else None
                    if axes is not None and not self._between(self._groups_read(node), group):
                        group.add(node, axes)
                        self.of[node] = joined = group
                elif joined is not group and joined.merges(group) and self._fits(joined, group, node):
                    self._merge(joined, group, node)
        if joined is None:
            joined = self.of[node] = _Group(i)
            joined.start(node)
        if joined.shape is not None:
            for value in node.reads():
                if value.spec.shape == joined.shape:
                    self._taking[value] = joined

    def _fits(self, group: _Group, other: _Group, node: Node) -> bool:
        """Whether a node that has joined one region reads the other's values as they lie in the space, and all can be one."""
        if group.axes[node.results[0]] != self._as_if(group, other, node):
            return False
        first, second = self._read_by(group), self._read_by(other)
        return not self._between(first, other) and not self._between(second, group)

    def _as_if(self, group: _Group, other: _Group, node: Node) -> Axes | None:
        trial = _Group(0)
        trial.shape, trial.reduced = group.shape, other.reduced or group.reduced
        trial.axes, trial.level = {**group.axes, **other.axes}, {**group.level, **other.level}
        return trial.fit(node)

    def _merge(self, group: _Group, other: _Group, node: Node) -> None:
        group.merge(other)
        group.level[node.results[0]] = group.height(node)
        group.members.sort(key=self._place.__getitem__)
        for member in other.members:
            self.of[member] = group
        for value in [v for n in other.members for v in n.reads()]:
            if self._taking.get(value) is other:
                self._taking[value] = group

    def _near(self, node: Node) -> list[_Group]:
        """The regions that a node reads from, that of the most bytes first, then those that read the same."""
        found: dict[_Group, int] = {}
        for value in dict.fromkeys(node.reads()):
            group = self.of.get(value.node) if value.node is not None else None
            if (
                group is not None
                and group.shape is not None
                and value.node is not None
                and value.node.op.name not in MADE
            ):
                found[group] = found.get(group, 0) + value.spec.nbytes
        ordered = sorted(found, key=lambda g: -found[g])
        for value in dict.fromkeys(node.reads()):
            group = self._taking.get(value)
            if group is not None and group not in found:
                ordered.append(group)
        return list(dict.fromkeys(ordered))

    def _groups_read(self, node: Node) -> Iterator[_Group]:
        return (self.of[v.node] for v in dict.fromkeys(node.reads()) if v.node is not None)

    def _read_by(self, group: _Group) -> Iterator[_Group]:
        for member in group.members:
            yield from (g for g in self._groups_read(member) if g is not group)

    def _between(self, starts: Iterable[_Group], group: _Group) -> bool:
        """Whether anything outside hangs on a group and is among these, or is read by them; or it is too far to tell."""
        seen: set[_Group] = set()
        waiting = [g for g in starts if g is not group]
        while waiting:
            g = waiting.pop()
            if g in seen:
                continue
            seen.add(g)
            if len(seen) > DEPTH:
                return True
            for below in self._read_by(g):
                if below is group:
                    return True
                if self._place[below.members[-1]] > group.first:
                    waiting.append(below)
        return False

    def _release(self, group: _Group) -> None:
        """Let go of what only moves elements for others: of a result it is a view."""
        for node in reversed(list(group.members)):
            readers = self.readers.get(node.results[0], [None])
            if node.op.name in MOVED and all(r is None or self.of[r] is not group for r in readers):
                group.members.remove(node)
                alone = self.of[node] = _Group(self._place[node])
                alone.members.append(node)

    def _absorb(self, group: _Group) -> None:
        """Let a region of small values, which one other region alone reads, be computed there."""
        if group.shape is None or group.reduced is not None:
            return
        readers = {
            self.of[r] if r is not None else None
            for n in group.members
            for v in n.results
            for r in self.readers.get(v, [None])
        } - {group}
        if len(readers) != 1:
            return
        (other,) = readers
        if other is None or other.shape is None or len(other.members) + len(group.members) > MEMBERS:
            return
        size = 1
        for n in group.shape:
            size *= n
        whole = 1
        for n in other.shape:
            whole *= n
        # What is computed for each row or column again must be a small part of all, or a copy of the index.
        made = all(n.op.name in MADE or n.op.name in MOVED for n in group.members)
        if made or size == 1 or size * 16 <= whole:
            for member in group.members:
                self.of[member] = other
            other.members = sorted([*other.members, *group.members], key=self._place.__getitem__)


def _contracted(graph: Graph, growth: _Growth, backend: Backend) -> Graph:
    """The graph with a node for each region, all in an order in which they can run."""
    rewriter = Rewriter(graph)
    done: set[_Group] = set()
    made: dict[_Group, Fused | None] = {}
    leaving: dict[_Group, list[Value]] = {}
    taken: dict[_Group, list[Value]] = {}
    for group in dict.fromkeys(growth.of.values()):
        made[group] = None
        if group.shape is not None and group.gains:
            fused, taken[group], leaving[group] = _region(group, growth.readers)
            if fused.generate(backend) is not None:
                made[group] = fused

    # Each node or region once all that it reads is there; without recursion, as chains may be long.
    for node in graph.nodes:
        stack = [growth.of[node]]
        while stack:
            group = stack[-1]
            if group in done:
                stack.pop()
                continue
            waiting = [g for g in growth._read_by(group) if g not in done]
            if waiting:
                stack += dict.fromkeys(waiting)
                continue
            stack.pop()
            done.add(group)
            fused_op = made[group]
            if fused_op is None:
                for member in group.members:
                    rewriter.copy(member)
                continue
            values = leaving[group]
            form = rewriter.add(
                fused_op,
                [rewriter.value(v) for v in taken[group]],
                {},
                tuple(v.spec for v in values) if len(values) > 1 else values[0].spec,
            )
            for old, new in zip(values, values_of(form), strict=True):
                rewriter.replace_value(old, new)
    return rewriter.finish()


def _region(
    group: _Group, readers: Mapping[Value, list[Node | None]]
) -> tuple[Fused, list[Value], list[Value]]:
    """The fused region of a group, the values that it reads, and those that are read outside."""
    inner = Graph()
    new: dict[Value, Value] = {}
    outer: dict[Value, Value] = {}

    def operand(old: Any) -> Any:
        if not isinstance(old, Value):
            return old
        if old in new:
            return new[old]
        if old not in outer:
            outer[old] = inner.input(old.spec)
        return outer[old]

    members = set(group.members)
    for node in group.members:
        operands = [operand(o) for o in node.operands]
        inner.add(node.op, operands, node.attributes, specs_of(node.form), node.line)
        new.update(zip(node.results, inner.nodes[-1].results, strict=True))
    leaving = [v for v in new if any(r is None or r not in members for r in readers.get(v, ()))]
    inner.outputs = [new[v] for v in leaving]
    return Fused(inner), list(outer), leaving
