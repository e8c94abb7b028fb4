"""`Recorder`: notes what a run launches, on which memory, and gives the run memory that stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plugrad.generated.memory import Memory, Pool
from plugrad.graph.source import Source


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch as it was made.

    Attributes:
        source: the kernel.
        size: the work-items along each axis.
        group: those of a group.
        arguments: numbers, None, and for memory its `Block`.
        checks: whether it may report an index.
    """

    source: Source
    size: tuple[int, ...]
    group: tuple[int, ...]
    arguments: tuple[Any, ...]
    checks: bool


class Recorder:
    """Notes the launches of one run on one thread.

    Attributes:
        launches: what was launched.
        kept: memory that the run met and neither was given nor allocated, by the number of its block.
        own: the numbers of the blocks that the run allocated.
        shared: the numbers of the blocks that other runs of the line allocate too.
        refused: the run did what its launches do not repeat: it read or wrote memory from the host.
    """

    def __init__(self, pool: Pool, given: Sequence[Memory | None]) -> None:
        """Begin.

        Args:
            pool: what the run allocates from. What it lets go of is given out again by this pool alone, so that launches
                in the same order may use the same blocks again.
            given: the memory of what the run is given.
        """
        self.launches: list[Launch] = []
        self.kept: dict[int, Memory] = {}
        self.own: set[int] = set()
        self.shared = {block.number for blocks in pool.free.values() for block in blocks}
        self.refused = False
        self._pool = pool
        self._given = {m.block.number for m in given if m is not None}

    def allocate(self, size: int) -> Memory:
        """Memory for the run, of a size that blocks have."""
        block = self._pool.block(size)
        self.own.add(block.number)
        return Memory(block, self._pool)

    def note(
        self,
        source: Source,
        size: tuple[int, ...],
        group: Sequence[int],
        arguments: Sequence[Any],
        checks: bool,
    ) -> None:
        """Note a launch."""
        noted = tuple([self._noted(a) for a in arguments])
        self.launches.append(Launch(source, size, tuple(group), noted, checks))

    def refuse(self) -> None:
        """Tell that this run cannot be repeated by its launches."""
        self.refused = True

    def _noted(self, argument: Any) -> Any:
        if not isinstance(argument, Memory):
            return argument
        number = argument.block.number
        if number not in self.own and number not in self._given:
            self.kept[number] = argument
        return argument.block
