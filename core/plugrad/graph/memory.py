"""Where results go: which values share a block of memory, which are views that stay, which are written over a cell.

A value lives from the node that computes it to the last one that reads it, or a view of it. Two values whose lives do not
meet share a block. What leaves the plan never lies in one.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.lowering import with_modes
from plugrad.dtypes import uint8
from plugrad.graph.ir import Composed, Graph, Node, Value
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.backend.kernels import Kernel
    from plugrad.dispatch.modes import Modes

ALIGNMENT: Final = 64
"""Bytes that the size of a block is a multiple of."""

LARGE: Final = 1 << 20
"""Bytes from which a plan asks its device for the memory of what leaves it: a device may have kept some."""


@dataclass(slots=True)
class Layout:
    """Where the results of a graph go.

    Attributes:
        blocks: the sizes of the blocks, in bytes.
        block_of: by value, the block that it lies in.
        roots: by value that a node which may alias gives, the values whose memory it may be.
        last: by value, the index of the last node that reads it or a view of it.
        targets: by value, the index of the output that it is, where it may be written over what that replaces.
        fresh: the large ones of those that leave the plan in new memory.
    """

    blocks: list[int] = field(default_factory=list)
    block_of: dict[Value, int] = field(default_factory=dict)
    roots: dict[Value, tuple[Value, ...]] = field(default_factory=dict)
    last: dict[Value, int] = field(default_factory=dict)
    targets: dict[Value, int] = field(default_factory=dict)
    fresh: list[Value] = field(default_factory=list)


def kernel_of(
    node: Node, backend: Backend, modes: Modes, replaced: Mapping[Value, Value | None] | None = None
) -> Kernel:
    """The kernel that runs a lowered node.

    Args:
        node: a node of a lowered graph; one that applies something else than an op brings its own.
        backend: whose kernel.
        modes: kernels are chosen by ``matmul_precision``.
        replaced: by value that is bound to a cell, what the cell held before.
    """
    if isinstance(node.op, Composed):
        before = {i: (replaced or {}).get(v) for i, v in enumerate(node.results)}
        places = {o: node.operands.index(v) for o, v in before.items() if v in node.operands}
        return node.op.kernel(backend, modes, places)
    found = backend.kernels.find(node.op, node.specs(), with_modes(node.attributes, modes))
    assert found is not None
    return found


def roots_of(graph: Graph, views: Container[Node]) -> dict[Value, tuple[Value, ...]]:
    """By value, the values whose memory it may lie in; a value of its own memory has itself.

    Args:
        graph: the graph.
        views: the nodes that may give views of what they read.
    """
    roots: dict[Value, tuple[Value, ...]] = {v: (v,) for v in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        aliased = tuple(dict.fromkeys(r for v in node.reads() for r in roots[v])) if node in views else ()
        for value in node.results:
            roots[value] = (value, *aliased)
    return roots


def lay_out(
    graph: Graph,
    kernels: Sequence[Kernel],
    views: Container[Node],
    placed: Mapping[Value, int],
    replaced: Mapping[int, Value | None],
) -> Layout:
    """Decide where results go.

    Args:
        graph: the lowered graph.
        kernels: the kernel of each node.
        views: the nodes that may give views of what they read.
        placed: by value that can be placed, how many bytes its array takes.
        replaced: by the index of an output that is bound to a cell or a gradient, the input that held it before,
            or None where that is not read.
    """
    layout = Layout(roots=roots_of(graph, views))
    for i, node in enumerate(graph.nodes):
        for value in node.reads():
            for root in layout.roots[value]:
                layout.last[root] = i
    escaping = {r for v in graph.outputs for r in layout.roots[v]}
    made = {v: (i, node) for i, node in enumerate(graph.nodes) for v in node.results}
    for output, before in replaced.items():
        value = graph.outputs[output]
        if (
            value not in made
            or value not in placed
            or graph.outputs.count(value) > 1
            or value in layout.targets
        ):
            continue
        i, node = made[value]
        if node in views or any(value in layout.roots[v] for v in graph.outputs if v is not value):
            continue
        if before is None or _may_overwrite(layout, i, node, kernels[i], before, value, graph):
            layout.targets[value] = output
    free: list[int] = []
    ends: dict[int, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for value in node.results:
            if value not in placed or node in views:
                continue
            if value in escaping:
                if placed[value] >= LARGE and value not in layout.targets:
                    layout.fresh.append(value)
                continue
            inherited = _inherited(layout, i, node, kernels[i], value, placed, escaping)
            block = _block(layout, free, placed[value]) if inherited is None else inherited
            layout.block_of[value] = block
            if inherited is not None:
                ends[i].remove(block)
            ends.setdefault(max(layout.last.get(value, i), i), []).append(block)
        free += ends.pop(i, [])
    return layout


def _may_overwrite(
    layout: Layout, i: int, node: Node, kernel: Kernel, before: Value, value: Value, graph: Graph
) -> bool:
    """Whether the array of an input may be written over by what replaces it, at this node."""
    if before.spec is not value.spec or before in graph.outputs:
        return False
    last = layout.last.get(before, -1)
    if last > i or any(before in layout.roots[v] for v in graph.outputs):
        return False
    if last < i:
        return True
    read = [o.name for o, given in zip(node.op.operands, node.operands, strict=False) if given is before]
    through_views = any(v is not before and before in layout.roots[v] for v in node.reads())
    return bool(read) and all(name in kernel.inplace for name in read) and not through_views


def _inherited(
    layout: Layout,
    i: int,
    node: Node,
    kernel: Kernel,
    value: Value,
    placed: Mapping[Value, int],
    escaping: set[Value],
) -> int | None:
    """The block of an operand that is read here for the last time, where the kernel may write over it."""
    if len(node.results) > 1:
        return None
    for operand, given in zip(node.op.operands, node.operands, strict=False):
        if (
            operand.name in kernel.inplace
            and isinstance(given, Value)
            and given in layout.block_of
            and given.spec is value.spec
            and layout.last[given] == i
            and placed[given] == placed[value]
            and given not in escaping
            and sum(given in layout.roots[v] for v in node.reads()) == 1
        ):
            return layout.block_of[given]
    return None


def _block(layout: Layout, free: list[int], size: int) -> int:
    """A free block that is large enough and not twice as large; else a new one."""
    fitting = [b for b in free if size <= layout.blocks[b] <= 2 * size + 4096]
    if fitting:
        best = min(fitting, key=lambda b: layout.blocks[b])
        free.remove(best)
        return best
    layout.blocks.append(-(-max(size, 1) // ALIGNMENT) * ALIGNMENT)
    return len(layout.blocks) - 1


def allocate(layout: Layout, backend: Backend, like: Spec) -> list[Any]:
    """The blocks, on the device of ``like``."""
    return [backend.allocate(Spec((size,), uint8, like.device)) for size in layout.blocks]
