"""`Capture`: a function run once on symbols, and what came of it: a graph, and what its inputs and outputs are bound to.

What the function reads from outside, parameters, moments, a learning rate, a random counter, is an input *by
reference*: the tensor object, whose array is taken at each replay. What it assigns to such a tensor is an output into
it. So a whole training step is one graph. While the function runs, nothing outside changes for good: every tensor and
every gradient is bound back when it is through, also where it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugrad import tree
from plugrad.autograd import engine
from plugrad.dispatch.cells import Journal, rebind, set_grad
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.epoch import EPOCH
from plugrad.dispatch.record import Leaf, Node, Origin, Slot
from plugrad.dispatch.tracing import capture_error
from plugrad.graph.ir import Value
from plugrad.graph.reach import guarded_in
from plugrad.graph.trace import CELLS, Aliased, CaptureTrace, tracing_into
from plugrad.spec import Tracked

if TYPE_CHECKING:
    from plugrad.spec import Spec


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a replay binds: a cell, or the gradient of a leaf.

    Attributes:
        cell: the tensor; None where a gradient is set.
        leaf: the leaf whose gradient is set; None for a cell.
        key: what the cell is then, or the spec of the gradient.
        output: the index of the value among the graph's outputs; None lets go of a gradient.
    """

    cell: TensorData | None
    leaf: Leaf | None
    key: Spec | Tracked | None
    output: int | None


@dataclass(frozen=True, slots=True)
class ArgumentAssignment:
    """The same for an argument, which is another tensor at each call.

    Attributes:
        index: of the argument among the leaves.
        gradient: whether its gradient is set.
        key: what it is then, or the spec of the gradient.
        output: the index of the value among the graph's outputs; None lets go of a gradient.
    """

    index: int
    gradient: bool
    key: Spec | Tracked
    output: int | None


