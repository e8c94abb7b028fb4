"""A tile of a product: rows of vectors that one work-item holds in registers, and what is done with them at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Writer

Tail = tuple[str, str]
"""The name of an operand of an epilogue, and a letter: ``c`` an element for each place of a row side by side, ``r`` one for
the whole row, ``n`` a number that is a parameter."""


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What is done with each element of a product before it is stored, without reading it back.

    Attributes:
        wide: statements over vectors, which read ``x`` and the operands and leave the result in ``x``.
        narrow: the same over numbers.
        operands: what the statements read beside ``x``, of the product's dtype.
        helper: functions that they call.

    Parameters of an operand: its memory, first place, strides of the outer and the inner batch axis and of the rows; or the
    number.
    """

    wide: str = ""
    narrow: str = ""
    operands: tuple[Tail, ...] = ()
    helper: str = ""

    def parameters(self, write: Writer, dtype: DType) -> None:
        """Declare the operands' parameters."""
        if self.helper:
            write.helper(self.helper)
        for name, letter in self.operands:
            if letter == "n":
                write.number(f"{name}_number", dtype)
            else:
                write.memory(f"{name}_memory", dtype)
                write.numbers(f"{name}_start", f"{name}_outer", f"{name}_inner", f"{name}_row")

    def places(self, write: Writer, outer: str, inner: str) -> None:
        """Lines that find where the operands' matrices begin."""
        for name, letter in self.operands:
            if letter != "n":
                start = f"{name}_start + {outer} * {name}_outer + {inner} * {name}_inner"
                write.line(f"const {write.dialect.index} {name}_from = {start};")

    def apply(self, write: Writer, dtype: DType, lanes: int, row: str, column: str) -> None:
        """Lines that do it to ``x``, a vector of ``lanes`` elements or a number, which lies at a row and a column."""
        dialect = write.dialect
        kind = dialect.types[dtype]
        vector = dialect.vector.format(type=kind, lanes=lanes) if lanes > 1 else kind
        for name, letter in self.operands:
            place = f"{name}_from + {row} * {name}_row"
            if letter == "c" and lanes > 1:
                value = dialect.load.format(lanes=lanes, place=f"{name}_memory + {place} + {column}")
            else:
                value = {
                    "c": f"{name}_memory[{place} + {column}]",
                    "r": f"{name}_memory[{place}]",
                    "n": f"{name}_number",
                }[letter]
                if lanes > 1:
                    value = dialect.splat.format(type=kind, lanes=lanes, value=value)
            write.line(f"    const {vector} {name} = {value};")
        write.line("    " + (self.wide if lanes > 1 else self.narrow))


PLAIN = Epilogue()
"""Nothing is done."""


class Tile:
    """Writes the lines of a tile of ``rows`` rows of ``vectors`` vectors."""

    def __init__(self, write: Writer, dtype: DType, rows: int, vectors: int) -> None:
        dialect = write.dialect
        self.write, self.dtype = write, dtype
        self.rows, self.vectors, self.lanes = rows, vectors, dialect.lanes[dtype]
        self.kind = dialect.types[dtype]
        self.vector = dialect.vector.format(type=self.kind, lanes=self.lanes)

    def zero(self) -> None:
        """Lines that begin the sums."""
        zero = self.write.dialect.splat.format(type=self.kind, lanes=self.lanes, value="0")
        for r in range(self.rows):
            for v in range(self.vectors):
                self.write.line(f"{self.vector} c{r}_{v} = {zero};")

    def step(self, a: Callable[[int], str], b: str, apart: str = "") -> None:
        """Lines that add the products of a number for each row and one row of vectors.

        Args:
            a: the expression of a row's number.
            b: the pointer to the vectors' first element.
            apart: the distance between the vectors, "" if they lie side by side.
        """
        write, dialect, lanes = self.write, self.write.dialect, self.lanes
        for v in range(self.vectors):
            load = dialect.load.format(lanes=lanes, place=f"{b} + {v} * {apart or lanes}")
            write.line(f"    const {self.vector} b{v} = {load};")
        for r in range(self.rows):
            splat = dialect.splat.format(type=self.kind, lanes=lanes, value=a(r))
            write.line(f"    const {self.vector} a{r} = {splat};")
            for v in range(self.vectors):
                write.line(f"    c{r}_{v} = {dialect.fma.format(a=f'a{r}', b=f'b{v}', c=f'c{r}_{v}')};")

    def store(self, place: Callable[[int], str], row: str, column: str, columns: int, tail: Epilogue) -> None:
        """Lines that finish the sums and write them.

        Args:
            place: the pointer to where a row of the tile goes.
            row: the row of the matrix that is the tile's first.
            column: the column of the matrix that is the tile's first.
            columns: how many columns are written; less than those of the tile only if that has one vector.
            tail: what is done before.
        """
        write, dialect, lanes = self.write, self.write.dialect, self.lanes
        narrow = columns < lanes * self.vectors
        if narrow:
            write.line(f"{self.kind} side[{lanes}];")
        for r in range(self.rows):
            for v in range(self.vectors):
                if narrow:
                    write.line(dialect.store.format(lanes=lanes, value=f"c{r}_0", place="side"))
                    write.line(f"for (int l = 0; l < {columns}; ++l) {{")
                    write.line(f"    {self.kind} x = side[l];")
                    tail.apply(write, self.dtype, 1, f"({row} + {r})", f"({column} + l)")
                    write.line(f"    ({place(r)})[l] = x;")
                else:
                    write.line("{")
                    write.line(f"    {self.vector} x = c{r}_{v};")
                    at = f"({column} + {v * lanes})"
                    tail.apply(write, self.dtype, lanes, f"({row} + {r})", at)
                    target = f"{place(r)} + {v * lanes}"
                    write.line("    " + dialect.store.format(lanes=lanes, value="x", place=target))
                write.line("}")
