"""`Case`: one thing that is held against a device, its name, and its level. Every check lists its own."""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from plugrad.errors import ArgumentError


class Level(enum.IntEnum):
    """How much of plugrad a device carries; a level means every case of it and of those below."""

    L0 = 0
    """It is found, its memory holds what it is given, and it harms no other."""
    L1 = 1
    """Every op computes in float32, and refuses what it must."""
    L2 = 2
    """Every gradient in float32: networks train."""
    L3 = 3
    """Every other dtype, memory layout and special value; results into memory that is there already."""
    L4 = 4
    """Queues, threads, leaks, the statistics of random numbers, several devices."""


FEATURES = ("float64", "float16", "bfloat16", "devices")
"""What not every device can have. Cases that need one it lacks are not its own, and its level says so in a suffix."""


@dataclass(frozen=True, slots=True)
class Case:
    """One check of one subject.

    Attributes:
        kind: the check.
        subject: the op, the op of a rule, or what is tried.
        dtype: the dtype under test, or the empty string.
        variant: what else tells it apart, or the empty string.
        level: the level that it belongs to; None for one that is told and not counted.
        needs: those of `FEATURES` that it takes.
        op: the op that the subject is, or the rule's owner; empty for a case that is of no op.
        direction: ``forward`` or ``vjp``; empty for a case that is of no op.
    """

    kind: str
    subject: str
    dtype: str = ""
    variant: str = ""
    level: Level | None = Level.L0
    needs: frozenset[str] = field(default=frozenset(), compare=False)
    op: str = ""
    direction: str = ""

    @property
    def id(self) -> str:
        """The name: ``kind/subject``, with the dtype and the variant where there are any."""
        return "/".join(p for p in (self.kind, self.subject, self.dtype, self.variant) if p)

    @property
    def seed(self) -> int:
        """The seed of its random numbers, from its name alone."""
        return zlib.crc32(self.id.encode())


def needed(*dtypes: str) -> frozenset[str]:
    """The features that cases of these dtypes take."""
    return frozenset(d for d in dtypes if d in FEATURES)


def select(cases: Iterable[Case], names: Iterable[str]) -> list[Case]:
    """The cases of these names, in the suite's order.

    Raises:
        ArgumentError: if a name is that of no case; near ones are told.
    """
    known = {c.id: c for c in cases}
    wanted = dict.fromkeys(names)
    for name in wanted:
        if name not in known:
            start = name.rpartition("/")[0]
            near = [k for k in known if start and k.startswith(start)][:3]
            hint = f"; there are {', '.join(near)}" if near else ""
            raise ArgumentError(f"no case is named {name!r}{hint}")
    return [c for n, c in known.items() if n in wanted]
