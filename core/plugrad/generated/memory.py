"""`Memory`: what arrays lie in; `Pool`: blocks of a device's memory, which are used again and again."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

import numpy as np

SMALLEST: Final = 64
"""Bytes of the smallest block."""

_numbers = itertools.count()


class Block:
    """A piece of a device's memory, for as long as the process wants it.

    Attributes:
        buffer: what a kernel takes.
        size: bytes.
        host: the bytes as the host sees them once the queue is empty; None where it does not.
        number: its own; no other block has had it.
    """

    __slots__ = ("buffer", "host", "number", "size")

    def __init__(self, buffer: Any, size: int, host: np.ndarray[Any, Any] | None = None) -> None:
        self.buffer = buffer
        self.size = size
        self.host = host
        self.number = next(_numbers)


class Memory:
    """A block in use. When nothing refers to it any longer, the pool may give the block out again.

    That is safe at once: the queue is in order, so that whoever gets it next writes after the last reader.

    Attributes:
        block: the block.
        buffer: that of the block.
        pool: where the block goes to, or None.
    """

    __slots__ = ("block", "buffer", "pool")

    def __init__(self, block: Block, pool: Pool | None) -> None:
        self.block = block
        self.buffer = block.buffer
        self.pool = pool

    def __del__(self) -> None:
        if self.pool is not None:
            self.pool.free[self.block.size].append(self.block)


class Row(Memory):
    """Memory of arrays that lie side by side.

    Attributes:
        serials: those of the arrays (`StridedArray.serial`).
    """

    __slots__ = ("serials",)

    def __init__(self, block: Block, pool: Pool | None) -> None:
        super().__init__(block, pool)
        self.serials: list[int] = []

    @classmethod
    def of(cls, memory: Memory) -> Row:
        """A row in the place of memory that nothing else refers to."""
        row = cls(memory.block, memory.pool)
        memory.pool = None
        return row


class Part(Memory):
    """The memory of one of several arrays that lie side by side; what refers to it refers to no other's.

    Attributes:
        row: the memory of all.
        pool: None; the block goes back with the row.
    """

    __slots__ = ("row",)

    def __init__(self, row: Row) -> None:
        super().__init__(row.block, None)
        self.row = row


class Pool:
    """Blocks by size. Threads may use it at the same time.

    Attributes:
        free: the blocks that nothing refers to, by size.
    """

    def __init__(self, take: Callable[[int], Block]) -> None:
        """Begin empty.

        Args:
            take: gives a block of a size that is not there; it may be new, or come from another pool.
        """
        self._take = take
        self.free: defaultdict[int, list[Block]] = defaultdict(list)

    def memory(self, size: int) -> Memory:
        """Memory of a size that blocks have; its contents are unspecified."""
        return Memory(self.block(size), self)

    def block(self, size: int) -> Block:
        """A block of this size."""
        try:
            return self.free[size].pop()
        except IndexError:
            return self._take(size)

    def merge_into(self, other: Pool) -> None:
        """Give all blocks to another pool: those that are free, and the others once they are."""
        mine, self.free = self.free, other.free
        for size, blocks in [*mine.items()]:
            other.free[size] += blocks


class Supply:
    """Counts the blocks of a device, and lets no more be made than fit into it.

    Attributes:
        total: bytes of the blocks that there are.
        peak: the most that they came to.
        limit: bytes that all blocks may come to.
    """

    def __init__(self, make: Callable[[int], Block], limit: int) -> None:
        """Begin with none.

        Args:
            make: makes a block of a size; raises MemoryError where there is no room.
            limit: bytes that all blocks may come to.
        """
        self._make = make
        self._lock = threading.Lock()
        self.limit = limit
        self.total = self.peak = 0

    def new(self, size: int) -> Block:
        """A new block.

        Raises:
            MemoryError: if there is no room for it.
        """
        with self._lock:
            if self.total + size > self.limit:
                raise MemoryError
            block = self._make(size)
            self.total += size
            self.peak = max(self.peak, self.total)
        return block

    def drop(self, pool: Pool) -> None:
        """Let go of the free blocks of a pool."""
        with self._lock:
            for blocks in pool.free.values():
                while blocks:
                    self.total -= blocks.pop().size


def rounded(nbytes: int) -> int:
    """The size of a block for so many bytes: at most an eighth is left over, so that there are few sizes."""
    if nbytes <= 8 * SMALLEST:
        return -(-nbytes // SMALLEST) * SMALLEST
    step = 1 << ((nbytes - 1).bit_length() - 4)
    return -(-nbytes // step) * step
