"""What depends on no input is computed once, by the plan's own device, when the plan is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from plugrad.backend.null import Nothing
from plugrad.dispatch.lowering import flatten, with_modes
from plugrad.graph.ir import Graph, Node, Operand, Value
from plugrad.graph.passes.dead_code import dead_code
from plugrad.graph.rewrite import Rewriter

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.modes import Modes

LIMIT: Final = 65536
"""Bytes of the results of a node up to which it is computed beforehand: a plan keeps its constants."""


def constants(graph: Graph, backend: Backend, modes: Modes, limit: int = LIMIT) -> Graph:
    """The graph with constants in the place of nodes whose operands are constants, or that have none.

    A node that the device has no kernel for stays, and one whose kernel raises: it raises when it is run, as in
    eager mode. So does one whose results leave the plan: an output is an array of its own at each replay.

    Args:
        graph: a graph, lowered.
        backend: whose kernels compute.
        modes: kernels are chosen by ``matmul_precision``.
        limit: bytes of the results of a node up to which it is computed.
    """
    leaving = _leaving(graph)
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        arrays = None
        if leaving.isdisjoint(node.results) and sum(v.spec.nbytes for v in node.results) <= limit:
            arrays = _computed(node, rewriter, backend, modes)
        if arrays is None:
            rewriter.copy(node)
        else:
            known = [rewriter.graph.constant(a, v.spec) for a, v in zip(arrays, node.results, strict=True)]
            rewriter.replace(node, known)
    return dead_code(rewriter.finish())


def _leaving(graph: Graph) -> set[Value]:
    """The values whose memory an output is by its statement: the outputs, and what they may be views of.

    A rule's kernel may give its operand back too; that is rare, and a plan writes into nothing that it holds itself.
    """
    leaving = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.op.may_alias and node.op.owner is None and not leaving.isdisjoint(node.results):
            leaving.update(node.reads())
    return leaving


def _computed(node: Node, rewriter: Rewriter, backend: Backend, modes: Modes) -> list[Any] | None:
    operands = rewriter.operands(node)
    known = rewriter.graph.constants
    read = [v for o in operands for v in (o if isinstance(o, tuple) else (o,)) if isinstance(v, Value)]
    if any(v not in known for v in read):
        return None
    kernel = backend.kernels.find(node.op, node.specs(), with_modes(node.attributes, modes))
    if kernel is None:
        return None

    def array(operand: Operand) -> Any:
        if isinstance(operand, tuple):
            return [known[v] for v in operand]
        return known[operand] if isinstance(operand, Value) else operand

    try:
        given = kernel.function(*map(array, operands), **node.attributes)
    except Exception:
        return None
    if isinstance(given, Nothing):
        return [given] * len(node.results)
    return [a for a in flatten((given,)) if a is not None]
