"""`Bundle`: the same elementwise op on several groups of operands, run as one call where their memory lies side by side.

An update of a small parameter costs a device more to start than to compute. The plan places what such updates write side
by side, so that from the second run on they are one update of one long array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING, Any, Final

from plugrad.backend.kernels import Kernel
from plugrad.dispatch.lowering import with_modes
from plugrad.dispatch.statement import Operand, register
from plugrad.graph.ir import Composed, Graph, Node
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.modes import Modes


@dataclass(eq=False)
class Bundle(Composed):
    """What a node applies that stands for several nodes of one op, side by side.

    The operands of a node that applies it are, for each operand of the op in order, those of all members, or the one
    that all members have; the results likewise.

    Attributes:
        graph: the members. Its inputs are the operands.
        shared: which operands of the op all members have in common.
    """

    graph: Graph
    shared: frozenset[int]

    name = "bundle"

    def facts(self) -> dict[str, Any]:
        """The operands in common."""
        return {"shared": tuple(sorted(self.shared))}

    @classmethod
    def made_of(cls, graph: Graph, facts: Mapping[str, Any]) -> Bundle:
        """A bundle with these facts."""
        return cls(graph, frozenset(facts["shared"]))

    @property
    def operands(self) -> tuple[Operand, ...]:
        """An operand for each input."""
        return tuple(Operand(str(i)) for i in range(len(self.graph.inputs)))

    def columns(self, members: int) -> tuple[list[slice], list[slice]]:
        """Where the operands of each operand of the op stand among the operands, and likewise the results."""
        node = self.graph.nodes[0]
        found, at = [], 0
        for i in range(len(node.operands)):
            count = 1 if i in self.shared else members
            found.append(slice(at, at + count))
            at += count
        results = [slice(i * members, (i + 1) * members) for i in range(len(node.results))]
        return found, results

    def kernel(self, backend: Backend, modes: Modes, replaced: Mapping[int, int | None]) -> Kernel:
        """What computes it: one call where the device has joined the memory, else one for each member."""
        del replaced
        runner = Runner(self, backend, modes)
        own = runner.kernels[0]
        names = [o.name for o in self.graph.nodes[0].op.operands]
        inplace = [
            str(i)
            for name, column in zip(names, runner.operands, strict=True)
            for i in range(column.start, column.stop)
            if name in own.inplace
        ]
        return Kernel(runner, inplace=tuple(inplace), partial=True)


class Runner:
    """Runs a bundle on arrays.

    Attributes:
        scattered: whether the last call found arrays that do not lie side by side.
    """

    def __init__(self, bundle: Bundle, backend: Backend, modes: Modes) -> None:
        nodes = bundle.graph.nodes
        first = nodes[0]
        self._backend: Final = backend
        self._shared: Final = bundle.shared
        self._attributes: Final = first.attributes
        self._members: Final = len(nodes)
        self.operands, self.results = bundle.columns(len(nodes))
        self._places: Final = [c.start if i in bundle.shared else c for i, c in enumerate(self.operands)]
        sizes = [sum(n.results[i].spec.size for n in nodes) for i in range(len(first.results))]
        specs = [
            s if i in bundle.shared else Spec((sizes[0],), s.dtype, s.device)
            for i, s in enumerate(first.specs())
        ]

        def find(op: Any, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
            return backend.kernels.find(op, specs, with_modes(dict(attributes), modes))

        self._flat: Final = find(first.op, specs, first.attributes)
        found = [find(n.op, n.specs(), n.attributes) for n in nodes]
        self.kernels: Final = [k for k in found if k is not None]
        self._join: Final = find(register["concatenate"], [tuple(specs[0] for _ in nodes)], {"axis": 0})
        reshape = register["reshape"]
        self._reshape: Final = find(reshape, [first.results[0].spec], {"shape": (sizes[0],), "copy": None})
        self._sizes: Final = [n.results[0].spec.size for n in nodes]
        self.scattered = True

    def __call__(self, *arrays: Any, into: Any = None) -> tuple[Any, ...]:
        """The results, column by column."""
        if into is not None and self._flat is not None:
            joined = self._backend.joined
            places = [into[column] for column in self.results]
            results = tuple(map(joined, places))
            if not any(r is None for r in results):
                self.scattered = False
                given = [
                    arrays[place]
                    if isinstance(place, int)
                    else self._flattened(arrays[place], places, results)
                    for place in self._places
                ]
                target = results if len(results) > 1 else results[0]
                self._flat.function(*given, **self._attributes, into=target)
                return into  # type: ignore[no-any-return]
        self.scattered = True
        return self._one_by_one(arrays, into)

    def _flattened(self, column: Sequence[Any], places: Sequence[Sequence[Any]], rows: Sequence[Any]) -> Any:
        """The elements of a column of operands in a row: that of the result, where it is written over them."""
        for place, row in zip(places, rows, strict=True):
            if column[0] is place[0] and all(map(is_, column, place)):
                return row
        found = self._backend.joined(column)
        if found is None:
            self.scattered = True
            return self._row(column)
        return found

    def _row(self, column: Sequence[Any]) -> Any:
        """A copy of the elements in a row."""
        assert self._join is not None
        assert self._reshape is not None
        rows = [
            self._reshape.function(a, shape=(size,), copy=None)
            for a, size in zip(column, self._sizes, strict=True)
        ]
        return self._join.function(rows, axis=0)

    def _one_by_one(self, arrays: Sequence[Any], into: Any) -> tuple[Any, ...]:
        results: list[Any] = [None] * (self._members * len(self.results))
        for m, kernel in enumerate(self.kernels):
            given = [
                arrays[column.start + (0 if i in self._shared else m)]
                for i, column in enumerate(self.operands)
            ]
            places = [None if into is None else into[column.start + m] for column in self.results]
            target = None
            if all(p is not None for p in places):
                target = places[0] if len(places) == 1 else tuple(places)
            made = kernel.function(*given, **self._attributes, into=target)
            for column, array in zip(self.results, made if len(places) > 1 else (made,), strict=True):
                results[column.start + m] = array
        return tuple(results)


def columns_of(node: Node) -> list[tuple[Any, ...]]:
    """Of a node that applies a bundle, the groups of values that are to lie side by side: operands and results."""
    if not isinstance(node.op, Bundle):
        return []
    operands, results = node.op.columns(len(node.op.graph.nodes))
    found = [tuple(node.operands[c]) for i, c in enumerate(operands) if i not in node.op.shared]
    return [*found, *(tuple(node.results[c]) for c in results)]
