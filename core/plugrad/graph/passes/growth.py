"""How fused regions grow: which nodes of a graph one kernel can compute together.

A region has a space of indices, the shape of its first member. Members compute values of all of its axes; reductions over
one set of them; and values of the axes that these keep. It grows node by node, each joining the region whose values it reads,
as long as nothing outside stands between the two. Small values that a region alone reads are computed within it at last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

from plugrad.graph.ir import Graph, Node, Value
from plugrad.graph.source.program import COSTLY, MADE, MOVED, REDUCTIONS, Axes, fuses
from plugrad.spec import Shape

MEMBERS: Final = 256
"""Nodes of a region at most."""

DEPTH: Final = 256
"""Regions and nodes that are looked at, at most, for a way from one to another."""

TURNS: Final = 3
"""How often a region goes over the axes that it reduces, at most: each time anew it reads, and computes, what it needs."""

CHEAP: Final = 24
"""Values that are computed once more rather than read, at most."""

SMALL: Final = 1 << 14
"""Elements of a space that one work-item may go through alone."""

ROWS: Final = 64
"""Rows, each reduced by itself, that keep a device busy."""

COLUMNS: Final = 1024
"""As `ROWS`, of reductions over other axes than the last ones, whose neighbours are taken together."""


class Group:
    """A region while it grows, or a node by itself.

    Attributes:
        members: its nodes, in order.
        axes: by value that a member computes, its axes; see `plugrad.graph.source.program.Axes`.
        shape: of the space; None for a node that is in no region.
        reduced: the axes that its reductions run over; None as long as there is none.
        level: by value that a member computes, how many reductions it hangs on, one upon the other.
        first: the place of its first member.
        sealed: concatenations of what members compute, which none of them reads.
        again: values of another region that are computed here once more.
    """

    def __init__(self, first: int) -> None:
        self.members: list[Node] = []
        self.axes: dict[Value, Axes] = {}
        self.shape: Shape | None = None
        self.reduced: frozenset[int] | None = None
        self.level: dict[Value, int] = {}
        self.first = first
        self.sealed: set[Value] = set()
        self.again: set[Value] = set()

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
        if self.height(node) >= TURNS or not self.sealed.isdisjoint(node.reads()):
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

    def concatenates(self, node: Node) -> bool:
        """Whether all that a concatenation is made of are values of all axes of this space."""
        whole = [a for a, n in enumerate(self.shape or ()) if n != 1]
        return all(
            v in self.axes and [a for a in self.axes[v] if a is not None] == whole for v in node.reads()
        )

    def merges(self, other: Group) -> bool:
        """Whether all of another region can be part of this one."""
        if other.shape != self.shape or len(self.members) + len(other.members) > MEMBERS:
            return False
        return self.reduced is None or other.reduced is None or self.reduced == other.reduced

    def merge(self, other: Group) -> None:
        """Take all of another region."""
        self.members += other.members
        self.axes |= other.axes
        self.level |= other.level
        self.sealed |= other.sealed
        self.reduced = self.reduced if other.reduced is None else other.reduced
        self.first = min(self.first, other.first)

    def whole(self, value: Value) -> bool:
        """Whether a value, of a member or of another, has all axes of the space."""
        return self.shape is not None and value.spec.shape == self.shape and math.prod(self.shape) > 1

    @property
    def gains(self) -> bool:
        """Whether one kernel of it does the work of several."""
        working = sum(n.op.name not in MOVED and n.op.name not in MADE for n in self.members)
        return working > 1 or (working > 0 and bool(self.again))


class Growth:
    """All regions of a graph.

    Attributes:
        of: the group of each node.
        readers: by value, the nodes that read it; None for an output.
    """

    def __init__(self, graph: Graph) -> None:
        self.of: dict[Node, Group] = {}
        self.readers: dict[Value, list[Node | None]] = {v: [None] for v in graph.outputs}
        self._place = {node: i for i, node in enumerate(graph.nodes)}
        self._taking: dict[Value, Group] = {}
        for node in graph.nodes:
            for value in dict.fromkeys(node.reads()):
                self.readers.setdefault(value, []).append(node)
        for i, node in enumerate(graph.nodes):
            self._grow(i, node)
        for group in dict.fromkeys(self.of.values()):
            self._release(group)
        for group in dict.fromkeys(self.of.values()):
            self._absorb(group)
        for group in dict.fromkeys(self.of.values()):
            self._repeat(group)

    def _grow(self, i: int, node: Node) -> None:
        joined: Group | None = None
        if fuses(node) and node.op.name not in MADE:
            for group in self._near(node):
                if joined is None:
                    axes = group.fit(node) if len(group.members) < MEMBERS else None
                    if axes is not None and not self._between(self._groups_read(node), group):
                        group.add(node, axes)
                        self.of[node] = joined = group
                elif joined is not group and joined.merges(group) and self._fits(joined, group, node):
                    self._merge(joined, group, node)
        elif node.op.name == "concatenate":
            groups = dict.fromkeys(self._groups_read(node))
            first = next(iter(groups), None)
            if (
                len(groups) == 1
                and first is not None
                and first.shape is not None
                and first.concatenates(node)
            ):
                first.members.append(node)
                first.sealed.update(node.results)
                self.of[node] = first
                return
        if joined is None:
            joined = self.of[node] = Group(i)
            joined.start(node)
        if joined.shape is not None:
            for value in node.reads():
                if value.spec.shape == joined.shape:
                    self._taking[value] = joined

    def _fits(self, group: Group, other: Group, node: Node) -> bool:
        """Whether a node that has joined one region reads the other's values as they lie in the space, and all can be one."""
        if not other.sealed.isdisjoint(node.reads()):
            return False
        if group.axes[node.results[0]] != self._as_if(group, other, node):
            return False
        first, second = self.read_by(group), self.read_by(other)
        return not self._between(first, other) and not self._between(second, group)

    def _as_if(self, group: Group, other: Group, node: Node) -> Axes | None:
        trial = Group(0)
        trial.shape, trial.reduced = group.shape, other.reduced or group.reduced
        trial.axes, trial.level = {**group.axes, **other.axes}, {**group.level, **other.level}
        return trial.fit(node)

    def _merge(self, group: Group, other: Group, node: Node) -> None:
        group.merge(other)
        group.level[node.results[0]] = group.height(node)
        group.members.sort(key=self._place.__getitem__)
        for member in other.members:
            self.of[member] = group
        for value in [v for n in other.members for v in n.reads()]:
            if self._taking.get(value) is other:
                self._taking[value] = group

    def _near(self, node: Node) -> list[Group]:
        """The regions that a node reads from, that of the most bytes first, then those that read the same."""
        found: dict[Group, int] = {}
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

    def _groups_read(self, node: Node) -> Iterator[Group]:
        return (self.of[v.node] for v in dict.fromkeys(node.reads()) if v.node is not None)

    def read_by(self, group: Group) -> Iterator[Group]:
        """The groups that a group reads from."""
        for member in group.members:
            yield from (g for g in self._groups_read(member) if g is not group)

    def _between(self, starts: Iterable[Group], group: Group) -> bool:
        """Whether anything outside hangs on a group and is among these, or is read by them; or it is too far to tell."""
        seen: set[Group] = set()
        waiting = [g for g in starts if g is not group]
        while waiting:
            g = waiting.pop()
            if g in seen:
                continue
            seen.add(g)
            if len(seen) > DEPTH:
                return True
            for below in self.read_by(g):
                if below is group:
                    return True
                if self._place[below.members[-1]] > group.first:
                    waiting.append(below)
        return False

    def _release(self, group: Group) -> None:
        """Let go of what only moves elements for others: of a result it is a view."""
        for node in reversed(list(group.members)):
            readers = self.readers.get(node.results[0], [None])
            if node.op.name in MOVED and all(r is None or self.of[r] is not group for r in readers):
                group.members.remove(node)
                alone = self.of[node] = Group(self._place[node])
                alone.members.append(node)

    def _absorb(self, group: Group) -> None:
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
        size, whole = math.prod(group.shape), math.prod(other.shape)
        # What is computed for each row or column again must be a small part of all, or a copy of the index.
        made = all(n.op.name in MADE or n.op.name in MOVED for n in group.members)
        if made or size == 1 or size * 16 <= whole:
            for member in group.members:
                self.of[member] = other
            other.members = sorted([*other.members, *group.members], key=self._place.__getitem__)

    def _repeat(self, group: Group) -> None:
        """Let others compute once more what they read of a region, where that moves fewer bytes than writing it."""
        if group.shape is None or len(group.members) < 2:
            return
        for value in [v for n in group.members for v in n.results if group.whole(v)]:
            readers = self.readers.get(value, [None])
            outside = {None if r is None else self.of[r] for r in readers} - {group}
            found = self._sources(group, value)
            if not outside or found is None or any(g is None or g.shape != group.shape for g in outside):
                continue
            sources, again = found
            others = [g for g in outside if g is not None]
            known = {g: {v for n in g.members for v in n.reads()} for g in others}
            more = sum(v.spec.nbytes for g in others for v in sources - known[g])
            if more < (2 + len(others)) * value.spec.nbytes:
                for other in others:
                    other.again |= again
                    self._gather(other, sources)

    def _sources(self, group: Group, value: Value) -> tuple[set[Value], set[Value]] | None:
        """Of what a value of all axes is computed: such values from outside, and from here; None where that costs much."""
        found: set[Value] = set()
        again: set[Value] = set()
        waiting, seen = [value], {value}
        while waiting:
            v = waiting.pop()
            node = v.node
            if not group.whole(v):
                continue
            if node is None or self.of[node] is not group:
                found.add(v)
                continue
            again.add(v)
            if node.op.name in REDUCTIONS or node.op.name in COSTLY or len(seen) > CHEAP:
                return None
            for read in node.reads():
                if read not in seen:
                    seen.add(read)
                    waiting.append(read)
        return found, again

    def _gather(self, group: Group, sources: Iterable[Value]) -> None:
        """Take regions that reduce the same axes of what a region reads now."""
        for value in sources:
            for reader in self.readers.get(value, ()):
                other = None if reader is None else self.of[reader]
                if other is None or other is group or other.shape != group.shape or other.reduced is None:
                    continue
                if other.reduced != group.reduced or len(group.members) + len(other.members) > MEMBERS:
                    continue
                if self._between([other], group) or self._between([group], other):
                    continue
                group.merge(other)
                group.again |= other.again
                group.members.sort(key=self._place.__getitem__)
                for member in other.members:
                    self.of[member] = group
