"""`Capture`: a function run once on symbols, and what came of it: a graph, and what its inputs and outputs are bound to.

What the function reads from outside, parameters, moments, a learning rate, a random counter, is an input *by
reference*: the tensor object, whose array is taken at each replay. What it assigns to such a tensor is an output into
it. So a whole training step is one graph. While the function runs, nothing outside changes for good: every tensor and
every gradient is bound back when it is through, also where it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugrad import tree
from plugrad.autograd import engine
from plugrad.dispatch.anomaly import line_of_backward, user_line
from plugrad.dispatch.cells import Journal
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.epoch import EPOCH, Guarded
from plugrad.dispatch.modes import changed, local
from plugrad.dispatch.record import Leaf, Node, Origin, Slot, counter
from plugrad.dispatch.tracing import local as tracing
from plugrad.errors import CaptureError
from plugrad.graph.ir import Graph, Value

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op
    from plugrad.spec import Spec, Tracked
    from plugrad.tensor import Tensor


class _Trace:
    """A capture on its way; see `plugrad.dispatch.tracing.Trace`."""

    def __init__(self) -> None:
        self.graph = Graph()
        # Tensors from outside, by identity; holding them keeps the identities theirs.
        self.cells: dict[int, tuple[TensorData, Value]] = {}
        self.grads: dict[Leaf, Tensor | None] = {}
        self.grad_values: dict[Leaf, Value] = {}
        self._symbolic_grads: dict[Leaf, Tensor] = {}
        self.guarded: dict[int, Guarded] = {}
        self.journal = Journal()

    def symbol_of(self, tensor: TensorData) -> Value:
        array = tensor._array
        if isinstance(array, Value):
            if array.graph is not self.graph:
                raise CaptureError(
                    "a tensor of another captured function is used, where it has no value: return it from there"
                )
            return array
        found = self.cells.get(id(tensor))
        if found is None:
            found = self.cells[id(tensor)] = tensor, self.graph.input(tensor.spec)
        return found[1]

    def enter(self, tensor: TensorData) -> TensorData:
        if isinstance(tensor._array, Value) and tensor._array.graph is self.graph:
            return tensor
        return wrap(self.symbol_of(tensor), tensor.spec, tensor._node)

    def apply(
        self, op: Op[..., Any], arrays: Sequence[Any], attributes: Mapping[str, Any], results: Any
    ) -> Any:
        operands = [tuple(a) if isinstance(a, list) else a for a in arrays]
        return self.graph.add(op, operands, attributes, results, line_of_backward() or user_line())

    def note(self, guarded: Guarded) -> None:
        self.guarded[id(guarded)] = guarded

    def grad_of(self, leaf: Leaf) -> Tensor | None:
        held = leaf.grad
        if self.journal.regraded(leaf):
            return held
        if leaf not in self.grads:
            self.grads[leaf] = held
        if held is None:
            return None
        if leaf not in self._symbolic_grads:
            value = self.grad_values[leaf] = self.graph.input(held.spec)
            self._symbolic_grads[leaf] = wrap(value, held.spec)
        return self._symbolic_grads[leaf]


@contextmanager
def _tracing(trace: _Trace) -> Iterator[Journal]:
    """Capture into ``trace`` while the block runs, and bind everything back after it."""
    tracing.trace = trace
    try:
        with trace.journal, changed(capturing=True):
            yield trace.journal
    finally:
        tracing.trace = None
        trace.journal.undo()


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


class Capture:
    """A function captured for one signature.

    Attributes:
        graph: what it computes. Its inputs are the tensors among the arguments, then cells, gradients and cotangents.
        arguments: which inputs the arguments are: their indices, in the order of the tensors among the leaves.
        cells: the tensors read by reference, each with the index of its input and the key that it must have.
        grads: the leaves whose gradient was read, each with the index of its input, or None where it had none.
        assignments: what a replay binds.
        structure, leaves: the result: indices of outputs for tensors, other objects as they are.
        pulled: for a result that gradients go through, how; None where none does.
    """

    def __init__(self, fn: Callable[..., Any], structure: tree.Structure, leaves: Sequence[Any]) -> None:
        trace = _Trace()
        self.graph = graph = trace.graph
        self.arguments: list[int] = []
        self._outputs: dict[Value, int] = {}
        entered: list[Any] = []
        self.parents: list[Origin] = []
        own: dict[Origin, int] = {}
        for i, leaf in enumerate(leaves):
            if not isinstance(leaf, TensorData):
                entered.append(leaf)
                continue
            value = graph.input(leaf.spec)
            self.arguments.append(value.index)
            node = Leaf(leaf.spec) if leaf._node is not None and local.modes.recording else None
            if node is not None:
                own[node] = i
            entered.append(wrap(value, leaf.spec, node))
        since = next(counter)
        with _tracing(trace) as journal:
            args, kwargs = tree.unflatten(structure, entered)
            result = fn(*args, **kwargs)
            self._assign(trace, journal)
            outs, self.structure = tree.flatten(result)
            self.leaves = [self._output(trace.symbol_of(o)) if isinstance(o, TensorData) else o for o in outs]
            self.tensors = [i for i, o in enumerate(outs) if isinstance(o, TensorData)]
            self.specs = [o.spec if isinstance(o, TensorData) else None for o in outs]
            self._pull(trace, outs, since, own)
        self.cells = [(cell, value.index, cell._key) for cell, value in trace.cells.values()]
        self.grads = [
            (leaf, trace.grad_values[leaf].index if held is not None else None)
            for leaf, held in trace.grads.items()
        ]
        graph.outputs = list(self._outputs)
        self._epoch = EPOCH.count
        self._guards = [(g, g.__guard__()) for g in trace.guarded.values()]

    def _output(self, value: Value) -> int:
        return self._outputs.setdefault(value, len(self._outputs))

    def _assign(self, trace: _Trace, journal: Journal) -> None:
        self.assignments: list[Assignment] = []
        for cell in journal.cells():
            value = trace.symbol_of(cell)
            if value.node is None and trace.cells.get(id(cell), (None, None))[1] is value:
                continue  # bound to what it was
            self.assignments.append(Assignment(cell, None, cell._key, self._output(value)))
            if cell._node is not None and not isinstance(cell._node, Leaf):
                raise CaptureError(
                    "a tensor from outside is assigned a value that needs a gradient: detach it, or return it"
                )
        for leaf in journal.leaves():
            held = leaf.grad
            index = None if held is None else self._output(trace.symbol_of(held))
            self.assignments.append(Assignment(None, leaf, leaf.spec, index))

    def _pull(self, trace: _Trace, outs: Sequence[Any], since: int, own: Mapping[Origin, int]) -> None:
        """Capture the backward of the results that are recorded."""
        self.followed = [
            i
            for i, o in enumerate(outs)
            if isinstance(o, TensorData) and o._node is not None and engine.made(o._node) >= since
        ]
        self.forward_nodes = len(self.graph.nodes)
        self.cotangents: list[int] = []
        self.gradients: list[int | None] = []
        self.parents = []
        self.own = {}
        self.spent = False
        if not self.followed:
            return
        origins = [outs[i]._node for i in self.followed]
        nodes = [o.node if isinstance(o, Slot) else o for o in origins]
        if any(isinstance(n, Node) and n.saved is None for n in nodes):
            self.spent = True  # a loss whose backward has run
            return
        self.parents = engine.entries(origins, since)
        self.own = {i: own[p] for i, p in enumerate(self.parents) if p in own}
        cts = []
        for i in self.followed:
            value = self.graph.input(outs[i].spec)
            self.cotangents.append(value.index)
            cts.append(wrap(value, outs[i].spec))
        found = engine.run(list(zip(origins, cts, strict=True)), self.parents, since=since)
        for parent in self.parents:
            gradient = found.get(parent)
            self.gradients.append(None if gradient is None else self._output(trace.symbol_of(gradient)))

    def holds(self) -> bool:
        """Whether what the function read from outside is still of the kind that it was."""
        if self._epoch != EPOCH.count:
            if any(g.__guard__() != before for g, before in self._guards):
                return False
            self._epoch = EPOCH.count
        for cell, _, key in self.cells:
            if cell._key is not key:
                return False
        return all((leaf.grad is not None) == (index is not None) for leaf, index in self.grads)
