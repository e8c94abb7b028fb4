"""Passes: a graph in, a graph out, one file each; and the order in which a plan runs them.

A pass changes what is computed, never what comes out: the same bits, NaN, infinities and the sign of zero included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plugrad.graph.ir import Graph
from plugrad.graph.passes.algebra import algebra
from plugrad.graph.passes.bundling import bundle
from plugrad.graph.passes.common import common_subexpressions
from plugrad.graph.passes.constants import constants
from plugrad.graph.passes.dead_code import dead_code
from plugrad.graph.passes.epilogues import epilogues
from plugrad.graph.passes.fusion import fuse
from plugrad.graph.passes.generation import generate
from plugrad.graph.passes.lowering import lower
from plugrad.graph.passes.plugins import Pass, guarded, plugin_passes
from plugrad.graph.passes.stacking import stack

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.modes import Modes


@dataclass(frozen=True, slots=True)
class Context:
    """What a graph is made ready for.

    Attributes:
        backend: whose kernels run it.
        modes: the modes of the thread that captured it; kernels are chosen by ``matmul_precision``.
        exact: whether results are to be those of eager mode bit for bit: passes that change the order of additions,
            as products of parts may, do nothing.
    """

    backend: Backend
    modes: Modes
    exact: bool = False


Run = Callable[[Graph, Context], Graph]
Told = Callable[[str, Graph, Graph], None]
"""Is told, for each pass, its name and the graph before and after it."""

PASSES: Final[dict[str, Run]] = {
    "dead_code": lambda graph, _: dead_code(graph),
    "lower": lambda graph, context: lower(graph, context.backend, context.modes, exact=context.exact),
    "algebra": lambda graph, _: algebra(graph),
    "common_subexpressions": lambda graph, _: common_subexpressions(graph),
    "constants": lambda graph, context: constants(graph, context.backend, context.modes),
    "stack": lambda graph, context: graph if context.exact else stack(graph),
    "bundle": lambda graph, context: bundle(graph, context.backend),
    "epilogues": lambda graph, context: (
        graph if context.exact else epilogues(graph, context.backend, context.modes)
    ),
    "fuse": lambda graph, context: graph if context.exact else fuse(graph, context.backend, context.modes),
    "generate": lambda graph, context: graph if context.exact else generate(graph, context.backend),
}
"""The passes by name, in their order."""


def all_passes() -> dict[str, Run]:
    """`PASSES` with those of plugins at their places."""
    found = plugin_passes(tuple(PASSES))
    ordered: dict[str, Run] = {}
    for name, run in PASSES.items():
        ordered |= {p.name: guarded(p, origin) for p, origin in found if p.before == name}
        ordered[name] = run
        ordered |= {p.name: guarded(p, origin) for p, origin in found if p.after == name}
    return ordered


def run_passes(graph: Graph, context: Context, told: Told | None = None) -> Graph:
    """The graph after all passes.

    Raises:
        UnsupportedOp: for a primitive that the backend has no kernel for.
    """
    for name, run in all_passes().items():
        before, graph = graph, run(graph, context)
        if told is not None:
            told(name, before, graph)
    return graph


__all__ = ["PASSES", "Context", "Pass", "all_passes", "run_passes"]
