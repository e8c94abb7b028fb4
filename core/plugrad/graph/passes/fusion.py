"""Nodes that have an axis in common become regions, which run part by part along it (`plugrad.graph.region`).

A region grows from the first node that can be cut, by each later node that reads from it, or reads the same as it, and can
be cut along the same axis. Where a device has a cache for each worker, the parts are as large as fit into it.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.factors import SUM, Factor, factors_of
from plugrad.dispatch.statement import Kind
from plugrad.graph.any_size import any_size
from plugrad.graph.ir import Composed, Graph, Node, Value
from plugrad.graph.memory import kernel_of
from plugrad.graph.region import Region, length_of
from plugrad.graph.rewrite import Rewriter, specs_of, values_of

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend, Capabilities
    from plugrad.dispatch.modes import Modes

MEMBERS: Final = 512
"""Nodes of a region at most."""

DEPTH: Final = 64
"""How far it is searched for what a node reads, and how much is moved before a region, at most."""

SUMMED: Final = 1 << 16
"""Bytes of a result that is added up from parts, at most: each part makes one."""


def fuse(graph: Graph, backend: Backend, modes: Modes) -> Graph:
    """The graph with regions in the place of nodes, where the device has workers and it pays.

    Args:
        graph: a graph, lowered.
        backend: of the device. Nodes whose kernels spread themselves stay whole.
        modes: kernels are chosen by ``matmul_precision``.
    """
    device = graph.device
    if device is None:
        return graph
    capabilities = backend.capabilities(device)
    if not capabilities.workers:
        return graph
    growth = _Growth(graph, backend, modes, capabilities)
    regions = {g for g in growth.groups if g.pays(capabilities, growth.spreading)}
    return _contracted(graph, growth.groups, regions, capabilities) if regions else graph


class _Grown:
    """A region while it grows, or a node that is in none.

    Attributes:
        members: its nodes, in order, and the factor of each; None for a node that is in no region.
        taken: by value from outside that is cut, the axis.
        axes: by value that a member makes, the axis along which it is cut, or `SUM`.
        units: what the sizes of all cut axes are multiples of.
        at: its place in the order in which everything runs.
        below: up to which place before its own others have been moved.
    """

    def __init__(self, at: Fraction, below: Fraction) -> None:
        self.members: dict[Node, Factor | None] = {}
        self.taken: dict[Value, int] = {}
        self.axes: dict[Value, int | str] = {}
        self.units = 0
        self.at = at
        self.below = below

    def fit(self, node: Node, least: int) -> tuple[Factor, int] | None:
        """The first factor along which a node can join, and the units that there are then."""
        specs = node.specs()
        for factor in factors_of(node.op, specs, node.attributes, [v.spec for v in node.results]):
            if self._agrees(node, factor) and all(_may_sum(v, a) for v, a in _cut_results(node, factor)):
                units = math.gcd(self.units, *_lengths(node, factor))
                if units >= least:
                    return factor, units
        return None

    def _agrees(self, node: Node, factor: Factor) -> bool:
        """Whether the node has an axis in common with the members, and reads of them what they make as it is cut."""
        pairs = list(_cut_operands(node, factor))
        return all(self.axes.get(v, axis) == axis for axis, v in pairs) and (
            not self.members
            or any(axis == self.axes.get(v, self.taken.get(v)) for axis, v in pairs if axis is not None)
        )

    def add(self, node: Node, factor: Factor, units: int) -> None:
        """A new member."""
        self.members[node] = factor
        self.taken.update(
            (v, a) for a, v in _cut_operands(node, factor) if a is not None and v not in self.axes
        )
        self.axes.update(_cut_results(node, factor))
        self.units = units

    def pays(self, capabilities: Capabilities, spreading: Container[Node]) -> bool:
        """Whether it saves enough: several nodes that neither only move nor spread themselves, on large values.

        Values that all fit into the caches together come back from there anyway.
        """
        if not self.axes:
            return False
        gaining = sum(n.op.kind is not Kind.MOVEMENT and n not in spreading for n in self.members)
        return gaining > 1 and (any_size() or self._mean() >= WORTH * capabilities.cache)

    def _mean(self) -> float:
        """Bytes of a value that is made, on the average."""
        values = [v.spec.nbytes for v, axis in self.axes.items() if axis != SUM]
        return sum(values) / len(values)

    def parts(self, capabilities: Capabilities) -> int:
        """Into how many parts it is cut: as many for each worker as make the values of a part fit into its cache."""
        rounds = round(self._mean() * VALUES / (capabilities.cache * capabilities.workers))
        return min(self.units, max(1, rounds) * capabilities.workers)


WORTH: Final = 8
"""How often a value of a region fills a worker's cache, on the average, where cutting pays."""

