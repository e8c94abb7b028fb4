"""`Epilogue`: an op and the elementwise ops that follow it, run by a kernel that computes both.

The activation, mask or residual after a product is applied to each block of the result while that lies in a cache, or in
registers, instead of being read back from memory by a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from plugrad.backend.kernels import Kernel
from plugrad.dispatch.lowering import with_modes
from plugrad.dispatch.statement import Operand
from plugrad.errors import UnsupportedOp
from plugrad.graph.ir import Composed, Graph, Value

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.modes import Modes


@dataclass(eq=False)
class Epilogue(Composed):
    """What a node applies that stands for a *head* and its *tail*.

    Attributes:
        graph: the head, then the tail: elementwise nodes on values of the shape of the head's first result, or that
            broadcast to it. Its outputs are those of the tail, then all further results of the head.
    """

    graph: Graph
    _made: tuple[Backend, Modes, Kernel] | None = field(default=None, init=False, repr=False)

    name = "epilogue"

    def facts(self) -> dict[str, Any]:
        """Nothing that the graph does not say."""
        return {}

    @classmethod
    def made_of(cls, graph: Graph, facts: Mapping[str, Any]) -> Epilogue:
        """An epilogue of this graph."""
        del facts
        return cls(graph)

    @property
    def label(self) -> str:
        """The names of the ops: ``linear + relu``."""
        return " + ".join(n.op.name for n in self.graph.nodes)

    @property
    def operands(self) -> tuple[Operand, ...]:
        """An operand for each input."""
        return tuple(Operand(str(i)) for i in range(len(self.graph.inputs)))

    def tail(self) -> tuple[Graph, list[Value]]:
        """The tail as a graph of its own, whose first input is the head's first result, and what its other inputs are here."""
        head, *rest = self.graph.nodes
        tail = Graph()
        values: dict[Value, Value] = {head.results[0]: tail.input(head.results[0].spec)}
        others: list[Value] = []

        def inside(operand: Any) -> Any:
            if not isinstance(operand, Value):
                return operand
            if operand not in values:
                values[operand] = tail.input(operand.spec)
                others.append(operand)
            return values[operand]

        for node in rest:
            made = tail.add(
                node.op, [inside(o) for o in node.operands], node.attributes, node.results[0].spec, node.line
            )
            values[node.results[0]] = made
        tail.outputs = [values[v] for v in self.graph.outputs if v not in head.results[1:]]
        return tail, others

    def kernel(self, backend: Backend, modes: Modes, replaced: Mapping[int, int | None]) -> Kernel:
        """What computes it.

        Raises:
            UnsupportedOp: if the backend's kernel of the head computes no such tail.
        """
        del replaced
        # Made once: where it is made, a device may write and compile the source of a kernel.
        if self._made is None or self._made[:2] != (backend, modes):
            self._made = backend, modes, self._kernel(backend, modes)
        return self._made[2]

    def _kernel(self, backend: Backend, modes: Modes) -> Kernel:
        head = self.graph.nodes[0]
        found = backend.kernels.find(head.op, head.specs(), with_modes(head.attributes, modes))
        tail, others = self.tail()
        made = None if found is None or found.epilogue is None else found.epilogue(tail)
        if found is None or made is None:
            raise UnsupportedOp(
                f"{head.op.name}: the device has no kernel that computes {self.label} at once"
            )
        places = {v: i for i, v in enumerate(self.graph.inputs)}
        given = [*head.operands, *others]
        if given == self.graph.inputs:
            return Kernel(partial(made, **head.attributes), spreads=found.spreads)

        def run(*arrays: Any, into: Any = None) -> Any:
            def array(operand: Any) -> Any:
                if isinstance(operand, tuple):
                    return [array(v) for v in operand]
                return arrays[places[operand]] if isinstance(operand, Value) else operand

            return made(*[array(o) for o in given], into=into, **head.attributes)

        return Kernel(run, spreads=found.spreads)
