"""`Capture`: a function run once on symbols, and what came of it: a graph, and what its inputs and outputs are bound to.

What the function reads from outside, parameters, moments, a learning rate, a random counter, is an input *by
reference*: the tensor object, whose array is taken at each replay. What it assigns to such a tensor is an output into
it. So a whole training step is one graph. While the function runs, nothing outside changes for good: every tensor and
every gradient is bound back when it is through, also where it fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plugrad import tree
from plugrad.autograd import engine
from plugrad.dispatch.anomaly import line_of_backward, user_line
from plugrad.dispatch.cells import Journal, rebind, set_grad
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.epoch import EPOCH, Guarded, Settable, alike
from plugrad.dispatch.modes import changed
from plugrad.dispatch.record import Leaf, Node, Origin, Slot, counter
from plugrad.dispatch.tracing import capture_error
from plugrad.dispatch.tracing import local as tracing
from plugrad.errors import CaptureError
from plugrad.graph.ir import Graph, Value
from plugrad.graph.reach import guarded_in
from plugrad.spec import Tracked

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op
    from plugrad.spec import Spec
    from plugrad.tensor import Tensor


CELLS: Final = threading.RLock()
"""Held while a function is captured, as what it assigns holds symbols meanwhile, and while a replay reads cells."""


class _Aliased(BaseException):
    """An argument is a tensor that the function reads from outside too. No ``except Exception`` must take it."""


class _Trace:
    """A capture on its way; see `plugrad.dispatch.tracing.Trace`."""

    def __init__(self, arguments: Sequence[TensorData], by_reference: bool) -> None:
        self.graph = Graph()
        # Arguments by identity, in the order of the inputs that they are, and the tensors that stand for them inside.
        self.inputs: dict[int, tuple[TensorData, Value]] = {}
        self.entered: dict[int, TensorData] = {}
        # Tensors from outside, by identity; holding them keeps the identities theirs.
        self.cells: dict[int, tuple[TensorData, Value]] = {}
        # What those that are assigned are bound to, by identity.
        self.bound: dict[int, tuple[TensorData, Any]] = {}
        for x in arguments:
            if id(x) in self.inputs:
                continue
            value = self.graph.input(x.spec)
            self.inputs[id(x)] = x, value
            if by_reference:
                self.cells[id(x)] = x, value
            self.entered[id(x)] = x if by_reference else wrap(value, x.spec, x._node)
        self._by_reference = by_reference
        self.grads: dict[Leaf, Tensor | None] = {}
        self.grad_values: dict[Leaf, Value] = {}
        self.symbolic_grads: dict[Leaf, Tensor] = {}
        self.guarded: dict[int, Guarded] = {}
        # Objects that the function made; holding them keeps the identities theirs.
        self.own: dict[int, Settable] = {}
        # What attributes of guarded objects were, by object and name, and the line that set them first.
        self.settings: dict[tuple[int, str], tuple[Settable, str, Any, Callable[[], None], str]] = {}
        self.journal = Journal()
        self.since = next(counter)

    def symbol_of(self, tensor: TensorData) -> Value:
        array = self.array_of(tensor)
        if isinstance(array, Value):
            if array.graph is not self.graph:
                raise capture_error(
                    "a tensor of another captured function is used, where it has no value: return it from there"
                )
            return array
        found = self.cells.get(id(tensor))
        if found is None:
            if id(tensor) in self.inputs:
                raise _Aliased
            found = self.cells[id(tensor)] = tensor, self.graph.input(tensor.spec)
        return found[1]

    def array_of(self, tensor: TensorData) -> Any:
        found = self.bound.get(id(tensor))
        return tensor._array if found is None else found[1]

    def bind(self, tensor: TensorData, array: Any, key: Spec | Tracked, node: Origin | None) -> bool:
        if isinstance(tensor._array, Value) or key is not tensor._key or node is not tensor._node:
            self.bound.pop(id(tensor), None)
            return False
        self.bound[id(tensor)] = tensor, array
        return True

    def enter(self, tensor: TensorData) -> TensorData:
        if isinstance(tensor._array, Value) and tensor._array.graph is self.graph:
            return tensor
        return wrap(self.symbol_of(tensor), tensor.spec, tensor._node)

    def outside(self, tensor: TensorData) -> bool:
        """Whether a tensor was there before, an argument included."""
        held = self.journal.array_before(tensor)
        if not isinstance(held, Value) or held.graph is not self.graph:
            return True
        return any(tensor is x for x in self.entered.values())

    def apply(
        self, op: Op[..., Any], arrays: Sequence[Any], attributes: Mapping[str, Any], results: Any
    ) -> Any:
        operands = [tuple(a) if isinstance(a, list) else a for a in arrays]
        return self.graph.add(op, operands, attributes, results, line_of_backward() or user_line())

    def note(self, guarded: Guarded) -> None:
        self.guarded[id(guarded)] = guarded

    def made(self, guarded: Settable) -> None:
        self.own[id(guarded)] = guarded

    def setting(self, guarded: Settable, name: str) -> None:
        if id(guarded) in self.own:
            return
        if (id(guarded), name) not in self.settings:
            before, undo = guarded.__attribute__(name)
            self.settings[id(guarded), name] = guarded, name, before, undo, user_line()

    def grad_of(self, leaf: Leaf) -> Tensor | None:
        held = leaf.grad
        if self.journal.regraded(leaf) or leaf.seq >= self.since:
            return held
        if leaf not in self.grads:
            self.grads[leaf] = held
        if held is None:
            return None
        if leaf not in self.symbolic_grads:
            value = self.grad_values[leaf] = self.graph.input(held.spec)
            self.symbolic_grads[leaf] = wrap(value, held.spec)
        return self.symbolic_grads[leaf]

    def restore(self) -> str | None:
        """Set attributes of guarded objects back; what is wrong, if one had not been set back by the function."""
        wrong = None
        for guarded, name, before, undo, line in self.settings.values():
            if not alike(guarded.__attribute__(name)[0], before):
                undo()
                wrong = wrong or (
                    f"{type(guarded).__name__}.{name} is set inside a captured function, where it would be set once and "
                    f"not at each call, at {line}; return the value, keep it in a buffer and assign that "
                    f"(self.{name}.assign(value)), or set it outside"
                )
        return wrong


@contextmanager
def _tracing(trace: _Trace) -> Iterator[Journal]:
    """Capture into ``trace`` while the block runs, and bind everything back after it."""
    tracing.trace = trace
    wrong = None
    try:
        with trace.journal, changed(capturing=True):
            yield trace.journal
    finally:
        tracing.trace = None
        trace.journal.undo(but=trace.bound)
        wrong = trace.restore()
    if wrong is not None:
        raise CaptureError(wrong)


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
        structure, leaves: the result: indices of outputs for tensors, other objects as they are.
        tensors: which of ``leaves`` are such indices.
        passed: which of ``leaves`` are an argument itself, and the index of that.
        followed: which of ``leaves`` gradients go through.
        parents: the origins from outside that these lead to; ``own`` has the index of the argument for each that is
            one's.
    """

    def __init__(self, fn: Callable[..., Any], structure: tree.Structure, leaves: Sequence[Any]) -> None:
        with CELLS:
            try:
                self._capture(fn, structure, leaves, by_reference=False)
            except _Aliased:
                # Arguments enter as the tensors that they are, and must be those at each replay.
                self._capture(fn, structure, leaves, by_reference=True)

    def _capture(
        self, fn: Callable[..., Any], structure: tree.Structure, leaves: Sequence[Any], by_reference: bool
    ) -> None:
        given = [x for x in leaves if isinstance(x, TensorData)]
        trace = _Trace(given, by_reference)
        self.graph = graph = trace.graph
        self.arguments = [trace.inputs[id(x)][1].index for x in given]
        self._places = {id(x): i for i, x in reversed(list(enumerate(leaves))) if isinstance(x, TensorData)}
        self._outputs: dict[Value, int] = {}
        for guarded in guarded_in(fn, leaves):
            trace.note(guarded)
        with _tracing(trace) as journal:
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
        self._same = [id(x) for x in given] if by_reference else None
        self._pattern = _pattern(given)
        self._cell_ids = {id(cell) for cell, *_ in self.cells}
        self._epoch = EPOCH.count
        self._guards = [(g, g.__guard__()) for g in trace.guarded.values()]

    def _output(self, value: Value) -> int:
        return self._outputs.setdefault(value, len(self._outputs))

    def _assign(self, trace: _Trace, journal: Journal) -> None:
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

    def _return(self, trace: _Trace, outs: list[Any]) -> None:
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

    def _pull(self, trace: _Trace, outs: Sequence[Any]) -> None:
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
        tensors = [x for x in leaves if isinstance(x, TensorData)]
        if self._same is not None:
            if [id(x) for x in tensors] != self._same:
                return False
        elif not self._cell_ids.isdisjoint(map(id, tensors)) or _pattern(tensors) != self._pattern:
            return False
        return all((leaves[i]._node.grad is None) is (index is None) for i, index in self.argument_grads)

    def bind_arguments(self, leaves: Sequence[Any], array_of: Callable[[int], Any]) -> None:
        """Bind what the function assigned to its arguments; ``array_of`` gives the array of an output."""
        for a in self.argument_assignments:
            x, array = leaves[a.index], None if a.output is None else array_of(a.output)
            if a.gradient:
                set_grad(x._node, None if array is None else wrap(array, a.key.spec))
            else:
                rebind(x, array, a.key, x._node if isinstance(a.key, Tracked) else None)


def _pattern(tensors: Sequence[TensorData]) -> list[tuple[int, bool]]:
    """Which of the tensors are the same object, and which are leaves."""
    first: dict[int, int] = {}
    return [(first.setdefault(id(x), i), isinstance(x._node, Leaf)) for i, x in enumerate(tensors)]


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