VALUES: Final = 4
"""Values of a part that are to fit into a worker's cache: operands, results, and what the kernels hold meanwhile."""


def _cut_operands(node: Node, factor: Factor) -> Iterator[tuple[int | None, Value]]:
    for operand, given in zip(node.op.operands, node.operands, strict=True):
        axis = factor.axes.get(operand.name)
        for value in given if isinstance(given, tuple) else (given,):
            if isinstance(value, Value):
                yield axis, value


def _cut_results(node: Node, factor: Factor) -> Iterator[tuple[Value, int | str]]:
    return zip(node.results, factor.results, strict=True)


def _may_sum(value: Value, axis: int | str) -> bool:
    """Small results of at least 32 bits are added up; a rounded sum of 16-bit parts would be another one."""
    return axis != SUM or (value.spec.nbytes <= SUMMED and value.spec.dtype.itemsize >= 4)


def _lengths(node: Node, factor: Factor) -> list[int]:
    """The sizes of all axes along which a node is cut."""
    found = [v.spec.shape[a] for a, v in _cut_operands(node, factor) if a is not None]
    found += [v.spec.shape[a] for v, a in _cut_results(node, factor) if a != SUM]  # type: ignore[index]
    found += [length_of(node.attributes[k], a) for k, a in factor.axes.items() if k in node.attributes]
    return found


class _Growth:
    """All regions of a graph.

    Attributes:
        groups: the regions, some of one node, and what is in none, in the order in which they can run.
        spreading: the nodes whose kernels spread themselves over the workers.
    """

    def __init__(self, graph: Graph, backend: Backend, modes: Modes, capabilities: Capabilities) -> None:
        self._least = 2 * capabilities.workers
        self._of: dict[Node, _Grown] = {}
        self._taking: dict[Value, _Grown] = {}
        kernels = {n: kernel_of(n, backend, modes) for n in graph.nodes}
        self.spreading = {n for n, kernel in kernels.items() if kernel.spreads}
        self._whole = {n for n, kernel in kernels.items() if kernel.allocates}
        groups = []
        for i, node in enumerate(graph.nodes):
            new = self._grown(i, node)
            if new is not None:
                groups.append(new)
        self.groups = sorted(groups, key=lambda g: g.at)

    def _grown(self, i: int, node: Node) -> _Grown | None:
        """A new group for a node that no region takes."""
        for region in self._near(node):
            found = region.fit(node, self._least) if len(region.members) < MEMBERS else None
            if found is not None and self._ready(node, region):
                self._join(region, node, *found)
                return None
        new = self._of[node] = _Grown(Fraction(i), Fraction(i - 1))
        found = new.fit(node, self._least) if node.results and not self._stays(node) else None
        if found is not None and all(a != SUM for a in found[0].results):
            self._join(new, node, *found)
        else:
            new.members[node] = None
        return new

    def _near(self, node: Node) -> list[_Grown]:
        """The regions that a node reads from, or reads the same as, that of the most bytes first."""
        if self._stays(node):
            return []
        shared: dict[_Grown, int] = {}
        for value in dict.fromkeys(node.reads()):
            made = self._of.get(value.node) if value.node is not None else None
            for region in (made, self._taking.get(value)):
                if region is not None and region.axes:
                    shared[region] = shared.get(region, 0) + value.spec.nbytes
        return sorted(shared, key=lambda r: -shared[r])

    def _stays(self, node: Node) -> bool:
        """Whether a node is best left whole: it gains nothing, unless others work on the same elements."""
        if isinstance(node.op, Composed) or node in self._whole:
            return True
        return node in self.spreading and node.op.kind is not Kind.ELEMENTWISE

    def _join(self, region: _Grown, node: Node, factor: Factor, units: int) -> None:
        region.add(node, factor, units)
        self._of[node] = region
        for axis, value in _cut_operands(node, factor):
            if axis is not None:
                self._taking[value] = region

    def _ready(self, node: Node, region: _Grown) -> bool:
        """Whether all that the node reads outside the region runs before it, or can be moved there; then it is."""
        moved: list[_Grown] = []

        def before(group: _Grown, depth: int) -> bool:
            if group.at < region.at or group in moved:
                return True
            if group is region or depth > DEPTH or len(moved) > DEPTH:
                return False
            if not all(before(g, depth + 1) for g in self._read(group)):
                return False
            moved.append(group)
            return True

        if not all(before(g, 0) for g in self._read_by(node) if g is not region):
            return False
        for group in moved:
            group.at, group.below = (region.below + region.at) / 2, region.below
            region.below = group.at
        return True

    def _read(self, group: _Grown) -> Iterator[_Grown]:
        for member in group.members:
            yield from (g for g in self._read_by(member) if g is not group)

    def _read_by(self, node: Node) -> Iterator[_Grown]:
        return (self._of[v.node] for v in dict.fromkeys(node.reads()) if v.node is not None)


