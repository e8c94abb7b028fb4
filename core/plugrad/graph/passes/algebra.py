"""Identities that hold for every value, bit for bit: NaN, infinities, -0 and subnormal numbers included.

``x + 0`` is none of them (-0 + 0 is 0), nor a sum over no axes (which starts from 0), nor ``x * 0``, nor another
order of a sum. A NaN stays a NaN; its
sign and payload, which IEEE 754 leaves open, are not held to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.graph.ir import Graph, Node, Operand, Value
from plugrad.graph.passes.dead_code import dead_code
from plugrad.graph.rewrite import Rewriter

Rule = Callable[[Rewriter, Node, Sequence[Operand]], Value | None]
"""From a node and its new operands, the value that stands in the place of its result, or None."""


def algebra(graph: Graph) -> Graph:
    """The graph without detours.

    They are: two reshapes, permutations, broadcasts or exact casts in a row, and two negations; those that change
    nothing, as a slice of everything or a concatenation of one; ``x * 1``, ``x / 1``, ``x - 0``.
    """
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        rule = _RULES.get(node.op.name)
        found = None if rule is None else rule(rewriter, node, rewriter.operands(node))
        if found is None:
            rewriter.copy(node)
        else:
            rewriter.replace(node, found)
    return dead_code(rewriter.finish())


def _below(node: Node, operand: Operand) -> Value | None:
    """The operand of the operand, where that is made by the same op."""
    if not isinstance(operand, Value) or operand.node is None or operand.node.op is not node.op:
        return None
    below = operand.node.operands[0]
    return below if isinstance(below, Value) else None


def _again(rewriter: Rewriter, node: Node, operand: Value, **attributes: object) -> Value:
    new: Value = rewriter.add(
        node.op, [operand], {**node.attributes, **attributes}, node.results[0].spec, node.line
    )
    return new


def _unchanged(_: Rewriter, node: Node, operands: Sequence[Operand]) -> Value | None:
    """The op changes nothing where the spec stays."""
    x = operands[0]
    return x if isinstance(x, Value) and x.spec is node.results[0].spec else None


def _reshape(rewriter: Rewriter, node: Node, operands: Sequence[Operand]) -> Value | None:
    if (found := _unchanged(rewriter, node, operands)) is not None:
        return found
    below, inner = _below(node, operands[0]), operands[0].node
    # copy=False promises that memory is shared, which holds for each of the two by itself.
    if below is None or node.attributes["copy"] is False or inner.attributes["copy"] is False:
        return None
    return below if below.spec is node.results[0].spec else _again(rewriter, node, below)


def _broadcast(rewriter: Rewriter, node: Node, operands: Sequence[Operand]) -> Value | None:
    if (found := _unchanged(rewriter, node, operands)) is not None:
        return found
    below = _below(node, operands[0])
    return None if below is None else _again(rewriter, node, below)


def _permute(rewriter: Rewriter, node: Node, operands: Sequence[Operand]) -> Value | None:
    x, axes = operands[0], node.attributes["axes"]
    below = _below(node, x)
    if below is not None:
        inner = x.node.attributes["axes"]
        x, axes = below, tuple(inner[a] for a in axes)
    if axes == tuple(range(len(axes))):
        return x  # type: ignore[no-any-return]
    return None if below is None else _again(rewriter, node, below, axes=axes)


def _cast(rewriter: Rewriter, node: Node, operands: Sequence[Operand]) -> Value | None:
    if (found := _unchanged(rewriter, node, operands)) is not None:
        return found
    below = _below(node, operands[0])
    if below is None or not exact_cast(below.spec.dtype, operands[0].spec.dtype):
        return None
    if below.spec is node.results[0].spec:
        return below
    # Elsewhere one cast could round other than two: integers go to 16-bit floats by way of float32.
    return _again(rewriter, node, below) if exact_cast(below.spec.dtype, node.results[0].spec.dtype) else None


def exact_cast(source: DType, target: DType) -> bool:
    """Whether ``target`` holds every value of ``source``."""
    if source is target:
        return True
    if target is dtypes.bool:
        return False
    if source is dtypes.bool:
        return True
    if source.is_floating:
        if not target.is_floating:
            return False
        a, b = dtypes.finfo(source), dtypes.finfo(target)
        # The exponents of float16 lie within those of bfloat16, its digits do not: both must.
        return b.eps <= a.eps and b.max >= a.max and b.smallest_normal <= a.smallest_normal
    low, high = dtypes.iinfo(source).min, dtypes.iinfo(source).max
    if target.is_integer:
        return dtypes.iinfo(target).min <= low and high <= dtypes.iinfo(target).max
    info = dtypes.finfo(target)
    return high <= 2 / info.eps and high <= info.max


def _slice(rewriter: Rewriter, node: Node, operands: Sequence[Operand]) -> Value | None:
    forward = all(step > 0 for _, _, step in node.attributes["bounds"])
    return _unchanged(rewriter, node, operands) if forward else None


def _concatenate(_: Rewriter, node: Node, operands: Sequence[Operand]) -> Value | None:
    (arrays,) = operands
    return arrays[0] if len(arrays) == 1 and arrays[0].spec is node.results[0].spec else None


def _negative(_: Rewriter, node: Node, operands: Sequence[Operand]) -> Value | None:
    return _below(node, operands[0])


def _multiply(rewriter: Rewriter, node: Node, operands: Sequence[Operand]) -> Value | None:
    for one, other in (operands, operands[::-1]):
        if is_number(one, 1.0):
            return _unchanged(rewriter, node, [other])
    return None


def _right(number: float) -> Rule:
    """A rule for an op that ``number`` as its second operand makes the identity."""

    def rule(rewriter: Rewriter, node: Node, operands: Sequence[Operand]) -> Value | None:
        return _unchanged(rewriter, node, operands) if is_number(operands[1], number) else None

    return rule


def is_number(operand: Operand, number: float) -> bool:
    """Whether an operand is ``number`` in each element: a Python number, or made of one by ``full``."""
    while isinstance(operand, Value) and operand.node is not None:
        node = operand.node
        if node.op.name == "full":
            operand = node.attributes["fill_value"]
        elif node.op.name in ("reshape", "broadcast_to", "permute_dims"):
            operand = node.operands[0]
        else:
            return False
    if type(operand) not in (int, float):
        return False
    return bool(operand == number) and math.copysign(1, operand) == math.copysign(1, number)


_RULES: Final[dict[str, Rule]] = {
    "reshape": _reshape,
    "broadcast_to": _broadcast,
    "permute_dims": _permute,
    "astype": _cast,
    "strided_slice": _slice,
    "concatenate": _concatenate,
    "negative": _negative,
    "multiply": _multiply,
    "divide": _right(1.0),
    "subtract": _right(0.0),
}
