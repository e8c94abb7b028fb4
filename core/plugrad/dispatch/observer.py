"""`Observer`: who is told what computes each op, and may stand in for it. Reports, checks and comparisons are made of it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from plugrad.spec import Device

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op


class Source(enum.StrEnum):
    """What computes an op on a device: the backend's kernel, the op's body, or the fallback's kernel."""

    KERNEL = "kernel"
    BODY = "body"
    FALLBACK = "fallback"


class Observer(Protocol):
    """Set for a block by ``plugrad.dispatch.modes.changed(observer=...)``.

    What is recorded in the block remembers the user's line that made it: a backward in the block tells it
    (`plugrad.dispatch.anomaly.line_of_backward`).
    """

    def settled(
        self,
        op: Op[..., Any],
        source: Source,
        run: Callable[..., Any] | None,
        specs: Sequence[Any],
        attributes: Mapping[str, Any],
        device: Device,
    ) -> Callable[..., Any] | None:
        """Called once for a signature, when it is settled under this observer.

        Args:
            op: the op, those of rules included. What a body is made of is settled, and told, by itself; a
                composite that is replaced by its body at the call is not told.
            source: what computes it.
            run: from arrays and ``into`` what a kernel gives; None for a rule that runs as its body.
            specs: the specs of the operands: None for an absent one, a tuple for a sequence.
            attributes: the static attributes.
            device: where.

        Returns:
            What runs in its place, called as ``run`` is: ``run`` itself, or something that calls it.
        """
