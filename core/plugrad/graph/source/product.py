"""Kernels for products of matrices."""

from __future__ import annotations

from functools import cache

from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Dialect, Source, Writer


def _head(dialect: Dialect, name: str, dtype: DType) -> Writer:
    write = Writer(dialect, name, (dtype,))
    for operand in ("a", "b", "result"):
        write.memory(f"{operand}_memory", dtype, const=operand != "result")
        write.numbers(f"{operand}_start", f"{operand}_batch")
        if operand != "result":
            write.numbers(f"{operand}_row", f"{operand}_column")
    write.numbers("n", "k", "m")
    return write


@cache
def product(dialect: Dialect, dtype: DType) -> Source:
    """One work-item for each element of the product, of operands of any strides.

    Parameters: for both operands memory, first place, and strides of the batch, the rows and the columns; the result's
    memory, first place, stride of the batch, its rows being contiguous; n, k, m. Launch: columns, rows, batch.
    """
    write = _head(dialect, "product", dtype)
    index, types = dialect.index, dialect.types
    wide = types[dtype] if dtype.is_floating else dialect.word
    first, second, third = dialect.indices
    write.line(f"const {index} j = {first}, i = {second}, batch = {third};")
    write.line("if (j >= m) return;")
    write.line(f"{index} p = a_start + batch * a_batch + i * a_row;")
    write.line(f"{index} q = b_start + batch * b_batch + j * b_column;")
    write.line(f"{wide} sum = 0;")
    write.line(f"for ({index} t = 0; t < k; ++t, p += a_column, q += b_row)")
    write.line(f"    sum += ({wide})a_memory[p] * ({wide})b_memory[q];")
    write.line(f"result_memory[result_start + batch * result_batch + i * m + j] = ({types[dtype]})sum;")
    return write.source()


@cache
def tiled_product(dialect: Dialect, dtype: DType, rows: int, vectors: int) -> Source:
    """One work-item for a tile of ``rows`` rows and ``vectors`` vectors of columns, which it holds in registers.

    The elements of a row of the second operand lie side by side (``b_column`` is 1), m is at least one tile wide, and k
    at least 1. Tiles at the end move back, so that they end where the matrix does: what two of them compute is the same.

    Parameters: as those of `product`. Launch: tiles along the columns, along the rows, batch.
    """
    lanes = dialect.lanes[dtype]
    wide = lanes * vectors
    kind, index = dialect.types[dtype], dialect.index
    vector = dialect.vector.format(type=kind, lanes=lanes)
    write = _head(dialect, f"tiled_product_{rows}_{vectors}", dtype)
    first, second, third = dialect.indices
    write.line(f"const {index} batch = {third};")
    write.line(f"{index} j = ({index}){first} * {wide}, i = ({index}){second} * {rows};")
    write.line(f"if (j + {wide} > m) j = m - {wide};")
    write.line(f"if (i + {rows} > n) i = n - {rows};")
    a = dialect.pointer.format(type=f"const {kind}", name="a")
    b = dialect.pointer.format(type=f"const {kind}", name="b")
    write.line(f"{a} = a_memory + a_start + batch * a_batch + i * a_row;")
    write.line(f"{b} = b_memory + b_start + batch * b_batch + j;")
    zero = dialect.splat.format(type=kind, lanes=lanes, value="0")
    for r in range(rows):
        for v in range(vectors):
            write.line(f"{vector} c{r}_{v} = {zero};")
    write.line(f"for ({index} t = 0; t < k; ++t, a += a_column, b += b_row) {{")
    for v in range(vectors):
        write.line(f"    const {vector} b{v} = {dialect.load.format(lanes=lanes, place=f'b + {v * lanes}')};")
    for r in range(rows):
        splat = dialect.splat.format(type=kind, lanes=lanes, value=f"a[{r} * a_row]")
        write.line(f"    const {vector} a{r} = {splat};")
        for v in range(vectors):
            write.line(f"    c{r}_{v} = {dialect.fma.format(a=f'a{r}', b=f'b{v}', c=f'c{r}_{v}')};")
    write.line("}")
    write.line(f"const {index} at = result_start + batch * result_batch + i * m + j;")
    for r in range(rows):
        for v in range(vectors):
            where = f"result_memory + at + {r} * m + {v * lanes}"
            write.line(dialect.store.format(lanes=lanes, value=f"c{r}_{v}", place=where))
    return write.source()
