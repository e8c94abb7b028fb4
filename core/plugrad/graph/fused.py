"""`Fused`: several nodes that run as one kernel, which the device generates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plugrad.backend.kernels import Kernel
from plugrad.dispatch.statement import Operand
from plugrad.errors import UnsupportedOp
from plugrad.graph.ir import Composed, Graph

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.modes import Modes


@dataclass(eq=False)
class Fused(Composed):
    """What a node applies that stands for several, which one kernel computes.

    Attributes:
        graph: the nodes.
        generated: the kernel by backend, once it was asked for.
    """

    graph: Graph
    generated: dict[Backend, Kernel | None] = field(default_factory=dict)

    name = "fused"

    def facts(self) -> dict[str, Any]:
        """Nothing but the graph."""
        return {}

    @classmethod
    def made_of(cls, graph: Graph, facts: Mapping[str, Any]) -> Fused:
        """A fused region of this graph."""
        del facts
        return cls(graph)

    @property
    def operands(self) -> tuple[Operand, ...]:
        """An operand for each input."""
        return tuple(Operand(str(i)) for i in range(len(self.graph.inputs)))

    def generate(self, backend: Backend) -> Kernel | None:
        """The kernel of a device, or None where it generates none of this graph."""
        if backend not in self.generated:
            self.generated[backend] = backend.generate(self.graph)
        return self.generated[backend]

    def kernel(self, backend: Backend, modes: Modes, replaced: Mapping[int, int | None]) -> Kernel:
        """What computes it.

        Raises:
            UnsupportedOp: if the device generates no kernel of it: the graph was made ready for another one.
        """
        del modes, replaced
        found = self.generate(backend)
        if found is None:
            raise UnsupportedOp(f"backend {backend.name!r} generates no kernel of this fused region")
        return found
