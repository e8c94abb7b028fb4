"""`Program`: a small graph seen as loops over one space of indices, from which the source of one kernel is made.

The space is the shape of what the largest values have. Some of its axes may be reduced: then there are values of the
other axes, those kept, alone. Every value is reached from the outputs by its axes: for each, the axis of the space that it
is, or None for one of size 1. What is broadcast, reshaped by axes of size 1 or permuted costs nothing so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from plugrad import dtypes
from plugrad.dispatch.statement import Kind, register
from plugrad.dtypes import DType
from plugrad.graph.ir import Graph, Node, Value
from plugrad.graph.source.dialect import Dialect, Source
from plugrad.graph.source.statements import Statements, number_dtype
from plugrad.spec import Shape, Spec

if TYPE_CHECKING:
    from plugrad.graph.source.loops import Layout

Axes = tuple[int | None, ...]
"""For each axis of a value, the axis of the space that it is; None for an axis of size 1."""

Place = tuple[Value, Axes]
"""A value as it is read."""

REDUCTIONS: Final = frozenset(("sum", "prod", "max"))
MOVED: Final = frozenset(("broadcast_to", "reshape", "permute_dims"))
"""What is followed through by axes."""
MADE: Final = frozenset(("full", "iota"))
"""What is an expression of the index."""
COSTLY: Final = frozenset(
    ("exp", "expm1", "log", "log1p", "erf", "tanh", "pow", "sin", "cos", "atan2", "remainder", "floor_divide")
)
"""What costs more to compute again than to keep in a cache."""


def fuses(node: Node) -> bool:
    """Whether a node can be part of a program, by its op, its operands and its results."""
    if len(node.results) != 1 or any(o is None or isinstance(o, tuple) for o in node.operands):
        return False
    if not all(v.spec.size for v in (*node.reads(), *node.results)):
        return False
    name = node.op.name
    if name in REDUCTIONS:
        shape = next(node.reads()).spec.shape
        return any(shape[a] != 1 for a in node.attributes["axis"])
    if name == "astype" or name in MADE or name in ("broadcast_to", "permute_dims"):
        return True
    if name == "reshape":
        x = next(node.reads()).spec
        return (
            _squeezed(x.shape) == _squeezed(node.results[0].spec.shape)
            and node.attributes["copy"] is not False
        )
    return elementwise(node)


def elementwise(node: Node) -> bool:
    """Whether a node applies an elementwise primitive that states an expression."""
    op = node.op
    if op.kind is not Kind.ELEMENTWISE or not getattr(op, "primitive", False) or op.expression is None:
        return False
    # The next float of 16 bits is a matter of its bits, which the arithmetic does not have.
    return op.name != "nextafter" or node.results[0].spec.dtype.itemsize > 2


def _parts(value: Value) -> list[Value]:
    """What a result is concatenated of, or itself."""
    node = value.node
    return list(node.reads()) if node is not None and node.op.name == "concatenate" else [value]


def _squeezed(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


@dataclass(frozen=True, slots=True)
class Write:
    """What is written of a result of a program: all of it, or one of those that it is concatenated of.

    Attributes:
        place: the value.
        full: it has all axes of the space; else those kept.
        output: which result.
        axis: along which axis of the result it has a place of its own.
        first: that place.
    """

    place: Place
    full: bool
    output: int
    axis: int = 0
    first: int = 0


class Program:
    """A graph seen as loops.

    Attributes:
        graph: the graph.
        dialect: the language that it is for.
        shape: of the space.
        reduced: the axes of the space that are reduced, those of size 1 left out.
        writes: what is written of the results, in their order.
        reads: the inputs as they are read, and the counting indices (`iota`), in order.
        stage: by reduction, in which turn over the reduced axes it is computed, from 1 on.
        numbers: floats that are parameters of the kernel, with their dtypes.
    """

    def __init__(self, graph: Graph, dialect: Dialect) -> None:
        """See a graph so.

        Raises:
            ValueError: if it cannot be: its values do not lie in one space.
        """
        self.graph = graph
        self.dialect = dialect
        reductions = [n for n in graph.nodes if n.op.name in REDUCTIONS]
        whole = reductions[0] if reductions else None
        self.shape: Shape = (
            next(whole.reads()).spec.shape
            if whole is not None
            else max((v.spec for o in graph.outputs for v in _parts(o)), key=lambda s: s.size).shape
        )
        self.reduced: frozenset[int] = frozenset() if whole is None else self._axes_of(whole)
        self.reads: list[Place] = []
        self.stage: dict[Node, int] = {}
        self.numbers: list[tuple[float, DType]] = []
        self._write = Statements(dialect, 1)
        self._levels: dict[Place, int] = {}
        self._sources: dict[Any, Source] = {}
        self.writes = [w for i, v in enumerate(graph.outputs) for w in self._written(i, v)]
        for write in self.writes:
            self.level(write.place)

    @cached_property
    def inner(self) -> set[Value]:
        """The values that nodes read."""
        return {v for n in self.graph.nodes for v in n.reads()}

    @property
    def kept(self) -> list[int]:
        """The axes of the space that stay, those of size 1 left out."""
        return [a for a, n in enumerate(self.shape) if n != 1 and a not in self.reduced]

    @cached_property
    def stages(self) -> int:
        """How many turns over the reduced axes there are."""
        last = max(self.stage.values(), default=0)
        return max([last, *(self.turn(o.place) for o in self.writes if o.full)])

    def turn(self, place: Place) -> int:
        """In which turn a value of all axes is known."""
        return 1 + self.level(place)

    def identity(self) -> Axes:
        """The axes of a value of the shape of the space."""
        return tuple(None if n == 1 else a for a, n in enumerate(self.shape))

    def _axes_of(self, node: Node) -> frozenset[int]:
        shape = next(node.reads()).spec.shape
        return frozenset(a for a in node.attributes["axis"] if shape[a] != 1)

    def _written(self, output: int, value: Value) -> Iterator[Write]:
        if value.node is None or value.node.op.name != "concatenate":
            yield self._write_of(output, value)
            return
        axis, first = value.node.attributes["axis"], 0
        for part in value.node.reads():
            write = self._write_of(output, part)
            if not write.full:
                raise ValueError("what has no reduced axes is concatenated")
            yield Write(write.place, True, output, axis, first)
            first += part.spec.shape[axis]

    def _write_of(self, output: int, value: Value) -> Write:
        shape = value.spec.shape
        sizes = _squeezed(shape)
        for full, axes in ((True, [a for a in self.identity() if a is not None]), (False, self.kept)):
            if sizes == tuple(self.shape[a] for a in axes):
                rest = iter(axes)
                return Write((value, tuple(None if n == 1 else next(rest) for n in shape)), full, output)
        raise ValueError(f"a result of shape {shape} in a space of {self.shape}")

    def operands(self, place: Place) -> Iterator[Place]:
        """What a value is computed of, as it is read."""
        (value, axes), node = place, place[0].node
        assert node is not None
        if node.op.name in REDUCTIONS:
            (x,) = node.reads()
            if x.spec.shape != self.shape or self._axes_of(node) != self.reduced:
                raise ValueError(f"{node.op.name} over other axes")
            if axes != self.axes_of_sum(node):
                raise ValueError(f"the result of {node.op.name} is read along other axes")
            yield x, self.identity()
        elif node.op.name == "reshape":
            (x,) = node.reads()
            rest = iter([a for a, n in zip(axes, value.spec.shape, strict=True) if n != 1])
            yield x, tuple(None if n == 1 else next(rest) for n in x.spec.shape)
        elif node.op.name == "permute_dims":
            (x,) = node.reads()
            found: list[int | None] = [None] * len(axes)
            for axis, own in zip(axes, node.attributes["axes"], strict=True):
                found[own] = axis
            yield x, tuple(found)
        else:
            for operand in node.operands:
                if isinstance(operand, Value):
                    shape = operand.spec.shape
                    own = axes[len(axes) - len(shape) :]
                    yield operand, tuple(None if n == 1 else a for a, n in zip(own, shape, strict=True))

    def axes_of_sum(self, node: Node) -> Axes:
        """The axes of what a reduction gives."""
        axes = node.attributes["axis"]
        stay = [None if a in axes or self.shape[a] == 1 else a for a in range(len(self.shape))]
        return tuple(a for i, a in enumerate(stay) if node.attributes["keepdims"] or i not in axes)

    def level(self, place: Place) -> int:
        """How many turns over the reduced axes must be over before a value is known."""
        if place in self._levels:
            return self._levels[place]
        node = place[0].node
        if node is None:
            self._read(place)
            found = 0
        elif not fuses(node):
            raise ValueError(f"{node.op.name} is no part of a program")
        else:
            found = max((self.level(p) for p in self.operands(place)), default=0)
            if node.op.name in REDUCTIONS:
                found = self.stage[node] = found + 1
            elif node.op.name == "iota":
                self._read(place)
            self._note_numbers(node)
        self._levels[place] = found
        return found

    def _read(self, place: Place) -> None:
        if place not in self.reads:
            self.reads.append(place)

    def numbers_of(self, node: Node) -> Iterator[tuple[int, float, DType]]:
        """The Python numbers that a node has: the place among the operands, the number, its dtype."""
        if node.op.name == "full":
            yield 0, node.attributes["fill_value"], node.attributes["dtype"]
        elif node.op.name not in MADE:
            for i, operand in enumerate(node.operands):
                if not isinstance(operand, Value):
                    yield i, operand, number_dtype(node)

    def _note_numbers(self, node: Node) -> None:
        for _, value, dtype in self.numbers_of(node):
            if self._write.number(value, dtype) is None:
                self.parameter(value, dtype)

    def parameter(self, value: float, dtype: DType) -> int:
        """Which of the numbers that are parameters this is."""
        for i, (known, kind) in enumerate(self.numbers):
            same = known == value and math.copysign(1, known) == math.copysign(1, value)
            if kind is dtype and (same or (math.isnan(known) and math.isnan(value))):
                return i
        self.numbers.append((float(value), dtype))
        return len(self.numbers) - 1

    @cached_property
    def scratch(self) -> dict[Place, tuple[int, int]]:
        """What is worth keeping from an earlier turn, and is kept where a result goes: the turn, and the result."""
        found: dict[Place, tuple[int, int]] = {}
        free = [i for i, o in enumerate(self.writes) if o.full and self.turn(o.place) == self.stages]
        needed: dict[int, set[Place]] = {}
        for turn in range(1, self.stages + 1):
            needed[turn] = set()
            ends = [
                next(self.operands((n.results[0], self.axes_of_sum(n))))
                for n, s in self.stage.items()
                if s == turn
            ]
            ends += [o.place for o in self.writes if o.full and self.turn(o.place) == turn]
            for place in ends:
                self._gather(place, needed[turn])
        last = needed.get(self.stages, set())
        for turn in range(1, self.stages):
            shared = needed[turn] & last
            inner = {
                p
                for q in shared
                if q[0].node is not None and not self._is_reduction(q)
                for p in self.operands(q)
            }
            for place in sorted(shared - inner, key=lambda p: self._order(p[0])):
                output = next((i for i in free if self._fits(place, i)), None)
                if (
                    output is not None
                    and place not in found
                    and self._costly(place)
                    and place[1] == self.identity()
                ):
                    found[place] = turn, output
                    free.remove(output)
        return found

    def _is_reduction(self, place: Place) -> bool:
        return place[0].node is not None and place[0].node.op.name in REDUCTIONS

    def _order(self, value: Value) -> int:
        return -1 if value.node is None else self.graph.nodes.index(value.node)

    def _gather(self, place: Place, found: set[Place]) -> None:
        """All that a value is computed of in its turn, itself included."""
        if place in found or self._is_reduction(place):
            return
        found.add(place)
        if place[0].node is not None:
            for operand in self.operands(place):
                self._gather(operand, found)

    def _fits(self, place: Place, output: int) -> bool:
        dtype = self.writes[output].place[0].spec.dtype
        return dtype is place[0].spec.dtype is self.dialect.computed(dtype) and dtype is not dtypes.bool

    def _costly(self, place: Place) -> bool:
        node = place[0].node
        if node is None or self._is_reduction(place):
            return False
        return node.op.name in COSTLY or any(self._costly(p) for p in self.operands(place))

    def source(self, layout: Layout, make: Callable[[Program, Layout], Source]) -> Source:
        """The kernel for a layout, which is made once."""
        found = self._sources.get(layout)
        if found is None:
            found = self._sources[layout] = make(self, layout)
        return found

    @property
    def splits(self) -> bool:
        """Whether parts of the reduced axes can be taken by themselves, and what they come to together afterwards."""
        return (
            bool(self.reduced)
            and all(s == 1 for s in self.stage.values())
            and all(self.level(o.place) == 0 for o in self.writes if o.full)
        )

    def partial(self, node: Node, blocks: int) -> Spec:
        """The spec of what so many parts of a reduction come to."""
        result = node.results[0].spec
        sizes = tuple(self.shape[a] for a in self.kept)
        return Spec((blocks, *sizes), self.dialect.computed(result.dtype), result.device)

    def combined(self, blocks: int) -> Program:
        """What is left to do once parts have been taken: its inputs are what these came to, then those of the graph.

        Its outputs are those without all axes.
        """
        new = Graph()
        values: dict[Value, Value] = {}
        partial = [(n, new.input(self.partial(n, blocks))) for n in self.stage]
        for old in self.graph.inputs:
            values[old] = new.input(old.spec)
        for node, value in partial:
            attributes = {**node.attributes, "axis": (0,), "keepdims": False}
            result = node.results[0].spec
            made = new.add(node.op, [value], attributes, result.with_shape(value.spec.shape[1:]))
            if made.spec.shape != result.shape:
                made = new.add(register["reshape"], [made], {"shape": result.shape, "copy": None}, result)
            values[node.results[0]] = made
        for node in self.graph.nodes:
            if (
                node in self.stage
                or node.op.name == "concatenate"
                or not all(v in values for v in node.reads())
            ):
                continue
            operands = [values[o] if isinstance(o, Value) else o for o in node.operands]
            values[node.results[0]] = new.add(node.op, operands, node.attributes, node.results[0].spec)
        new.outputs = [values[w.place[0]] for w in self.writes if not w.full]
        return Program(new, self.dialect)


def program_of(graph: Graph, dialect: Dialect) -> Program | None:
    """The program of a graph; None where it is none."""
    try:
        return Program(graph, dialect)
    except ValueError:
        return None


__all__ = ["Axes", "Place", "Program", "Write", "elementwise", "fuses", "program_of"]
