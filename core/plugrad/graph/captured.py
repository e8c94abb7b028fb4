"""`Captured`: a capture with its plans, and what a replay takes from cells and binds them to."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from plugrad import tree
from plugrad.autograd import engine
from plugrad.backend import backend_of, current_device
from plugrad.dispatch.cells import Journal, rebind, set_grad, unwatched
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import Modes, changed
from plugrad.dispatch.record import Function, Leaf, Origin, Slot, counter
from plugrad.errors import GradientError
from plugrad.graph.capture import Capture
from plugrad.graph.fallback import with_fallback
from plugrad.graph.ir import Graph, Node
from plugrad.graph.passes import Context, run_passes
from plugrad.graph.plan import Plan
from plugrad.graph.trace import CELLS
from plugrad.spec import Tracked


@dataclass(frozen=True, slots=True)
class _Aims:
    """What a replay may write over: cells, then gradients.

    Attributes:
        cells: the cells.
        leaves: the leaves whose gradients, with the key that these have.
        outputs: of each, the index of the output.
        references: of each, how many references to its array are known.
        order: which of these the targets of the plan are.
        columns: groups of these that are to lie side by side.
    """

    cells: list[TensorData]
    leaves: list[tuple[Leaf, Any]]
    outputs: list[int]
    references: list[int]
    order: list[int]
    columns: list[list[int]]


class Captured:
    """A capture with its plans.

    Attributes:
        capture: what the function computed, and what its inputs and outputs are bound to.
        device: where it runs.
        plan: what a call runs.
        pull_plan: what a backward through the results runs; None where none can.
        backend: of the device.
        modes: those of the thread that captured it.
        exact: whether its results are those of eager mode bit for bit.
        described: the signature and the size, for people.
    """

    def __init__(self, capture: Capture, leaves: Sequence[Any], modes: Modes, *, exact: bool = False) -> None:
        self.capture = capture
        self.exact = exact
        graph = capture.graph
        self.device = next((v.spec.device for v in graph.inputs), None) or current_device()
        self.backend = with_fallback(backend_of(self.device), self.device, modes)
        self.modes = modes
        forward = graph.nodes[: capture.forward_nodes]
        self._split(forward)
        self._aims: _Aims | None = None
        self._bindings = [
            (a, None if a.output is None else self._place[a.output]) for a in capture.assignments
        ]
        places = self._inputs
        self._arguments = [places[i] for i in capture.arguments]
        self._cells = [(cell, places[i]) for cell, i, _ in capture.cells]
        self._grads = [(leaf, places[i]) for leaf, i in capture.grads if i is not None]
        self._results = [
            (i, self._place[capture.leaves[i]], s)
            for i in capture.tensors
            if (s := capture.specs[i]) is not None
        ]
        self._spent: Function | None = None
        shown = ", ".join(str(x.spec) if isinstance(x, TensorData) else repr(x)[:20] for x in leaves)
        self.described = f"({shown}): {len(self.plan.graph)} nodes"

    def _split(self, forward: list[Node]) -> None:
        capture, graph = self.capture, self.capture.graph
        backward = graph.nodes[capture.forward_nodes :]
        made_later = {v for n in backward for v in n.results}
        cotangents = [graph.inputs[i] for i in capture.cotangents]
        gradients = [None if i is None else graph.outputs[i] for i in capture.gradients]
        late = {v for v in gradients if v is not None and (v in made_later or v in cotangents)}
        first = [v for v in graph.outputs if v not in made_later and v not in cotangents]
        index = {v: i for i, v in enumerate(graph.outputs)}
        self._place = {index[v]: i for i, v in enumerate(first)}
        wanted = dict.fromkeys(v for n in backward for v in n.reads())
        wanted.update(dict.fromkeys(v for v in gradients if v is not None and v not in late))
        residuals = [v for v in wanted if v not in made_later and v not in cotangents]
        self._first = len(first)
        early = [v for v in graph.inputs if v not in cotangents]
        self._inputs = {v.index: i for i, v in enumerate(early)}
        self.plan = self._planned(
            Graph.of(early, forward, [*first, *residuals], graph.constants), self._replaced()
        )
        self.pull_plan: Plan | None = None
        if capture.followed and not capture.spent:
            outputs = [v for v in gradients if v is not None]
            self.pull_plan = self._planned(
                Graph.of([*residuals, *cotangents], backward, outputs, graph.constants)
            )

    def _planned(self, graph: Graph, replaced: dict[int, int | None] | None = None) -> Plan:
        ready = run_passes(graph, Context(self.backend, self.modes, self.exact))
        return Plan(ready, self.backend, self.modes, replaced)

    def _replaced(self) -> dict[int, int | None]:
        """By the index of an output that is assigned, the input that is what it replaces."""
        capture = self.capture
        cells = {id(cell): self._inputs[index] for cell, index, _ in capture.cells}
        read = {leaf for leaf, index in capture.grads if index is not None}
        found: dict[int, int | None] = {}
        for a in capture.assignments:
            if a.output is not None and (a.leaf is None or a.leaf not in read):
                found[self._place[a.output]] = None if a.cell is None else cells.get(id(a.cell))
        return found

    def _targets(self) -> list[Any]:
        """Memory for what is assigned: that of what it replaces, where nothing else holds it, or new."""
        plan, backend = self.plan, self.backend
        aims = self._aims
        if aims is None or len(aims.cells) + len(aims.leaves) != len(plan.targets):
            aims = self._aims = self._aim()
        found: list[Any] = [cell._array for cell in aims.cells]
        for leaf, key in aims.leaves:
            grad = leaf.grad
            if grad is None or grad._key is not key or sys.getrefcount(grad) != _HELD_ONCE:
                found.append(None)
            else:
                found.append(grad._array)
            grad = None
        whole = backend.exclusive(found, aims.references)
        if not whole:
            for i, references in enumerate(aims.references):
                # One more reference: that of the list of one.
                if found[i] is not None and not backend.exclusive(found[i : i + 1], (references + 1,)):
                    found[i] = None
        # Whether they lie side by side is seen where they are used: asked here, it would cost as much again.
        for column in () if whole and not plan.scattered else aims.columns:
            if backend.joined([found[i] for i in column]) is None:
                for i, array in zip(column, plan.new_column([aims.outputs[i] for i in column]), strict=True):
                    found[i] = array
        for i, output in enumerate(aims.outputs):
            if found[i] is None:
                found[i] = plan.new_target(output)
        return [found[i] for i in aims.order]

    def _aim(self) -> _Aims:
        replaced = self._replaced()
        assigned = {self._place[a.output]: a for a in self.capture.assignments if a.output is not None}
        targets = self.plan.targets
        outputs = sorted(targets, key=lambda o: assigned[o].cell is None)
        place = {o: i for i, o in enumerate(outputs)}
        cells = [c for o in outputs if (c := assigned[o].cell) is not None]
        leaves = [(leaf, assigned[o].key) for o in outputs if (leaf := assigned[o].leaf) is not None]
        return _Aims(
            cells,
            leaves,
            outputs,
            # References: those of the tensor and of the list of these arrays, and that of the inputs where it is one;
            # an argument may be the same tensor.
            [2 + (replaced[o] is not None) for o in outputs],
            [place[o] for o in targets],
            [[place[targets[i]] for i in column] for column in self.plan.columns],
        )

    def _assign(self, arrays: Sequence[Any]) -> None:
        """Bind cells and gradients to what was computed."""
        quiet = unwatched()
        for a, place in self._bindings:
            array = None if place is None else arrays[place]
            cell, leaf = a.cell, a.leaf
            if cell is not None:
                if quiet and cell._key is a.key:
                    cell._array = array
                else:
                    assert a.key is not None
                    rebind(cell, array, a.key, cell._node if isinstance(a.key, Tracked) else None)
                continue
            assert leaf is not None
            held = leaf.grad
            # A gradient that was written over is held already.
            if not quiet or array is None or held is None or held._array is not array:
                set_grad(leaf, None if array is None else wrap(array, leaf.spec))

    def replay(
        self, leaves: Sequence[Any], fn: Callable[..., Any], times: list[Sequence[float]] | None = None
    ) -> Any:
        """Run the plan on the arguments and on what the cells hold now; bind what it assigns.

        Args:
            leaves: the arguments.
            fn: the function, for its name.
            times: where the seconds of each node are added, if they are wanted.
        """
        capture = self.capture
        inputs: list[Any] = [None] * len(self._inputs)
        tensors = (x for x in leaves if isinstance(x, TensorData))
        for place, x in zip(self._arguments, tensors, strict=True):
            inputs[place] = x._array
        with CELLS:
            for cell, place in self._cells:
                inputs[place] = cell._array
            for leaf, place in self._grads:
                inputs[place] = leaf.grad._array  # type: ignore[union-attr]
        for i, index in capture.argument_grads:
            if index is not None:
                inputs[self._inputs[index]] = leaves[i]._node.grad._array
        if times is None:
            arrays = self.plan.run(inputs, self._targets())
        else:
            arrays, seconds = self.plan.timed(inputs, self._targets())
            times.append(seconds)
        self._assign(arrays)
        if capture.argument_assignments:
            capture.bind_arguments(leaves, lambda output: arrays[self._place[output]])
        results = list(capture.leaves)
        for i, argument in capture.passed:
            results[i] = leaves[argument]
        for i, place, spec in self._results:
            results[i] = wrap(arrays[place], spec)
        if capture.followed:
            self._record(results, arrays[self._first :], fn, leaves, inputs)
        return results[0] if capture.structure.kind is None else tree.unflatten(capture.structure, results)

    def _record(
        self,
        results: list[Any],
        residuals: Sequence[Any],
        fn: Callable[..., Any],
        leaves: Sequence[Any],
        inputs: Sequence[Any],
    ) -> None:
        """Let gradients go through the results: one node, whose backward is a plan.

        Where that backward is to be differentiated too, the function runs anew, op by op, on what it read.
        """
        capture, plan = self.capture, self.pull_plan
        if capture.spent:
            if self._spent is None:
                self._spent = Function(
                    _name(fn), (), tuple(results[i].spec for i in capture.followed), _nothing
                )
                self._spent.saved = None
            self._attach(results, self._spent)
            return
        parents = tuple(
            leaves[capture.own[i]]._node if i in capture.own else p for i, p in enumerate(capture.parents)
        )
        specs = tuple(results[i].spec for i in capture.followed)
        name = _name(fn)

        def back(cts: Sequence[Any], create: bool) -> list[Any]:
            assert plan is not None
            arrays = iter(plan.run([*residuals, *(c._array for c in cts)]))
            found: list[Any] = [
                None if i is None else wrap(next(arrays), capture.graph.outputs[i].spec)
                for i in capture.gradients
            ]
            if create:
                targets = [*parents, *(c._node for c in cts)]
                _let_recorded(
                    f"backward of {name}",
                    found,
                    targets,
                    lambda: self._again(fn, leaves, inputs, parents, cts),
                )
            return found

        self._attach(results, Function(name, parents, specs, back))

    def _again(
        self,
        fn: Callable[..., Any],
        leaves: Sequence[Any],
        inputs: Sequence[Any],
        parents: Sequence[Origin | None],
        cts: Sequence[Any],
    ) -> list[Any]:
        """The cotangents of what was read from outside, recorded; what the function assigns is undone."""
        capture = self.capture
        tensors = [x for x in leaves if isinstance(x, TensorData)]
        known = {id(x): inputs[place] for x, place in zip(tensors, self._arguments, strict=True)}
        wanted = [p for p in parents if p is not None]
        with (
            changed(
                recording=True,
                autocast=self.modes.autocast,
                matmul_precision=self.modes.matmul_precision,
                fallback=self.modes.fallback,
            ),
            Journal() as journal,
        ):
            try:
                for cell, place in self._cells:
                    rebind(cell, inputs[place], cell._key, cell._node)
                for x in tensors:
                    rebind(x, known[id(x)], x._key, x._node)
                start = next(counter)
                args, kwargs = tree.unflatten(capture.taken, list(leaves))
                outs = tree.leaves(fn(*args, **kwargs))
                ends: list[Any] = [outs[i]._node if i < len(outs) else None for i in capture.followed]
                if any(e is None for e in ends) or not {*engine.entries(ends, start)} <= {*wanted}:
                    raise GradientError(
                        f"{_name(fn)}: run again for the derivative of its backward, the captured function gave other "
                        "results; what it reads of Python must stay as it was until then"
                    )
                seeds = list(zip((e for e in ends if e is not None), cts, strict=True))
                found = engine.run(seeds, wanted, create=True, since=start)
            finally:
                journal.undo()
        return [None if p is None else found.get(p) for p in parents]

    def _attach(self, results: list[Any], node: Function) -> None:
        followed = self.capture.followed
        for k, i in enumerate(followed):
            x = results[i]
            results[i] = wrap(x._array, x.spec, node if len(followed) == 1 else Slot(node, k))


def _let_recorded(
    name: str, found: list[Any], targets: Sequence[Origin | None], again: Callable[[], list[Any]]
) -> None:
    """Let gradients go through gradients that a plan gave: ``again`` gives those as they are recorded op by op."""
    places = [i for i, x in enumerate(found) if x is not None]

    def back(cts: Sequence[Any], create: bool) -> list[Any]:
        start = next(counter)
        first = again()
        seeds = [(first[i]._node, ct) for i, ct in zip(places, cts, strict=True) if first[i] is not None]
        seeds = [(end, ct) for end, ct in seeds if end is not None]
        wanted = [t for t in targets if t is not None]
        second = engine.run(seeds, wanted, create=create, retain=create, since=start)
        return [None if t is None else second.get(t) for t in targets]

    node = Function(name, tuple(targets), tuple(found[i].spec for i in places), back)
    for k, i in enumerate(places):
        found[i] = wrap(found[i]._array, found[i].spec, node if len(places) == 1 else Slot(node, k))


def _name(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__name__", "a captured function"))


def _nothing(_: Sequence[Any], __: bool) -> list[Any]:
    raise AssertionError("a backward that has run is freed")


def _count_of_one_holder() -> int:
    """What `sys.getrefcount` tells of an object that one attribute and a name here hold: Pythons differ in it."""
    holder = types.SimpleNamespace(value=object())
    held = holder.value
    return sys.getrefcount(held)


_HELD_ONCE: Final = _count_of_one_holder()
