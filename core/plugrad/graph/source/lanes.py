"""What is done across the lanes of vectors: turning squares of them, and adding their lanes up.

Both are done in vectors of 16 bytes, whose lanes every processor with vectors exchanges in few instructions.
"""

from __future__ import annotations

from collections.abc import Sequence

from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Dialect, Writer


def few(dtype: DType) -> int:
    """How many elements 16 bytes have."""
    return 16 // dtype.itemsize


def turned(dialect: Dialect, dtype: DType, names: Sequence[str], lane: int) -> str:
    """The vector of one lane of each of the named vectors, as many as each has lanes."""
    values = ", ".join(dialect.lane.format(vector=name, lane=lane) for name in names)
    return dialect.compose.format(type=dialect.types[dtype], lanes=len(names), values=values)


def add_lanes(write: Writer, dtype: DType, names: Sequence[str], memory: str) -> None:
    """Lines that write the sum of the lanes of each of the named vectors, as many as each has lanes, to ``memory``, in order."""
    dialect, lanes, width = write.dialect, len(names), few(dtype)
    kind = dialect.types[dtype]
    vector = dialect.vector.format(type=kind, lanes=width)
    write.line(f"{kind} apart[{lanes * width}];")
    for first in range(0, lanes, width):
        here = names[first : first + width]
        for i, name in enumerate(here):
            write.line(dialect.store.format(lanes=lanes, value=name, place=f"apart + {i * lanes}"))
        write.line("{")
        for i in range(width):
            parts = [
                dialect.load.format(lanes=width, place=f"apart + {i * lanes + p}")
                for p in range(0, lanes, width)
            ]
            write.line(f"    const {vector} s{i} = {' + '.join(parts)};")
        sums = " + ".join(turned(dialect, dtype, [f"s{i}" for i in range(width)], t) for t in range(width))
        write.line("    " + dialect.store.format(lanes=width, value=sums, place=f"{memory} + {first}"))
        write.line("}")
