"""`Plan`: a graph made ready to run on one device, as a straight line of kernel calls, or by the device's own compiler.

The first run asks every kernel for new memory, and learns from what comes which memory layout each result has. From the
second on, results lie in blocks that are reused (`memory`), views of them are made once, and what a cell or a gradient is
bound to is written over what it held, where nothing else holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any

from plugrad.graph.bundle import Runner, columns_of
from plugrad.graph.ir import Graph, Node, Value
from plugrad.graph.memory import Layout, allocate, kernel_of, lay_out, roots_of

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.modes import Modes

Line = Callable[[Sequence[Any], Sequence[Any]], list[Any]]
"""From the arrays of the inputs, and those that outputs may be written into or None, the arrays of the outputs."""


class Plan:
    """Runs a graph.

    Attributes:
        graph: what runs.
        targets: the indices of the outputs that a run may be given memory for; known after the first run.
        columns: groups of ``targets``, by their places there, that are to lie side by side.
        source: the Python code of the line that runs.
    """

    def __init__(
        self,
        graph: Graph,
        backend: Backend,
        modes: Modes,
        replaced: Mapping[int, int | None] | None = None,
    ) -> None:
        """Make a plan.

        Args:
            graph: what is to be computed, lowered (see `plugrad.graph.passes.run_passes`).
            backend: of the device.
            modes: the modes that kernels are chosen by.
            replaced: by the index of an output that is bound to a cell or a gradient, the index of the input that
                is what it held before, or None where that is not read.
        """
        self.graph = graph
        self._backend = backend
        self._replaced = {o: None if i is None else graph.inputs[i] for o, i in (replaced or {}).items()}
        over = {graph.outputs[o]: before for o, before in self._replaced.items()}
        self._kernels = [kernel_of(n, backend, modes, over) for n in graph.nodes]
        self._runners = [k.function for k in self._kernels if isinstance(k.function, Runner)]
        self.targets: tuple[int, ...] = ()
        self.columns: list[list[int]] = []
        self._layout: Layout | None = None
        self._learned: dict[Value, Any] = {}
        self._views: set[Node] = set()
        self._idle: list[Line] = []
        self.source = ""
        self._plain: Line | None = None
        self._marking: Line | None = None
        self._marks: list[tuple[int, float]] = []
        self._compiled = backend.compile(graph) if self._can("compiling") else None

    def run(self, inputs: Sequence[Any], targets: Sequence[Any] = ()) -> list[Any]:
        """The arrays of the outputs.

        Args:
            inputs: the arrays of the inputs.
            targets: for each of `targets`, an array to write the output into, which may be that of the input that
                it replaces.
        """
        if self._compiled is not None:
            return list(self._compiled(inputs))
        try:
            line = self._idle.pop()
        except IndexError:
            line = self._another()
        outputs: list[Any] = self._backend.call(line, inputs, targets)
        # A line owns its memory, so that calls at the same time, or after an error, take another one.
        if line != self._learn:
            self._idle.append(line)
        return outputs

    def timed(self, inputs: Sequence[Any], targets: Sequence[Any] = ()) -> tuple[list[Any], list[float]]:
        """As `run`, on a line of its own, with the seconds of each node; those of one that costs nothing are 0.

        The device finishes each node before the next one begins. One thread at a time.
        """
        device, marks = self.graph.device, self._marks
        assert device is not None

        def mark(index: int) -> None:
            self._backend.synchronize(device)
            marks.append((index, perf_counter()))

        if self._marking is None:
            # Kept: memory that is touched for the first time would cost more than many kernels.
            self._marking = _Writer(self, self._layout, mark=mark).line()
        marks.clear()
        outputs: list[Any] = self._backend.call(self._marking, inputs, targets)
        seconds = [0.0] * len(self.graph.nodes)
        for (_, before), (index, after) in pairwise(marks):
            seconds[index] = after - before
        return outputs, seconds

    def memory(self) -> list[int]:
        """After each node, the bytes of results that are still to be read: what a plan without reuse would hold.

        The blocks that hold them take `block_bytes`.
        """
        roots = roots_of(self.graph, self._views)
        last: dict[Value, int] = {}
        for i, node in enumerate(self.graph.nodes):
            for value in node.reads():
                for root in roots[value]:
                    last[root] = i
        kept = {r for v in self.graph.outputs for r in roots[v]}
        live, ends = 0, [0] * (len(self.graph.nodes) + 1)
        held = []
        for i, node in enumerate(self.graph.nodes):
            for value in node.results:
                if node not in self._views:
                    live += value.spec.nbytes
                    if value not in kept:
                        ends[max(last.get(value, i), i)] += value.spec.nbytes
            held.append(live)
            live -= ends[i]
        return held

    @property
    def block_bytes(self) -> int:
        """Bytes of the memory that results share; 0 before the first run, and where a device places nothing."""
        return 0 if self._layout is None else sum(self._layout.blocks)

    @property
    def scattered(self) -> bool:
        """Whether the last run met arrays of `columns` that did not lie side by side."""
        return any(runner.scattered for runner in self._runners)

    def new_target(self, output: int) -> Any:
        """New memory for an output, in its layout."""
        return self._backend.place(None, self._learned[self.graph.outputs[output]])

    def new_column(self, outputs: Sequence[int]) -> Sequence[Any]:
        """New memory for several outputs, row-major, side by side."""
        return self._backend.side_by_side([self.graph.outputs[o].spec for o in outputs])

    def _another(self) -> Line:
        if not self._can("placing"):
            if self._plain is None:
                self._plain = _Writer(self, None).line()
            return self._plain
        if self._layout is None:
            return self._learn
        return _Writer(self, self._layout).line()

    def _can(self, capability: str) -> bool:
        device = self.graph.device
        return device is not None and bool(getattr(self._backend.capabilities(device), capability))

    def _learn(self, inputs: Sequence[Any], targets: Sequence[Any]) -> list[Any]:
        """The first run."""
        del targets
        like: dict[Value, Any] = {}
        views: set[Node] = set()

        def told(index: int, reads: Sequence[Any], results: Sequence[Any]) -> None:
            # No array is kept: the first run holds no more memory than a run without a plan.
            node = self.graph.nodes[index]
            if self._may_view(node, reads, results):
                views.add(node)
            for value, array in zip(node.results, results, strict=True):
                if value.spec.size and value.spec.shape and not self._kernels[index].allocates:
                    layout = self._backend.layout(array)
                    if layout is not None:
                        like[value] = layout

        outputs = _Writer(self, None, told=told).line()(inputs, ())
        placed = {value: value.spec.nbytes for value in like}
        layout = lay_out(self.graph, self._kernels, views, placed, self._replaced)
        self._views = views
        self.targets = tuple(layout.targets.values())
        self._learned = {v: like[v] for v in (*layout.block_of, *layout.targets, *layout.fresh)}
        place = {value: i for i, value in enumerate(layout.targets)}
        columns = [c for n in self.graph.nodes for c in columns_of(n)]
        self.columns = [[place[v] for v in c] for c in columns if all(v in place for v in c)]
        self._layout = layout
        return outputs

    def _may_view(self, node: Node, reads: Sequence[Any], results: Sequence[Any]) -> bool:
        """Whether a node may give a view: what the op says; of a rule, all of which may, what its kernel did."""
        if node.op.owner is None or not node.op.may_alias:
            return bool(node.op.may_alias)
        return any(self._backend.is_view(r, a) for r in results for a in reads)


class _Writer:
    """Writes the code of a line, and binds it to memory of its own."""

    def __init__(
        self,
        plan: Plan,
        layout: Layout | None,
        *,
        told: Callable[[int, Sequence[Any], Sequence[Any]], None] | None = None,
        mark: Callable[[int], None] | None = None,
    ) -> None:
        self._graph = plan.graph
        self._kernels = plan._kernels
        self._backend = plan._backend
        self._layout = layout
        self._told = told
        self._mark = mark
        self._plan = plan
        self._scope: dict[str, Any] = {}
        self._names: dict[Value, str] = {}
        self._fixed: dict[Value, Any] = {}
        self._fresh: dict[Value, str] = {}

    def line(self) -> Line:
        """The function that runs."""
        graph, layout, scope, names = self._graph, self._layout, self._scope, self._names
        for i, (value, array) in enumerate(graph.constants.items()):
            names[value] = f"c{i}"
            scope[f"c{i}"] = self._fixed[value] = array
        for i, value in enumerate(graph.inputs):
            names[value] = f"x{i}"
        if layout is not None:
            self._place(layout)
        lines = ["def run(inputs, targets):"]
        if graph.inputs:
            lines.append(f"  {''.join(f'x{i}, ' for i in range(len(graph.inputs)))}= inputs")
        targets = {} if layout is None else {v: i for i, v in enumerate(layout.targets)}
        if targets:
            lines.append(f"  {''.join(f't{i}, ' for i in range(len(targets)))}= targets")
        lines += self._calls(targets)
        lines.append(f"  return [{', '.join(names[v] for v in graph.outputs)}]")
        source = "\n".join(lines)
        if self._told is None and self._mark is None:
            self._plan.source = source
        exec(compile(source, "<plan>", "exec"), scope)
        run: Line = scope["run"]
        return run

    def _place(self, layout: Layout) -> None:
        """Give every value of a block its array there; large ones that leave get theirs at each run."""
        self._scope["new"] = partial(self._backend.place, None)
        for i, value in enumerate(layout.fresh):
            self._fresh[value] = f"l{i}"
            self._scope[f"nl{i}"] = self._plan._learned[value]
        values = list(layout.block_of)
        if not values:
            return
        blocks = allocate(layout, self._backend, values[0].spec)
        for i, value in enumerate(values):
            array = self._backend.place(blocks[layout.block_of[value]], self._plan._learned[value])
            self._scope[f"b{i}"] = self._fixed[value] = array
            self._names[value] = f"b{i}"

    def _calls(self, targets: Mapping[Value, int]) -> list[str]:
        """The calls in order, each array let go of after its last reader."""
        graph, names, fixed = self._graph, self._names, self._fixed
        last: dict[Value, int] = {}
        for i, node in enumerate(graph.nodes):
            for value in node.reads():
                last[value] = i
        kept = {*graph.outputs, *graph.constants}
        lines: list[str] = []
        new = set(self._fresh.values())
        if self._mark is not None:
            self._scope["mark"] = self._mark
            lines.append("  mark(-1)")
        for i, (node, kernel) in enumerate(zip(graph.nodes, self._kernels, strict=True)):
            self._scope[f"k{i}"] = kernel.function if kernel.bare is None else kernel.bare
            if self._view(i, node):
                continue
            arguments, attributes = self._arguments(i, node)
            into = [self._into(v, targets) for v in node.results]
            several = isinstance(node.form, (tuple, list))
            some = kernel.partial and several
            if any(into) and (some or all(into)) and len(into) == len(_flat(node.form)):
                lines += [f"  {place} = new(n{place})" for place in into if place in new]
                places = [place or "None" for place in into]
                goes = f"({', '.join(places)},)" if several else places[0]
            else:
                into, goes = [""] * len(into), "None"
            if kernel.bare is not None:
                arguments.append(goes)
            elif any(into):
                arguments.append(f"into={goes}")
            arguments += attributes
            for j, (value, place) in enumerate(zip(node.results, into, strict=True)):
                names[value] = place or f"v{i}_{j}"
                if not place:
                    fixed.pop(value, None)
            call = f"k{i}({', '.join(arguments)})"
            if all(into):
                lines.append(f"  {call}")
            else:
                given = {v: "_" if place else names[v] for v, place in zip(node.results, into, strict=True)}
                lines.append(f"  {_form(node.form, given)} = {call}")
            if self._told is not None:
                self._scope["told"] = self._told
                reads = "".join(f"{names[v]}, " for v in dict.fromkeys(node.reads()))
                lines.append(f"  told({i}, ({reads}), ({''.join(f'{names[v]}, ' for v in node.results)}))")
            if self._mark is not None:
                lines.append(f"  mark({i})")
            dead = [v for v in dict.fromkeys(node.reads()) if last[v] == i]
            dead += [v for v in node.results if v not in last]
            gone = [names[v] for v in dead if v not in kept and v not in fixed and v not in targets]
            if gone:
                lines.append(f"  {' = '.join(gone)} = None")
        return lines

    def _into(self, value: Value, targets: Mapping[Value, int]) -> str:
        """The name of the memory that a result is written into, or the empty string."""
        if value in self._fixed:
            return self._names[value]
        return f"t{targets[value]}" if value in targets else self._fresh.get(value, "")

    def _arguments(self, i: int, node: Any) -> tuple[list[str], list[str]]:
        """The operands and the attributes of a call."""
        arguments, attributes = [], []
        for j, operand in enumerate(node.operands):
            if isinstance(operand, Value):
                arguments.append(self._names[operand])
            elif isinstance(operand, tuple):
                arguments.append(f"[{', '.join(self._names[v] for v in operand)}]")
            else:
                self._scope[f"s{i}_{j}"] = operand
                arguments.append(f"s{i}_{j}")
        for key, value in node.attributes.items():
            self._scope[f"a{i}_{key}"] = value
            attributes.append(f"{key}=a{i}_{key}")
        return arguments, attributes

    def _view(self, i: int, node: Any) -> bool:
        """Make a view of fixed memory once, here, where the node gives one."""
        # Fixed memory has no values yet: a kernel that is asked here must not look at them, as those of views do not.
        if node not in self._plan._views or len(node.results) != 1 or self._layout is None:
            return False
        reads = list(node.reads())
        if not reads or not all(v in self._fixed for v in reads):
            return False
        given = [
            [self._fixed[v] for v in o]
            if isinstance(o, tuple)
            else self._fixed[o]
            if isinstance(o, Value)
            else o
            for o in node.operands
        ]
        array = self._kernels[i].function(*given, **node.attributes)
        if not any(self._backend.is_view(array, self._fixed[v]) for v in reads):
            return False
        value = node.results[0]
        self._scope[f"w{i}"] = self._fixed[value] = array
        self._names[value] = f"w{i}"
        return True


def _flat(form: Any) -> list[Any]:
    if isinstance(form, (tuple, list)):
        return [v for part in form for v in _flat(part)]
    return [form]


def _form(form: Any, names: Mapping[Value, str]) -> str:
    if isinstance(form, (tuple, list)):
        return f"({''.join(_form(part, names) + ', ' for part in form)})" if form else "_"
    return "_" if form is None else names[form]
