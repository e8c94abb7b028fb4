"""What a node costs whatever computes it: bytes that it must read and write, and floating-point operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from plugrad.dispatch.statement import Kind
from plugrad.graph.ir import Composed, Node, Value


def bytes_of(node: Node) -> int:
    """Bytes of the operands and of the results, each once; none for a view."""
    if node.op.kind is Kind.MOVEMENT and node.op.may_alias:
        return 0
    return sum(v.spec.nbytes for v in {*node.reads(), *node.results})


def flops_of(node: Node) -> int:
    """Floating-point operations, a multiplication and an addition being two.

    Products of matrices, convolutions and attention are counted by their definition, and so are their rules; any
    other op as one operation for each element of its largest operand or result.
    """
    if isinstance(node.op, Composed):
        return sum(map(flops_of, node.op.graph.nodes))
    owner = node.op.owner or node.op
    count = _CONTRACTIONS.get(owner.name)
    if count is not None:
        operations = count(node)
        if operations is not None:
            return operations
    return max((v.spec.size for v in (*node.reads(), *node.results)), default=0)


def _sizes(node: Node) -> list[int]:
    return sorted((v.spec.size for v in (*node.reads(), *node.results)), reverse=True)


def _product(node: Node) -> int:
    """Of three matrices of m k, k n and m n elements: twice the root of the product of their sizes is 2 m k n."""
    shapes = [v.spec.shape for v in (*node.reads(), *node.results) if len(v.spec.shape) >= 2]
    if len(shapes) < 3:
        return 0
    sizes = [math.prod(s) for s in shapes[:3]]
    batch = max((math.prod(s[:-2]) for s in shapes), default=1) if node.op.name.startswith("matrix") else 1
    return 2 * math.isqrt(sizes[0] * sizes[1] * sizes[2] // max(batch, 1)) if min(sizes) else 0


def _linear(node: Node) -> int | None:
    """As `_product`, the rows of all axes but the last; a bias's gradient is a sum."""
    matrices = [v.spec for v in (*node.reads(), *node.results) if len(v.spec.shape) >= 2]
    if len(matrices) < 3:
        return None
    return 2 * math.isqrt(math.prod(s.size for s in matrices[:3]))


def _conv(node: Node) -> int | None:
    """Twice the elements of the result times the taps and channels that each is made of."""
    specs: dict[str, Any] = {}
    for operand, given in zip(node.op.operands, node.operands, strict=False):
        if isinstance(given, Value):
            specs[operand.name] = given.spec
    for name, value in node.attributes.items():
        if hasattr(value, "shape"):
            specs[name] = value
    weight = specs.get("weight") or next(
        (v.spec for v in node.results if node.op.name.endswith(".weight")), None
    )
    out = specs.get("ct") or (node.results[0].spec if node.op.owner is None else None)
    if weight is None or out is None or node.op.name.endswith(".bias"):
        return None
    return 2 * int(out.size) * math.prod(weight.shape[1:])


def _attention(node: Node) -> int | None:
    """Two products of the queries with keys and values; five for the rule."""
    specs = [v.spec for v in node.reads() if len(v.spec.shape) >= 3]
    if len(specs) < 3:
        return None
    at = 1 if node.op.owner is not None else 0
    query, key = specs[at], specs[at + 1]
    return (4 if at == 0 else 10) * query.size * key.shape[-2]


_CONTRACTIONS: Final[dict[str, Callable[[Node], int | None]]] = {
    "matrix_product": _product,
    "linear": _linear,
    "conv": _conv,
    "scaled_dot_product_attention": _attention,
}
