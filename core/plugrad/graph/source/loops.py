"""The text of a fused kernel: a `Program` as loops over arrays of given layouts.

A work-item takes a piece of the axes kept; all of the axes reduced, in as many turns as the program has, lie in loops within
it. The last axis of all, the one along which elements lie side by side, runs in vectors: where it is reduced, a row's
elements are the lanes, and what they add up to is folded at the end; where it is kept, neighbouring columns are. What is left
of a line after the vectors is computed as numbers, by the same statements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.graph.ir import Node, Value
from plugrad.graph.source.dialect import Dialect, Source, Writer
from plugrad.graph.source.program import MOVED, REDUCTIONS, Place, Program
from plugrad.graph.source.statements import Statements, Term


@dataclass(frozen=True, slots=True)
class Layout:
    """How arrays lie in the collapsed axes of a space, those kept first.

    Attributes:
        kept, reduced: how many axes there are.
        along: the vectors run along the last axis reduced; else along the last one kept.
        reads: for each of the program's, a letter for each axis: ``0`` repeated along it, ``1`` elements side by side (the
            axis of the vectors alone), ``s`` of another stride; ``n`` alone for a number.
        writes: the same of the results; those without all axes have the letters of the axes kept.
        split: the first axis reduced is cut into blocks, and what each comes to is written.
    """

    kept: int
    reduced: int
    along: bool
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    split: bool = False


@dataclass(slots=True)
class _Scope:
    """A block of the text: its lines, and what is known in it."""

    lines: list[str]
    known: dict[Place, Term]


_IDENTITY: Final = {"sum": 0, "prod": 1}
_STEPS: Final = {"sum": "{a} + {v}", "prod": "{a} * {v}"}


def kernel_text(program: Program, layout: Layout) -> Source:
    """The source of the kernel of a program for arrays of a layout.

    Parameters: for each read its memory, first place, and strides of the letters ``s``, or the number; the program's numbers;
    for each result its memory, first place and strides, or, where the reduced axes are split, for each reduction the
    memory of its parts, and the results of all axes alone; the sizes of the axes; the elements of a chunk and the chunks of
    the last axis kept; the places of a block of the first axis reduced; the work-items of a block and in all. Launch: one
    axis.
    """
    return _Loops(program, layout).source()


class _Loops:
    """Writes one kernel."""

    def __init__(self, program: Program, layout: Layout) -> None:
        self.program = program
        self.layout = layout
        self.dialect: Dialect = program.dialect
        self.lanes = self.dialect.profile.lanes if self.dialect.choose else 1
        values = [n.results[0] for n in program.graph.nodes] + list(program.graph.inputs)
        used = list(dict.fromkeys(v.spec.dtype for v in values))
        self.write = Statements(self.dialect, self.lanes)
        self.head = Writer(self.dialect, "fused", used)
        self.index = self.dialect.index
        self.k = [f"k{i}" for i in range(layout.kept)]
        self.j = [f"j{i}" for i in range(layout.reduced)]
        self.axes = [*self.k, *self.j]
        self.across = layout.kept - 1 if not layout.along else -1
        self.lane = self.j[-1] if layout.along else self.k[-1]
        self.item = _Scope([], {})
        self.column: _Scope | None = None
        self.loop: _Scope | None = None
        self.wide = False
        self.turn = 0
        self.reductions = list(program.stage)
        self.known: dict[Place, str] = {}

    # -- the kernel ---------------------------------------------------------------------------------------

    def source(self) -> Source:
        """The kernel."""
        self._declare()
        self._begin()
        if self.layout.along:
            self._turns(self.item)
            self._results(self.item)
        else:
            self._lines(self.item, self.k[-1], "from", "to", self._columns)
        for helper in self.write.helpers:
            self.head.helper(helper)
        for line in self.item.lines:
            self.head.line(line)
        return self.head.source()

    def _declare(self) -> None:
        head, layout, program = self.head, self.layout, self.program
        for i, ((value, _), letters) in enumerate(zip(program.reads, layout.reads, strict=True)):
            if letters == "n":
                head.number(f"a{i}", value.spec.dtype)
                continue
            if value.node is None:
                head.memory(f"a{i}", value.spec.dtype)
            head.number(f"a{i}_start")
            head.numbers(*self._strides(f"a{i}", letters))
        for i, (_, dtype) in enumerate(program.numbers):
            head.number(f"c{i}", dtype)
        for i, (output, letters) in enumerate(zip(program.writes, layout.writes, strict=True)):
            if output.full or not layout.split:
                head.memory(f"o{i}", output.place[0].spec.dtype, const=False)
                head.number(f"o{i}_start")
                head.numbers(*self._strides(f"o{i}", letters))
        if layout.split:
            for i, node in enumerate(self.reductions):
                head.memory(f"p{i}", self._sum_dtype(node), const=False)
        head.numbers(*(f"n_{axis}" for axis in self.axes), "chunk", "chunks", "block", "per_block", "items")

    def _strides(self, name: str, letters: str) -> list[str]:
        return [f"{name}_{axis}" for axis, letter in zip(self.axes, letters, strict=False) if letter == "s"]

    def _begin(self) -> None:
        """Where a work-item stands."""
        lines, layout, kind = self.item.lines, self.layout, self.index
        lines.append(f"{kind} item = {self.dialect.indices[0]};")
        lines.append("if (item >= items) return;")
        if layout.split:
            lines.append(f"const {kind} part = item / per_block;")
            lines.append("item %= per_block;")
            lines.append(f"const {kind} first = part * block;")
            lines.append(f"const {kind} last = first + block < n_j0 ? first + block : n_j0;")
        axes = list(self.k)
        if not layout.along:
            axis = axes.pop()
            lines.append(f"const {kind} from = item % chunks * chunk;")
            lines.append(f"const {kind} to = from + chunk < n_{axis} ? from + chunk : n_{axis};")
            lines.append("item /= chunks;")
        for axis in reversed(axes[1:]):
            lines.append(f"const {kind} {axis} = item % n_{axis};")
            lines.append(f"item /= n_{axis};")
        if axes:
            lines.append(f"const {kind} {axes[0]} = item;")

    def _lines(
        self, scope: _Scope, axis: str, start: str, stop: str, body: Callable[[list[str]], None]
    ) -> None:
        """A loop along the axis of the vectors, and one over what they leave."""
        lines = scope.lines
        lines.append(f"{self.index} {axis} = {start};")
        # What a body needs of the block around it is written there first.
        if self.lanes > 1:
            self.wide = True
            inner: list[str] = []
            body(inner)
            head = f"for (; {axis} + {self.lanes} <= {stop}; {axis} += {self.lanes}) {{"
            lines += [head, *inner, "}"]
        self.wide, inner = False, []
        body(inner)
        lines += [f"for (; {axis} < {stop}; ++{axis}) {{", *inner, "}"]

    def _columns(self, lines: list[str]) -> None:
        """What is done for the columns of one vector, or for one column."""
        scope = self.column = _Scope([], {})
        self._turns(scope)
        self._results(scope)
        lines += [f"    {line}" for line in scope.lines]
        self.column = None
        self.write.forget()

    # -- turns over the axes reduced ----------------------------------------------------------------------

    def _turns(self, scope: _Scope) -> None:
        for turn in range(1, self.program.stages + 1):
            self.turn = turn
            if self.layout.reduced:
                self._turn(scope)
            else:
                self.loop = scope
                self._body()
                self.loop = None

    def _turn(self, scope: _Scope) -> None:
        """Loops over all axes reduced, with what is added up in them."""
        along, wide = self.layout.along, self.wide
        nodes = [n for n in self.reductions if self.program.stage[n] == self.turn]
        before: list[str] = []
        for node in nodes:
            name = f"s{self.reductions.index(node)}"
            before.append(
                f"{self._sum_type(node, False if along else wide)} {name} = {self._start(node, False if along else wide)};"
            )
            if along and self.lanes > 1:
                before.append(f"{self._sum_type(node, True)} {name}_wide = {self._start(node, True)};")
        inner: list[str] = []
        body = _Scope(inner, {})
        outer = self.j[:-1] if along else self.j
        closing = 0
        for axis in outer:
            start, stop = ("first", "last") if self.layout.split and axis == "j0" else ("0", f"n_{axis}")
            inner.append(f"for ({self.index} {axis} = {start}; {axis} < {stop}; ++{axis}) {{")
            closing += 1
        if along:
            axis = self.j[-1]
            start, stop = ("first", "last") if self.layout.split and axis == "j0" else ("0", f"n_{axis}")
            self._lines(body, axis, start, stop, self._inner)
        else:
            self._inner(inner)
        inner.append("}" * closing)
        # What the loops read of the block around them stands before them by now.
        scope.lines += [*before, "{", *(f"    {line}" for line in inner if line), "}"]
        for node in nodes:
            self._known(scope, node, wide and not along)

    def _inner(self, lines: list[str]) -> None:
        self.loop = _Scope([], {})
        self._body()
        lines += [f"    {line}" for line in self.loop.lines]
        self.loop = None
        self.write.forget()

    def _known(self, scope: _Scope, node: Node, wide: bool) -> None:
        """Let what a reduction came to be known after the loops."""
        name = f"s{self.reductions.index(node)}"
        if self.layout.along and self.lanes > 1:
            scope.lines.append(self._step(node, name, f"{self._fold(node)}({name}_wide)", False))
        self.write.lines = scope.lines
        result = node.results[0].spec.dtype
        text = name if wide or result.is_floating else f"({self.dialect.types[result]}){name}"
        term = self.write.let(text, result, wide, result not in self.dialect.arithmetic)
        if node.results[0] in self.program.inner:
            term = self.write.exact(term)
        scope.known[node.results[0], self.program.axes_of_sum(node)] = term

    def _body(self) -> None:
        """The statements of one turn at one place."""
        program = self.program
        assert self.loop is not None
        added: list[tuple[Node, Term]] = []
        for node in self.reductions:
            if program.stage[node] == self.turn:
                (place,) = program.operands((node.results[0], program.axes_of_sum(node)))
                term = self._term(place)
                self.write.lines = self.loop.lines
                added.append((node, self.write.cast(term, node.results[0].spec.dtype)))
        stored = [
            (i, self._term(o.place))
            for i, o in enumerate(program.writes)
            if o.full and program.turn(o.place) == self.turn
        ]
        self.write.lines = self.loop.lines
        for node, term in added:
            name = f"s{self.reductions.index(node)}"
            value = self.write.widened(term) if self.wide else term.text
            target = f"{name}_wide" if self.wide and self.layout.along else name
            self.write.lines.append(self._step(node, target, value, self.wide))
        for i, term in stored:
            self._store(i, term)
        for place, (turn, output) in program.scratch.items():
            if turn == self.turn and not self.layout.split:
                self._store(output, self._term(place))

    def _results(self, scope: _Scope) -> None:
        """Write what has no reduced axes, or, of a block, what its reductions come to."""
        program = self.program
        self.turn = program.stages + 1
        if not self.layout.split:
            for i, output in enumerate(program.writes):
                if not output.full:
                    term = self._term(output.place)
                    self.write.lines = scope.lines
                    self._store(i, term)
            return
        place = " + ".join(["0", *self._row_major()])
        self.write.lines = scope.lines
        for i, node in enumerate(self.reductions):
            term = Term(f"s{i}", self._sum_dtype(node), self.wide)
            if not self.wide and not term.dtype.is_floating:
                term = Term(f"({self.dialect.types[term.dtype]})s{i}", term.dtype)
            self.write.store(term, f"p{i}", f"(part * ({self._count()}) + {place})", self.wide)

    def _row_major(self) -> list[str]:
        return [
            " * ".join([axis, *(f"n_{later}" for later in self.k[i + 1 :])]) for i, axis in enumerate(self.k)
        ]

    def _count(self) -> str:
        return " * ".join(f"n_{axis}" for axis in self.k) or "1"

    # -- sums ---------------------------------------------------------------------------------------------

    def _sum_dtype(self, node: Node) -> DType:
        return self.dialect.computed(node.results[0].spec.dtype)

    def _sum_type(self, node: Node, wide: bool) -> str:
        dtype = self._sum_dtype(node)
        if not wide and not dtype.is_floating and node.op.name != "max":
            return self.dialect.word  # integers wrap around
        return self.write.type_of(dtype, wide)

    def _start(self, node: Node, wide: bool) -> str:
        dtype = self._sum_dtype(node)
        if node.op.name == "max":
            if dtype.is_floating:
                text = f"-{self.dialect.infinity}"
            else:
                text = self.write._integer(int(dtypes.iinfo(dtype).min), dtype)
        else:
            text = str(_IDENTITY[node.op.name])
        if not wide:
            return text
        return self.dialect.splat.format(type=self.dialect.types[dtype], lanes=self.lanes, value=text)

    def _step(self, node: Node, total: str, value: str, wide: bool) -> str:
        if node.op.name != "max":
            if not wide and not self._sum_dtype(node).is_floating:
                value = f"({self.dialect.word}){value}"
            return f"{total} = {_STEPS[node.op.name].format(a=total, v=value)};"
        nan = self._sum_dtype(node).is_floating
        if wide:
            condition = f"({value} > {total})" + (f" | ({value} != {value})" if nan else "")
            return f"{total} = {self.dialect.choose.format(condition=condition, a=value, b=total)};"
        kind = self._sum_type(node, False)
        condition = f"v > {total}" + (" || v != v" if nan else "")
        return f"{{ const {kind} v = {value}; {total} = {condition} ? v : {total}; }}"

    def _fold(self, node: Node) -> str:
        """The name of the function that makes one number of the lanes."""
        lanes, dialect, dtype = self.lanes, self.dialect, self._sum_dtype(node)
        kind, vector = self._sum_type(node, False), self._sum_type(node, True)
        stored = self.write.type_of(dtype, False)
        name = f"fold_{node.op.name}_{dtype.name}"
        lines = [
            f"{dialect.function} {kind} {name}(const {vector} x)",
            "{",
            f"    {stored} part[{lanes}];",
            "    " + dialect.store.format(lanes=lanes, value="x", place="part"),
            f"    for (int step = {lanes // 2}; step; step /= 2)",
            "        for (int l = 0; l < step; ++l) {",
            f"            {kind} a = part[l];",
            "            " + self._step(node, "a", "part[l + step]", False),
            f"            part[l] = ({stored})a;",
            "        }",
            "    return part[0];",
            "}",
        ]
        self.write.helpers["\n".join(lines)] = None
        return name

    # -- values -------------------------------------------------------------------------------------------

    def _term(self, place: Place) -> Term:
        """A value where it is needed; written where it is known first, and once."""
        scope = self._scope(place)
        for known in (scope.known, self.item.known, *([self.column.known] if self.column else [])):
            if place in known:
                return known[place]
        held = self.program.scratch.get(place)
        if held is not None and held[0] < self.turn <= self.program.stages and not self.layout.split:
            term = self._held(held[1], scope)
        else:
            term = self._computed(place, scope)
        if place[0] in self.program.inner:
            self.write.lines = scope.lines
            term = self.write.exact(term)
        scope.known[place] = term
        return term

    def _scope(self, place: Place) -> _Scope:
        """The block in which a value can be written as far out as may be."""
        letters = self._letters(place)
        kept = self.layout.kept
        if self.loop is not None and any(c != "0" for c in letters[kept:]):
            return self.loop
        if self.column is not None and letters[kept - 1] != "0":
            return self.column
        return self.item

    def _letters(self, place: Place) -> str:
        """Along which axes a value changes: ``0`` where it does not."""
        if place not in self.known:
            node, sides = place[0].node, len(self.axes)
            if node is None or node.op.name == "iota":
                letters = self.layout.reads[self.program.reads.index(place)]
                self.known[place] = "0" * sides if letters == "n" else letters
            elif node.op.name in REDUCTIONS:
                self.known[place] = "s" * self.layout.kept + "0" * self.layout.reduced
            else:
                below = [self._letters(p) for p in self.program.operands(place)]
                self.known[place] = "".join(
                    "s" if any(b[a] != "0" for b in below) else "0" for a in range(sides)
                )
        return self.known[place]

    def _computed(self, place: Place, scope: _Scope) -> Term:
        program, (value, _) = self.program, place
        node = value.node
        if node is None:
            return self._read(place, scope)
        if node.op.name == "iota":
            return self._counted(place, scope)
        if node.op.name == "full":
            return self._numbers(node)[0]
        assert node.op.name not in REDUCTIONS, "a reduction is known after its turn"
        operands = list(program.operands(place))
        terms = [self._term(p) for p in operands]
        if node.op.name in MOVED:
            return terms[0]
        self.write.lines = scope.lines
        rest = iter(terms)
        numbers = self._numbers(node)
        given = [next(rest) if isinstance(o, Value) else numbers[i] for i, o in enumerate(node.operands)]
        dtype = value.spec.dtype
        if node.op.name == "astype":
            return self.write.cast(given[0], dtype)
        return self.write.apply(node.op, given, dtype)

    def _numbers(self, node: Node) -> dict[int, Term]:
        found = {}
        for i, number, dtype in self.program.numbers_of(node):
            literal = self.write.number(number, dtype)
            found[i] = literal or Term(f"c{self.program.parameter(number, dtype)}", dtype)
        return found

    def _read(self, place: Place, scope: _Scope) -> Term:
        """An input's element, or as many as a vector has."""
        i = self.program.reads.index(place)
        letters, dtype = self.layout.reads[i], place[0].spec.dtype
        self.write.lines = scope.lines
        if letters == "n":
            return Term(f"a{i}", dtype)
        along = letters[self.axes.index(self.lane)]
        where = self._where(f"a{i}", letters)
        if not self.wide or along == "0":
            return self.write.load(dtype, f"a{i}", f"({where})", False)
        if along == "1":
            return self.write.load(dtype, f"a{i}", f"({where})", True)
        return self.write.gather(dtype, f"a{i}", self._apart(f"a{i}", where))

    def _counted(self, place: Place, scope: _Scope) -> Term:
        """The index along an axis, in the dtype of `iota`."""
        i, dtype = self.program.reads.index(place), place[0].spec.dtype
        letters = self.layout.reads[i]
        self.write.lines = scope.lines
        where, along = self._where(f"a{i}", letters), letters[self.axes.index(self.lane)]
        if not self.wide or along == "0":
            return self.write.cast(self.write.let(where, dtypes.int64, False), dtype)
        steps = ", ".join(map(str, range(self.lanes)))
        kind = self.dialect.types[dtypes.int64]
        lanes = self.dialect.compose.format(type=kind, lanes=self.lanes, values=steps)
        if along == "s":
            lanes = f"{lanes} * {self.dialect.splat.format(type=kind, lanes=self.lanes, value=f'a{i}_{self.lane}')}"
        base = self.dialect.splat.format(type=kind, lanes=self.lanes, value=where)
        return self.write.cast(self.write.let(f"{base} + {lanes}", dtypes.int64, True), dtype)

    def _where(self, name: str, letters: str) -> str:
        terms = [f"{name}_start"]
        for axis, letter in zip(self.axes, letters, strict=False):
            if letter != "0":
                terms.append(axis if letter == "1" else f"{axis} * {name}_{axis}")
        return " + ".join(terms)

    def _apart(self, name: str, where: str) -> list[str]:
        return [f"{where} + {lane} * {name}_{self.lane}" for lane in range(self.lanes)]

    def _store(self, i: int, term: Term) -> None:
        """Write a result."""
        letters = self.layout.writes[i]
        at = self.axes.index(self.lane)
        where = self._where(f"o{i}", letters)
        along = letters[at] if at < len(letters) else "0"
        if not self.wide or along == "0":
            self.write.store(term, f"o{i}", f"({where})", False)
        elif along == "1":
            self.write.store(term, f"o{i}", f"({where})", True)
        else:
            self.write.scatter(term, f"o{i}", [f"({p})" for p in self._apart(f"o{i}", where)])

    def _held(self, output: int, scope: _Scope) -> Term:
        """What an earlier turn wrote where a result goes."""
        letters = self.layout.writes[output]
        self.write.lines = scope.lines
        dtype = self.program.writes[output].place[0].spec.dtype
        where = self._where(f"o{output}", letters)
        along = letters[self.axes.index(self.lane)]
        if not self.wide or along == "0":
            return self.write.load(dtype, f"o{output}", f"({where})", False)
        if along == "1":
            return self.write.load(dtype, f"o{output}", f"({where})", True)
        return self.write.gather(dtype, f"o{output}", self._apart(f"o{output}", where))
