"""`Region`: nodes that run as one, part by part along an axis that all of them have.

The parts of what only the region reads never leave the cache of the worker that computes them, and workers compute parts
side by side. A part runs by a plan of its own, of the same kernels on smaller arrays.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from plugrad.backend.kernels import Kernel
from plugrad.dispatch.factors import SUM, Factor
from plugrad.dispatch.lowering import with_modes
from plugrad.dispatch.statement import Operand, register
from plugrad.graph.ir import Composed, Graph, Node, Value
from plugrad.graph.plan import Plan
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.modes import Modes


@dataclass(eq=False)
class Region(Composed):
    """What a node applies that stands for several, which are cut along an axis.

    Attributes:
        graph: the nodes, on whole values.
        factors: by node of ``graph``, the factor along which it is cut.
        axes: by value of ``graph`` that is cut, its axis; `SUM` for one whose parts are added up.
        units: what the axes are multiples of, and are cut between.
        parts: how many parts there are.
    """

    graph: Graph
    factors: Mapping[Node, Factor]
    axes: Mapping[Value, int | str]
    units: int
    parts: int

    name = "region"

    def facts(self) -> dict[str, Any]:
        """Units, parts, and by node and by value, in the order of the graph, where they are cut."""
        return {
            "units": self.units,
            "parts": self.parts,
            "inputs": tuple(self.axes.get(v) for v in self.graph.inputs),
            "factors": tuple(
                (tuple(sorted(f.axes.items())), f.results)
                for f in (self.factors[n] for n in self.graph.nodes)
            ),
        }

    @classmethod
    def made_of(cls, graph: Graph, facts: Mapping[str, Any]) -> Region:
        """A region with these facts."""
        axes = {v: a for v, a in zip(graph.inputs, facts["inputs"], strict=True) if a is not None}
        factors: dict[Node, Factor] = {}
        for node, (named, results) in zip(graph.nodes, facts["factors"], strict=True):
            factors[node] = Factor(dict(named), tuple(results))
            axes.update(zip(node.results, results, strict=True))
        return cls(graph, factors, axes, int(facts["units"]), int(facts["parts"]))

    @property
    def operands(self) -> tuple[Operand, ...]:
        """An operand for each input."""
        return tuple(Operand(str(i)) for i in range(len(self.graph.inputs)))

    def bounds(self) -> list[tuple[int, int]]:
        """The first unit of each part, and the one after its last."""
        cuts = [self.units * i // self.parts for i in range(self.parts + 1)]
        return list(pairwise(cuts))

    def size(self, value: Value, units: int) -> int:
        """Of a value that is cut, how many places along its axis so many units take."""
        return int(value.spec.shape[self.axes[value]] // self.units * units)  # type: ignore[index]

    def part(self, units: int) -> Graph:
        """The graph of a part of so many units."""
        new = Graph()
        values: dict[Value, Value] = {}

        def spec(value: Value) -> Spec:
            axis = self.axes.get(value, SUM)
            return value.spec if axis == SUM else _cut(value.spec, axis, self.size(value, units))

        for value in self.graph.inputs:
            values[value] = new.input(spec(value))

        def operand(old: Any) -> Any:
            if isinstance(old, Value):
                return values[old]
            return tuple(values[v] for v in old) if isinstance(old, tuple) else old

        for node in self.graph.nodes:
            factor, attributes = self.factors[node], dict(node.attributes)
            for name, axis in factor.axes.items():
                if name in attributes:
                    whole = length_of(attributes[name], axis)
                    attributes[name] = _cut(attributes[name], axis, whole // self.units * units)
            form = _form(node.form, spec)
            new.add(node.op, [operand(o) for o in node.operands], attributes, form, node.line)
            values.update(zip(node.results, new.nodes[-1].results, strict=True))
        new.outputs = [values[v] for v in self.graph.outputs]
        return new

    def kernel(self, backend: Backend, modes: Modes, replaced: Mapping[int, int | None]) -> Kernel:
        """What computes it, by a plan for each size of its parts."""
        # A part reads of an operand what it writes of the result, and its plan sees to the order.
        inputs, outputs = self.graph.inputs, self.graph.outputs
        over = {
            o: i
            for o, i in replaced.items()
            if i is not None and self.axes.get(inputs[i]) == self.axes.get(outputs[o]) not in (None, SUM)
        }
        runner = _Runner(self, backend, modes, over)
        written = tuple(str(i) for i in dict.fromkeys(over.values()))
        return Kernel(runner, inplace=written, partial=True)


def length_of(described: Any, axis: int) -> int:
    """The size of an axis that a static attribute tells of: a spec, a shape, or bounds of slices."""
    shape = described.shape if isinstance(described, Spec) else described
    given = shape[axis]
    return int(given[1] if isinstance(given, tuple) else given)


def _cut(described: Any, axis: Any, size: int) -> Any:
    if isinstance(described, Spec):
        return described.with_shape(_cut(described.shape, axis, size))
    new = (0, size, 1) if isinstance(described[axis], tuple) else size
    return (*described[:axis], new, *described[axis + 1 :])


def _form(form: Any, spec: Any) -> Any:
    if isinstance(form, (tuple, list)):
        return type(form)(_form(f, spec) for f in form)
    return None if form is None else spec(form)


class _Runner:
    """Runs a region on arrays."""

    def __init__(
        self, region: Region, backend: Backend, modes: Modes, replaced: Mapping[int, int | None]
    ) -> None:
        self._region = region
        self._backend = backend
        self._bounds = region.bounds()
        self._inputs: Final = [self._cuts(v) for v in region.graph.inputs]
        self._outputs: Final = [self._cuts(v) for v in region.graph.outputs]
        self._specs: Final = [v.spec for v in region.graph.outputs]
        self._add: Final = {
            i: backend.kernels.find(register["add"], [s, s], with_modes({}, modes))
            for i, (s, cut) in enumerate(zip(self._specs, self._outputs, strict=True))
            if cut is None
        }
        places = {i: replaced.get(i) for i, cut in enumerate(self._outputs) if cut is not None}
        self._plans: Final = {
            units: Plan(region.part(units), backend, modes, places)
            for units in {b - a for a, b in self._bounds}
        }
        self._lock: Final = threading.Lock()
        self._learned = False

    def _cuts(self, value: Value) -> tuple[int, list[tuple[int, int]]] | None:
        """The axis of a value and where it is cut; None for one that is taken whole, or added up."""
        axis = self._region.axes.get(value)
        if axis is None or axis == SUM:
            return None
        size = self._region.size
        return int(axis), [(size(value, a), size(value, b)) for a, b in self._bounds]

    def __call__(self, *arrays: Any, into: Any = None) -> Any:
        """The results.

        Args:
            arrays: the operands.
            into: where the result goes, or a tuple where there are several; None for what is to be allocated.
        """
        count = len(self._bounds)
        results: list[Any] = [None] * len(self._specs)
        if into is not None:
            results = [into] if len(self._specs) == 1 else list(into)
        addends: list[list[Any]] = [[None] * count for _ in results]
        start = 0
        if not self._learned or any(r is None for r, cut in zip(results, self._outputs, strict=True) if cut):
            # The plans learn from the first part of each size, one at a time; and what comes tells the layouts.
            with self._lock:
                for part in range(count if not self._learned else 1):
                    outputs = self._part(part, arrays, [None] * len(results))
                    self._keep(part, outputs, results, addends)
                    start = part + 1
                self._learned = True

        def work(part: int) -> None:
            places = self._places(part + start, results)
            self._keep(part + start, self._part(part + start, arrays, places), results, addends, places)

        if start < count:
            self._backend.spread(work, count - start)
        for i, add in self._add.items():
            results[i] = self._total(add, addends[i], results[i])
        return tuple(results) if len(results) > 1 else results[0]

    def _part(self, part: int, arrays: Sequence[Any], places: Sequence[Any]) -> list[Any]:
        """The results of a part, in its places where its plan can write there."""
        first, last = self._bounds[part]
        plan, take = self._plans[last - first], self._backend.part
        inputs = [
            a if cut is None else take(a, cut[0], *cut[1][part])
            for a, cut in zip(arrays, self._inputs, strict=True)
        ]
        targets = []
        for o in plan.targets:
            place = places[o]
            if place is None or self._backend.layout(place) is None:
                place = plan.new_target(o)
            targets.append(place)
        return plan.run(inputs, targets)

    def _places(self, part: int, results: Sequence[Any]) -> list[Any]:
        take = self._backend.part
        return [
            None if cut is None else take(r, cut[0], *cut[1][part])
            for r, cut in zip(results, self._outputs, strict=True)
        ]

    def _keep(
        self,
        part: int,
        outputs: Sequence[Any],
        results: list[Any],
        addends: Sequence[list[Any]],
        places: Sequence[Any] | None = None,
    ) -> None:
        """Put the results of a part where they belong, unless they are there."""
        backend = self._backend
        for i, (array, cut) in enumerate(zip(outputs, self._outputs, strict=True)):
            if cut is None:
                addends[i][part] = array
                continue
            if results[i] is None:
                results[i] = self._whole(i, array, cut[0])
            place = backend.part(results[i], cut[0], *cut[1][part]) if places is None else places[i]
            if array is not place:
                backend.write(place, array)

    def _whole(self, output: int, part: Any, axis: int) -> Any:
        """Memory for a result, its axes in the order in memory of those of a part."""
        spec, layout = self._specs[output], self._backend.layout(part)
        if layout is None:
            return self._backend.allocate(spec)
        return self._backend.place(None, self._backend.stretch(layout, axis, spec.shape[axis]))

    def _total(self, add: Kernel | None, addends: Sequence[Any], into: Any) -> Any:
        assert add is not None
        total, *rest = addends
        for i, array in enumerate(rest):
            total = add.function(total, array, into=into if i == len(rest) - 1 else None)
        if not rest and into is not None:
            self._backend.write(into, total)
            return into
        return total
