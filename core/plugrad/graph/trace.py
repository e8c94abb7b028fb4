"""`CaptureTrace`: a function that is captured, while it runs: its graph so far, and what stands for what from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.anomaly import line_of_backward, user_line
from plugrad.dispatch.cells import Journal
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.epoch import Guarded, Settable, alike
from plugrad.dispatch.modes import changed
from plugrad.dispatch.record import Leaf, counter
from plugrad.dispatch.tracing import capture_error
from plugrad.dispatch.tracing import local as tracing
from plugrad.errors import CaptureError
from plugrad.graph.ir import Graph, Value

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op
    from plugrad.dispatch.record import Origin
    from plugrad.spec import Spec, Tracked
    from plugrad.tensor import Tensor

CELLS: Final = threading.RLock()
"""Held while a function is captured, as what it assigns holds symbols meanwhile, and while a replay reads cells."""


class Aliased(BaseException):
    """An argument is a tensor that the function reads from outside too. No ``except Exception`` must take it."""


class CaptureTrace:
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
        """What stands for the value of a tensor; one from outside becomes an input by reference."""
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
                raise Aliased
            found = self.cells[id(tensor)] = tensor, self.graph.input(tensor.spec)
        return found[1]

    def array_of(self, tensor: TensorData) -> Any:
        """The array of a tensor, or the symbol that it is bound to in this trace."""
        found = self.bound.get(id(tensor))
        return tensor._array if found is None else found[1]

    def bind(self, tensor: TensorData, array: Any, key: Spec | Tracked, node: Origin | None) -> bool:
        """Bind a tensor from outside in this trace alone; whether that was possible."""
        if isinstance(tensor._array, Value) or key is not tensor._key or node is not tensor._node:
            self.bound.pop(id(tensor), None)
            return False
        self.bound[id(tensor)] = tensor, array
        return True

    def enter(self, tensor: TensorData) -> TensorData:
        """A tensor of the same value that holds its symbol."""
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
        """Add a node; its values in the structure of ``results``."""
        operands = [tuple(a) if isinstance(a, list) else a for a in arrays]
        return self.graph.add(op, operands, attributes, results, line_of_backward() or user_line())

    def note(self, guarded: Guarded) -> None:
        """A guarded object is read."""
        self.guarded[id(guarded)] = guarded

    def made(self, guarded: Settable) -> None:
        """An object is made inside: what the function does with it is its own."""
        self.own[id(guarded)] = guarded

    def setting(self, guarded: Settable, name: str) -> None:
        """An attribute is about to be set: remember what it was, and the line."""
        if id(guarded) in self.own:
            return
        if (id(guarded), name) not in self.settings:
            before, undo = guarded.__attribute__(name)
            self.settings[id(guarded), name] = guarded, name, before, undo, user_line()

    def grad_of(self, leaf: Leaf) -> Tensor | None:
        """The gradient that a leaf holds at this point."""
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
def tracing_into(trace: CaptureTrace) -> Iterator[Journal]:
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