def _contracted(
    graph: Graph, groups: list[_Grown], regions: Container[_Grown], capabilities: Capabilities
) -> Graph:
    """The graph with a node for each of the regions, in the order of the groups."""
    rewriter, used = Rewriter(graph), _readers(graph)
    for group in groups:
        if group in regions:
            _add(rewriter, group, used, capabilities)
        else:
            for node in group.members:
                rewriter.copy(node)
    return rewriter.finish()


def _readers(graph: Graph) -> dict[Value, list[Node | None]]:
    """By value, the nodes that read it; None for an output."""
    readers: dict[Value, list[Node | None]] = {v: [None] for v in graph.outputs}
    for node in graph.nodes:
        for value in node.reads():
            readers.setdefault(value, []).append(node)
    return readers


def _add(
    rewriter: Rewriter, grown: _Grown, used: Mapping[Value, list[Node | None]], capabilities: Capabilities
) -> None:
    """A node for a region."""
    inner = Graph()
    new: dict[Value, Value] = {}
    outer: dict[tuple[Value, int | None], Value] = {}
    axes: dict[Value, int | str] = {}
    factors: dict[Node, Factor] = {}

    def operand(old: Value, axis: int | None) -> Value:
        if old in new:
            return new[old]
        if (old, axis) not in outer:
            value = outer[old, axis] = inner.input(old.spec)
            if axis is not None:
                axes[value] = axis
        return outer[old, axis]

    for node, factor in grown.members.items():
        assert factor is not None
        operands: list[Any] = []
        for stated, given in zip(node.op.operands, node.operands, strict=True):
            axis = factor.axes.get(stated.name)
            if isinstance(given, Value):
                operands.append(operand(given, axis))
            elif isinstance(given, tuple):
                operands.append(tuple(operand(v, axis) for v in given))
            else:
                operands.append(given)
        inner.add(node.op, operands, node.attributes, specs_of(node.form), node.line)
        made = inner.nodes[-1]
        factors[made] = factor
        new.update(zip(node.results, made.results, strict=True))
        axes.update(_cut_results(made, factor))
    leaving = [v for v in new if any(r is None or r not in grown.members for r in used.get(v, ()))]
    inner.outputs = [new[v] for v in leaving]
    region = Region(inner, factors, axes, grown.units, grown.parts(capabilities))
    form = rewriter.add(
        region,
        [rewriter.value(v) for v, _ in outer],
        {},
        tuple(v.spec for v in leaving) if len(leaving) > 1 else leaving[0].spec,
    )
    for old, value in zip(leaving, values_of(form), strict=True):
        rewriter.replace_value(old, value)
