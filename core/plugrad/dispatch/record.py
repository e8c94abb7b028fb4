"""The record: what backward walks.

A recorded tensor refers to the node that made it, a node to the nodes of its operands. Nodes refer to no
tensor: saved values are kept as arrays and rewrapped when backward reads them, so that no cycle exists and
memory is freed the moment it can be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from plugrad.errors import GradientError
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.dispatch.pullback import Pullback
    from plugrad.tensor import Tensor

counter: Final = itertools.count()
"""Numbers origins in the order of their making: whoever uses a value has a higher number than its maker."""

Cotangent = Any


class Origin:
    """Where a recorded value comes from. ``seq`` grows along the record."""

    __slots__ = ("__weakref__", "seq")
    seq: int


class Leaf(Origin):
    """A value that gradients end in. ``grad`` holds what `backward` has accumulated."""

    __slots__ = ("grad", "spec")

    def __init__(self, spec: Spec) -> None:
        self.seq = next(counter)
        self.spec = spec
        self.grad: Tensor | None = None


class Slot(Origin):
    """One of the several results of a node."""

    __slots__ = ("index", "node")

    def __init__(self, node: Node | Function, index: int) -> None:
        self.seq = next(counter)
        self.node = node
        self.index = index


class Node(Origin):
    """One recorded application of an op.

    Attributes:
        pullback: everything that its signature settled for backward.
        parents: the origins of its operands, one per flat operand, None for one that is not followed.
        saved: the arrays that the rules need, as ``pullback.saved`` names them; None once freed.
        line: the user's line that made it; set under `detect_anomaly` alone.
    """

    __slots__ = ("line", "parents", "pullback", "saved")

    pullback: Pullback
    parents: tuple[Origin | None, ...]
    saved: tuple[Any, ...] | None
    line: str

    @property
    def name(self) -> str:
        """Name of the op."""
        return self.pullback.op.name

    @property
    def outputs(self) -> tuple[Spec, ...]:
        """Specs of the results that carry gradients."""
        return self.pullback.carrying

    def pull(
        self, cts: Sequence[Tensor], create: bool, needed: Collection[Origin] | None
    ) -> Sequence[Cotangent]:
        """The cotangents of the operands, one per parent, from those of the results."""
        if self.saved is None:
            raise GradientError(
                f"backward through {self.name}: the values it saved were freed by an earlier backward; "
                "pass retain_graph=True to the first one"
            )
        return self.pullback(self, cts, create, needed)


class Function(Origin):
    """A node whose pullback is a Python function on tensors: `custom_vjp`, `checkpoint`, a move to another device.

    Attributes:
        name: what it is called in errors.
        parents: as those of `Node`.
        outputs: specs of the results that carry gradients.
        saved: the function, None once freed. It takes the cotangents and whether the backward is recorded, and
            gives one cotangent per parent.
        line: as that of `Node`.
    """

    __slots__ = ("line", "name", "outputs", "parents", "saved")

    def __init__(
        self,
        name: str,
        parents: tuple[Origin | None, ...],
        outputs: tuple[Spec, ...],
        function: Callable[[Sequence[Tensor], bool], Sequence[Cotangent]],
    ) -> None:
        self.seq = next(counter)
        self.name = name
        self.parents = parents
        self.outputs = outputs
        self.saved: Callable[[Sequence[Tensor], bool], Sequence[Cotangent]] | None = function
        self.line = ""

    def pull(
        self, cts: Sequence[Tensor], create: bool, needed: Collection[Origin] | None
    ) -> Sequence[Cotangent]:
        """The cotangents of the operands, one per parent, from those of the results."""
        del needed
        if self.saved is None:
            raise GradientError(
                f"backward through {self.name} a second time: pass retain_graph=True to the first backward"
            )
        return self.saved(cts, create)
