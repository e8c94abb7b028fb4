"""The graph: op applications in one list, in an order in which they can run, on values of one assignment each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugrad.dispatch.statement import Kind
from plugrad.dispatch.statement import Operand as Stated
from plugrad.dispatch.tracing import Symbol
from plugrad.spec import Device, Spec

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.backend.kernels import Kernel
    from plugrad.dispatch.modes import Modes
    from plugrad.dispatch.op import Op

Operand = Any
"""A `Value`, None for an absent operand, a Python number, or a tuple of values for a sequence."""


class Value(Symbol):
    """What a node computes, or an input. A tensor of a captured function holds one in the place of an array.

    Attributes:
        spec: its shape, dtype and device.
        graph: the graph that it belongs to.
        node: the node that computes it; None for an input.
        index: which of the node's results, or of the graph's inputs.
    """

    __slots__ = ("graph", "index", "node", "spec")

    def __init__(self, spec: Spec, graph: Graph, node: Node | None, index: int) -> None:
        self.spec = spec
        self.graph = graph
        self.node = node
        self.index = index

    def __repr__(self) -> str:
        where = f"input {self.index}" if self.node is None else f"{self.node.op.name}#{self.index}"
        return f"<value {where}: {self.spec}>"


class Node:
    """An application of an op.

    Attributes:
        op: the op, those of rules included; or a `Composed`.
        operands: in the op's order.
        attributes: the static attributes, in their normal form.
        results: its values, in one row.
        form: the structure of what a kernel gives: values, in tuples and lists where there are several.
        line: the user's line that applied it, or for a rule the op it belongs to; may be empty.
    """

    __slots__ = ("attributes", "form", "line", "op", "operands", "results")

    def __init__(
        self,
        op: Op[..., Any] | Composed,
        operands: Sequence[Operand],
        attributes: Mapping[str, Any],
        line: str = "",
    ) -> None:
        self.op: Any = op
        self.operands = tuple(operands)
        self.attributes = dict(attributes)
        self.results: tuple[Value, ...] = ()
        self.form: Any = None
        self.line = line

    def reads(self) -> Iterator[Value]:
        """The values that it reads, with repetitions."""
        for operand in self.operands:
            if isinstance(operand, Value):
                yield operand
            elif isinstance(operand, tuple):
                yield from operand

    def specs(self) -> list[Any]:
        """The specs of the operands, as `KernelTable.find` takes them."""
        return [_spec(o, self) for o in self.operands]

    @property
    def label(self) -> str:
        """What it is called in pictures and profiles: the op's name, or more."""
        return str(self.op.label if isinstance(self.op, Composed) else self.op.name)

    def __repr__(self) -> str:
        return f"<node {self.op.name}>"


def _spec(operand: Operand, node: Node) -> Any:
    if isinstance(operand, Value):
        return operand.spec
    if isinstance(operand, tuple):
        return tuple(v.spec for v in operand)
    if operand is None:
        return None
    # A Python number is weak: it has the dtype that the others are promoted to.
    other = next(v.spec for v in node.reads())
    return Spec((), other.dtype, other.device)


class Composed(ABC):
    """What a node applies, in the place of an op, that is made of nodes itself and brings the kernel that runs them.

    Attributes:
        graph: these nodes; a node that applies it reads and computes what the graph does.
        name: what it is called.
    """

    graph: Graph
    name: str
    kind = Kind.OTHER
    owner = None
    may_alias = False
    outputs: tuple[str, ...] = ()
    residuals: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What it is called in pictures and profiles."""
        return self.name

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What there is to know beside the graph: numbers, strings, tuples and dicts of these; see `made_of`."""

    @classmethod
    @abstractmethod
    def made_of(cls, graph: Graph, facts: Mapping[str, Any]) -> Composed:
        """Another one with these facts."""

    @property
    @abstractmethod
    def operands(self) -> tuple[Stated, ...]:
        """What it takes, as `Op.operands`."""

    @abstractmethod
    def kernel(self, backend: Backend, modes: Modes, replaced: Mapping[int, int | None]) -> Kernel:
        """What computes it.

        Args:
            backend: whose kernels run.
            modes: kernels are chosen by ``matmul_precision``.
            replaced: by the number of a result that may be written over an operand, that operand's.
        """


class Graph:
    """Nodes from inputs to outputs.

    Attributes:
        inputs: values without a node.
        nodes: each after those whose values it reads.
        outputs: the values that are wanted.
        constants: arrays by the values that stand for them.
    """

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.constants: dict[Value, Any] = {}
        self.nodes: list[Node] = []
        self.outputs: list[Value] = []

    @property
    def device(self) -> Device | None:
        """Where it runs; None for a graph that computes nothing."""
        return next((v.spec.device for n in self.nodes for v in n.results), None)

    def input(self, spec: Spec) -> Value:
        """A new input."""
        value = Value(spec, self, None, len(self.inputs))
        self.inputs.append(value)
        return value

    def constant(self, array: Any, spec: Spec) -> Value:
        """A value that is known."""
        value = Value(spec, self, None, -1)
        self.constants[value] = array
        return value

    def add(
        self,
        op: Op[..., Any] | Composed,
        operands: Sequence[Operand],
        attributes: Mapping[str, Any],
        results: Any,
        line: str = "",
    ) -> Any:
        """A new node at the end.

        Args:
            op: the op.
            operands: values of this graph, None, numbers, or tuples of values.
            attributes: the static attributes.
            results: the specs of the results: one, or tuples and lists of them.
            line: the user's line.

        Returns:
            The values, in the structure of ``results``.
        """
        node = Node(op, operands, attributes, line)
        row: list[Value] = []

        def made(spec: Any) -> Any:
            if spec is None:
                return None
            if isinstance(spec, (tuple, list)):
                return type(spec)(made(s) for s in spec)
            row.append(Value(spec, self, node, len(row)))
            return row[-1]

        node.form = made(results)
        node.results = tuple(row)
        self.nodes.append(node)
        return node.form

    @classmethod
    def of(
        cls,
        inputs: Sequence[Value],
        nodes: Sequence[Node],
        outputs: Sequence[Value],
        constants: Mapping[Value, Any] | None = None,
    ) -> Graph:
        """A graph of nodes that there are; what they read from elsewhere stands among ``inputs``."""
        graph = cls()
        graph.inputs, graph.nodes, graph.outputs = list(inputs), list(nodes), list(outputs)
        graph.constants = {} if constants is None else dict(constants)
        return graph

    def __len__(self) -> int:
        return len(self.nodes)

    def __str__(self) -> str:
        from plugrad.graph.printing import text

        return text(self)
