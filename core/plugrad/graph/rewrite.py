"""`Rewriter`: a new graph made of another one, node by node. Passes are written with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugrad.graph.ir import Composed, Graph, Node, Operand, Value

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op


class Rewriter:
    """Copies a graph.

    Attributes:
        source: the graph that is copied.
        graph: the new one, with the same inputs.
    """

    def __init__(self, source: Graph) -> None:
        self.source = source
        self.graph = Graph()
        self._new: dict[Value, Value] = {v: self.graph.input(v.spec) for v in source.inputs}
        for value, array in source.constants.items():
            self._new[value] = self.graph.constant(array, value.spec)

    def value(self, old: Value) -> Value:
        """The new value in the place of an old one."""
        return self._new[old]

    def operand(self, old: Operand) -> Operand:
        """The new operand in the place of an old one."""
        if isinstance(old, Value):
            return self._new[old]
        return tuple(self._new[v] for v in old) if isinstance(old, tuple) else old

    def operands(self, node: Node) -> list[Operand]:
        """The new operands of a node."""
        return [self.operand(o) for o in node.operands]

    def copy(self, node: Node) -> None:
        """Add a node like ``node``."""
        self.replace(
            node, self.add(node.op, self.operands(node), node.attributes, specs_of(node.form), node.line)
        )

    def add(
        self,
        op: Op[..., Any] | Composed,
        operands: Sequence[Operand],
        attributes: Mapping[str, Any],
        results: Any,
        line: str = "",
    ) -> Any:
        """Add a node of the new graph; its values in the structure of ``results``."""
        return self.graph.add(op, operands, attributes, results, line)

    def replace(self, node: Node, form: Any) -> None:
        """Let new values, in the structure of the node's results, stand in the place of those."""
        for old, new in zip(values_of(node.form), values_of(form), strict=True):
            self.replace_value(old, new)

    def replace_value(self, old: Value, new: Value) -> None:
        """Let a new value stand in the place of an old one."""
        self._new[old] = new

    def finish(self) -> Graph:
        """The new graph, with the outputs of the old one."""
        self.graph.outputs = [self._new[v] for v in self.source.outputs]
        return self.graph


def values_of(form: Any) -> list[Value]:
    """The values in a structure, in order."""
    if isinstance(form, (tuple, list)):
        return [v for part in form for v in values_of(part)]
    return [] if form is None else [form]


def specs_of(form: Any) -> Any:
    """The structure with specs in the place of values."""
    if isinstance(form, (tuple, list)):
        return type(form)(specs_of(part) for part in form)
    return None if form is None else form.spec