class Capture:
    """A function captured for one signature.

    Attributes:
        graph: what it computes. Its inputs are the tensors among the arguments, then cells, gradients and cotangents.
        arguments: which inputs the arguments are: their indices, in the order of the tensors among the leaves.
        cells: the tensors read by reference, each with the index of its input and the key that it must have.
        grads: the leaves whose gradient was read, each with the index of its input, or None where it had none.
        argument_grads: likewise for leaves that are arguments, by their index among the leaves.
        assignments: what a replay binds; ``argument_assignments`` likewise for arguments.
        assigns: whether it binds anything.
        taken: the structure of the arguments.
        structure, leaves: the result: indices of outputs for tensors, other objects as they are.
        tensors: which of ``leaves`` are such indices.
        passed: which of ``leaves`` are an argument itself, and the index of that.
        followed: which of ``leaves`` gradients go through.
        parents: the origins from outside that these lead to; ``own`` has the index of the argument for each that is
            one's.
    """

    def __init__(self, fn: Callable[..., Any], structure: tree.Structure, leaves: Sequence[Any]) -> None:
        self.taken = structure
        with CELLS:
            try:
                self._capture(fn, structure, leaves, by_reference=False)
            except Aliased:
                # Arguments enter as the tensors that they are, and must be those at each replay.
                self._capture(fn, structure, leaves, by_reference=True)

    def _capture(
        self, fn: Callable[..., Any], structure: tree.Structure, leaves: Sequence[Any], by_reference: bool
    ) -> None:
        given = [x for x in leaves if isinstance(x, TensorData)]
        trace = CaptureTrace(given, by_reference)
        self.graph = graph = trace.graph
        self.arguments = [trace.inputs[id(x)][1].index for x in given]
        self._places = {id(x): i for i, x in reversed(list(enumerate(leaves))) if isinstance(x, TensorData)}
        self._outputs: dict[Value, int] = {}
        for guarded in guarded_in(fn, leaves):
            trace.note(guarded)
        with tracing_into(trace) as journal:
            entered = [trace.entered[id(x)] if isinstance(x, TensorData) else x for x in leaves]
            args, kwargs = tree.unflatten(structure, entered)
            result = fn(*args, **kwargs)
            self._assign(trace, journal)
            outs, self.structure = tree.flatten(result)
            self._return(trace, outs)
            self._pull(trace, outs)
        self._bound = [
            (cell, cell._key, cell._node)
            for cell, _ in trace.cells.values()
            if by_reference or id(cell) not in self._places
        ]
        self.cells = [
            (cell, value.index, cell._key)
            for cell, value in trace.cells.values()
            if id(cell) not in self._places
        ]
        of_arguments = {x._node: i for i, x in enumerate(leaves) if isinstance(x, TensorData)}
        self.grads: list[tuple[Leaf, int | None]] = []
        self.argument_grads: list[tuple[int, int | None]] = []
        for leaf, held in trace.grads.items():
            index = trace.grad_values[leaf].index if held is not None else None
            if leaf in of_arguments:
                self.argument_grads.append((of_arguments[leaf], index))
            else:
                self.grads.append((leaf, index))
        graph.outputs = list(self._outputs)
        self.assigns = bool(self.assignments or self.argument_assignments)
        ids = [id(x) for x in given]
        self._same = ids if by_reference else None
        self._pattern = _pattern(ids)
        self._tensors = [i for i, x in enumerate(leaves) if isinstance(x, TensorData)]
        # Which of the arguments that need a gradient are leaves.
        self._tracked = [
            (i, isinstance(leaves[i]._node, Leaf)) for i in self._tensors if leaves[i]._node is not None
        ]
        self._cell_ids = {id(cell) for cell, *_ in self.cells}
        self._epoch = EPOCH.count
        self._guards = [(g, g.__guard__()) for g in trace.guarded.values()]

    def _output(self, value: Value) -> int:
        return self._outputs.setdefault(value, len(self._outputs))

    def _assign(self, trace: CaptureTrace, journal: Journal) -> None:
        self.assignments: list[Assignment] = []
        self.argument_assignments: list[ArgumentAssignment] = []
        places = {id(trace.entered[x]): i for x, i in self._places.items()}
        for cell, before in journal.rebound():
            if id(cell) not in places and isinstance(before, Value) and before.graph is trace.graph:
                continue  # the function's own
            value = trace.symbol_of(cell)
            if value is (before if isinstance(before, Value) else trace.cells.get(id(cell), (None, None))[1]):
                continue  # bound to what it was
            if cell._node is not None and not isinstance(cell._node, Leaf):
                raise capture_error(
                    "a tensor from outside is assigned a value that needs a gradient in a captured function: detach it, "
                    "or return it"
                )
            place, output = places.get(id(cell)), self._output(value)
            if place is None:
                self.assignments.append(Assignment(cell, None, cell._key, output))
            else:
                self.argument_assignments.append(ArgumentAssignment(place, False, cell._key, output))
        of_arguments = {
            x._node: self._places[i] for i, (x, _) in trace.inputs.items() if isinstance(x._node, Leaf)
        }
        changed = [leaf for leaf in journal.leaves() if leaf.seq < trace.since]
        changed += [
            leaf
            for leaf, symbolic in trace.symbolic_grads.items()
            if not journal.regraded(leaf) and symbolic._array is not trace.grad_values[leaf]
        ]
        for leaf in changed:
            held = leaf.grad if journal.regraded(leaf) else trace.symbolic_grads[leaf]
            index = None if held is None else self._output(trace.symbol_of(held))
            if leaf in of_arguments:
                self.argument_assignments.append(
                    ArgumentAssignment(of_arguments[leaf], True, leaf.spec, index)
                )
            else:
                self.assignments.append(Assignment(None, leaf, leaf.spec, index))

    def _return(self, trace: CaptureTrace, outs: list[Any]) -> None:
        """Take apart what the function returned; ``outs`` are its leaves."""
        places = {id(trace.entered[x]): i for x, i in self._places.items()}
        self.leaves: list[Any] = []
        self.tensors: list[int] = []
        self.passed: list[tuple[int, int]] = []
        self.specs: list[Spec | None] = []
        for i, o in enumerate(outs):
            self.specs.append(None)
            if not isinstance(o, TensorData):
                _check_result(o)
            elif id(o) in places:
                self.passed.append((i, places[id(o)]))
            elif not trace.outside(o):
                if o._node is not None and engine.made(o._node) < trace.since:
                    o = outs[i] = engine.alias(o)  # type: ignore[arg-type]
                self.tensors.append(i)
                self.specs[i] = o.spec
                o = self._output(trace.symbol_of(o))
            self.leaves.append(o)

    def _pull(self, trace: CaptureTrace, outs: Sequence[Any]) -> None:
        """Capture the backward of the results that are recorded."""
        self.followed = [i for i in self.tensors if outs[i]._node is not None]
        self.forward_nodes = len(self.graph.nodes)
        self.cotangents: list[int] = []
        self.gradients: list[int | None] = []
        self.parents: list[Origin] = []
        self.own: dict[int, int] = {}
        self.spent = False
        if not self.followed:
            return
        origins = [outs[i]._node for i in self.followed]
        nodes = [o.node if isinstance(o, Slot) else o for o in origins]
        if any(isinstance(n, Node) and n.saved is None for n in nodes):
            self.spent = True  # a loss whose backward has run
            return
        own = {x._node: self._places[i] for i, (x, _) in trace.inputs.items() if x._node is not None}
        self.parents = engine.entries(origins, trace.since)
        self.own = {i: own[p] for i, p in enumerate(self.parents) if p in own}
        cts = []
        for i in self.followed:
            value = self.graph.input(outs[i].spec)
            self.cotangents.append(value.index)
            cts.append(wrap(value, outs[i].spec))
        found = engine.run(list(zip(origins, cts, strict=True)), self.parents, since=trace.since)
        for parent in self.parents:
            gradient = found.get(parent)
            self.gradients.append(None if gradient is None else self._output(trace.symbol_of(gradient)))

    def holds(self, leaves: Sequence[Any]) -> bool:
        """Whether what the function read from outside, and who the arguments are, is still of the kind that it was."""
        if self._epoch != EPOCH.count:
            if any(g.__guard__() != before for g, before in self._guards):
                return False
            self._epoch = EPOCH.count
        for cell, key, node in self._bound:
            if cell._key is not key or cell._node is not node:
                return False
        for leaf, index in self.grads:
            if (leaf.grad is None) is not (index is None):
                return False
        for i, was_leaf in self._tracked:
            if isinstance(leaves[i]._node, Leaf) is not was_leaf:
                return False
        for i, index in self.argument_grads:
            if (leaves[i]._node.grad is None) is not (index is None):
                return False
        ids = [id(leaves[i]) for i in self._tensors]
        if self._same is not None:
            return ids == self._same
        return self._cell_ids.isdisjoint(ids) and _pattern(ids) == self._pattern

    def bind_arguments(self, leaves: Sequence[Any], array_of: Callable[[int], Any]) -> None:
        """Bind what the function assigned to its arguments; ``array_of`` gives the array of an output."""
        for a in self.argument_assignments:
            x, array = leaves[a.index], None if a.output is None else array_of(a.output)
            if a.gradient:
                set_grad(x._node, None if array is None else wrap(array, a.key.spec))
            else:
                rebind(x, array, a.key, x._node if isinstance(a.key, Tracked) else None)


def _pattern(ids: list[int]) -> list[int] | None:
    """Which of the objects are the same; None where all differ."""
    return None if len(set(ids)) == len(ids) else [ids.index(i) for i in ids]


def _check_result(leaf: Any) -> None:
    """Raise for an object in a result that holds tensors which would be symbols for good."""
    if isinstance(leaf, Iterator):
        raise capture_error(
            f"a captured function returns {type(leaf).__name__}, which would be used up once: return a list"
        )
    inside = leaf if isinstance(leaf, (set, frozenset)) else getattr(leaf, "__dict__", {}).values()
    if any(isinstance(x, TensorData) and isinstance(x._array, Value) for x in inside):
        raise capture_error(
            f"a captured function returns an object of type {type(leaf).__name__} with tensors inside: return them in lists, "
            "tuples or dicts, or make the class a container with plugrad.tree.register_container"
        )
