"""Passes that plugins bring (hook ``plugrad_passes``), loaded once and run guarded: a broken one never harms a capture."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugrad.backend import extensions, load_hooks
from plugrad.errors import ArgumentError, PlugradError
from plugrad.graph.ir import Graph, Value

if TYPE_CHECKING:
    from plugrad.graph.passes import Context


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass of a plugin.

    Attributes:
        name: its name, which no other pass has.
        run: from a graph and a `Context`, the new graph, with inputs and outputs of the same specs. It leaves the
            graph that it gets as it is; `plugrad.graph.rewrite.Rewriter` makes a new one.
        before, after: the name in `PASSES` that it runs just before, or just after: one of the two.

    Raises:
        ArgumentError: if neither or both of ``before`` and ``after`` are given.
    """

    name: str
    run: Callable[[Graph, Context], Graph]
    before: str = ""
    after: str = ""

    def __post_init__(self) -> None:
        if bool(self.before) == bool(self.after):
            raise ArgumentError(
                f"Pass {self.name!r}: takes either before= or after=, got {self.before!r}, {self.after!r}"
            )


@functools.cache
def plugin_passes(places: tuple[str, ...]) -> Sequence[tuple[Pass, str]]:
    """The passes of all plugins, each with the distribution that brings it; what is wrong is left out with a warning.

    Args:
        places: the names that a pass may place itself by.
    """
    found: dict[str, tuple[Pass, str]] = {}
    for name, entry in extensions("passes"):
        if not entry.compatible:
            continue
        try:
            brought = [_placed(p, places, found) for p in load_hooks(entry).plugrad_passes() or ()]
        except Exception as error:
            warnings.warn(
                f"the passes {name!r} of {entry.distribution} are left out: {error!r}", stacklevel=2
            )
            continue
        found |= {p.name: (p, entry.distribution) for p in brought}
    return tuple(found.values())


def _placed(given: Any, places: tuple[str, ...], found: dict[str, Any]) -> Pass:
    if not isinstance(given, Pass):
        raise PlugradError(f"plugrad_passes gives {type(given).__name__}, not a Pass")
    if given.name in found or given.name in places:
        raise PlugradError(f"there is a pass {given.name!r} already")
    if (given.before or given.after) not in places:
        raise PlugradError(
            f"pass {given.name!r} places itself by {given.before or given.after!r}; there are {', '.join(places)}"
        )
    return given


def guarded(brought: Pass, distribution: str) -> Callable[[Graph, Context], Graph]:
    """The pass; where it raises, or gives no graph for the one that it got, that one, with a warning."""

    def run(graph: Graph, context: Context) -> Graph:
        try:
            return _checked(brought.run(graph, context), graph)
        except Exception as error:
            warnings.warn(
                f"the pass {brought.name!r} of {distribution} is left out of a graph: {error!r}", stacklevel=2
            )
            return graph

    return run


def _checked(new: Any, old: Graph) -> Graph:
    if not isinstance(new, Graph):
        raise PlugradError(f"it gives {type(new).__name__}, not a Graph")
    for what in ("inputs", "outputs"):
        before, after = ([v.spec for v in getattr(g, what)] for g in (old, new))
        if before != after:
            raise PlugradError(f"its graph has other {what} than the one that it got")
    known: set[Value] = {*new.inputs, *new.constants}
    for node in new.nodes:
        if not known.issuperset(node.reads()):
            raise PlugradError(f"a node of {node.op.name} reads a value that is not there yet")
        known.update(node.results)
    if not known.issuperset(new.outputs):
        raise PlugradError("an output is a value of another graph")
    return new
