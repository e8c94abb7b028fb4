"""Kernels for products of matrices.

Parameters of all of them, but for what each says: for both operands the memory, the first place, and the strides of the outer
and the inner batch axis, of the rows and of the columns; the result's memory, first place, strides of the outer and the
inner batch axis, of the parts and of the rows, its rows being contiguous; the matrices of the inner batch axis; n, k, m; how
many elements of k a part sums up, and how many parts there are; then those of the epilogue.

Launch: along the third axis the parts of all matrices, those of one matrix side by side.
"""

from __future__ import annotations

from functools import cache

from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Dialect, Source, Writer
from plugrad.graph.source.lanes import add_lanes
from plugrad.graph.source.tile import PLAIN, Epilogue, Tile


def _head(dialect: Dialect, name: str, dtype: DType, tail: Epilogue) -> Writer:
    """The parameters, the indices ``outer`` and ``inner`` of the matrices, and the part from ``first`` to ``last`` of k."""
    write = Writer(dialect, name, (dtype,))
    for operand in ("a", "b"):
        write.memory(f"{operand}_memory", dtype)
        write.numbers(f"{operand}_start", f"{operand}_outer", f"{operand}_inner")
        write.numbers(f"{operand}_row", f"{operand}_column")
    write.memory("result_memory", dtype, const=False)
    write.numbers("result_start", "result_outer", "result_inner", "result_part", "result_row")
    write.numbers("inners", "n", "k", "m", "chunk", "parts")
    tail.parameters(write, dtype)
    index = dialect.index
    write.line(f"const {index} item = {dialect.indices[2]}, part = item % parts, batch = item / parts;")
    write.line(f"const {index} outer = batch / inners, inner = batch % inners;")
    write.line(f"const {index} first = part * chunk, last = first + chunk < k ? first + chunk : k;")
    tail.places(write, "outer", "inner")
    return write


def _place(name: str) -> str:
    return f"{name}_start + outer * {name}_outer + inner * {name}_inner"


@cache
def product(dialect: Dialect, dtype: DType, tail: Epilogue = PLAIN) -> Source:
    """One work-item for each element of the product, of operands of any strides.

    Launch: columns, rows.
    """
    write = _head(dialect, "product", dtype, tail)
    index, types = dialect.index, dialect.types
    wide = types[dtype] if dtype.is_floating else dialect.word
    write.line(f"const {index} j = {dialect.indices[0]}, i = {dialect.indices[1]};")
    write.line("if (j >= m) return;")
    write.line(f"{index} p = {_place('a')} + i * a_row + first * a_column;")
    write.line(f"{index} q = {_place('b')} + j * b_column + first * b_row;")
    write.line(f"{wide} sum = 0;")
    write.line(f"for ({index} t = first; t < last; ++t, p += a_column, q += b_row)")
    write.line(f"    sum += ({wide})a_memory[p] * ({wide})b_memory[q];")
    write.line(f"{types[dtype]} x = ({types[dtype]})sum;")
    tail.apply(write, dtype, 1, "i", "j")
    write.line(f"result_memory[{_place('result')} + part * result_part + i * result_row + j] = x;")
    return write.source()


@cache
def tiled_product(
    dialect: Dialect, dtype: DType, rows: int, vectors: int, columns: int = 0, tail: Epilogue = PLAIN
) -> Source:
    """One work-item for a tile of ``rows`` rows and ``vectors`` vectors of columns, which it holds in registers.

    The elements of a row of the second operand lie side by side (``b_column`` is 1), n and m are at least those of a tile.
    Tiles at the end move back, so that they end where the matrix does: what two of them compute is the same.

    Args:
        dialect: the language.
        dtype: a dtype that has vectors.
        rows: of a tile.
        vectors: of a row of a tile.
        columns: 0, or m where that is less than one vector has lanes, while the rows of the second operand have as
            many elements as one: what the others come to is not stored.
        tail: what is done with the sums.

    Launch: tiles along the rows, along the columns.
    """
    lanes = dialect.lanes[dtype]
    wide = columns or lanes * vectors
    kind, index = dialect.types[dtype], dialect.index
    name = f"tiled_product_{rows}_{vectors}"
    write = _head(dialect, f"{name}_{columns}" if columns else name, dtype, tail)
    tile = Tile(write, dtype, rows, vectors)
    write.line(
        f"{index} i = ({index}){dialect.indices[0]} * {rows}, j = ({index}){dialect.indices[1]} * {wide};"
    )
    write.line(f"if (i + {rows} > n) i = n - {rows};")
    write.line(f"if (j + {wide} > m) j = m - {wide};")
    a = dialect.pointer.format(type=f"const {kind}", name="a")
    b = dialect.pointer.format(type=f"const {kind}", name="b")
    write.line(f"{a} = a_memory + {_place('a')} + i * a_row + first * a_column;")
    write.line(f"{b} = b_memory + {_place('b')} + first * b_row + j;")
    tile.zero()
    write.line(f"for ({index} t = first; t < last; ++t, a += a_column, b += b_row) {{")
    tile.step(lambda r: f"a[{r} * a_row]", "b")
    write.line("}")
    target = dialect.pointer.format(type=kind, name="target")
    write.line(f"{target} = result_memory + {_place('result')} + part * result_part + i * result_row + j;")
    tile.store(lambda r: f"target + {r} * result_row", "i", "j", wide, tail)
    return write.source()


@cache
def row_products(dialect: Dialect, dtype: DType, tail: Epilogue = PLAIN) -> Source:
    """One work-item for as many results of a row as a vector has lanes: products of rows of both operands.

    The elements lie side by side along k (``a_column`` and ``b_row`` are 1). Nothing is transposed for it, which pays where
    there are few rows.

    Launch: vectors of columns, rows.
    """
    lanes = dialect.lanes[dtype]
    kind, index = dialect.types[dtype], dialect.index
    write = _head(dialect, "row_products", dtype, tail)
    vector = dialect.vector.format(type=kind, lanes=lanes)
    zero = dialect.splat.format(type=kind, lanes=lanes, value="0")
    write.line(f"const {index} i = {dialect.indices[1]};")
    write.line(f"{index} j = ({index}){dialect.indices[0]} * {lanes};")
    write.line(f"if (j + {lanes} > m && m >= {lanes}) j = m - {lanes};")
    a = dialect.pointer.format(type=f"const {kind}", name="a")
    write.line(f"{a} = a_memory + {_place('a')} + i * a_row;")
    b = dialect.pointer.format(type=f"const {kind}", name="b")
    write.line(f"{b} = b_memory + {_place('b')} + j * b_column;")
    for c in range(lanes):
        # Where there are fewer columns than lanes, the lanes left over do the last column once more.
        write.line(f"const {index} b{c} = (j + {c} < m ? {c} : m - 1 - j) * b_column;")
        write.line(f"{vector} c0_{c} = {zero};")
    write.line(f"{index} t = first;")
    write.line(f"for (; t + {lanes} <= last; t += {lanes}) {{")
    write.line(f"    const {vector} v = {dialect.load.format(lanes=lanes, place='a + t')};")
    for c in range(lanes):
        load = dialect.load.format(lanes=lanes, place=f"b + b{c} + t")
        write.line(f"    c0_{c} = {dialect.fma.format(a='v', b=load, c=f'c0_{c}')};")
    write.line("}")
    write.line(f"{kind} rest[{lanes}];")
    write.line(f"for (int l = 0; l < {lanes}; ++l) rest[l] = 0;")
    write.line("for (; t < last; ++t) {")
    for c in range(lanes):
        write.line(f"    rest[{c}] += a[t] * b[b{c} + t];")
    write.line("}")
    write.line(f"{kind} sums[{lanes}];")
    add_lanes(write, dtype, [f"c0_{c}" for c in range(lanes)], "sums")
    both = " + ".join(dialect.load.format(lanes=lanes, place=place) for place in ("sums", "rest"))
    write.line(f"{vector} x = {both};")
    target = dialect.pointer.format(type=kind, name="target")
    write.line(f"{target} = result_memory + {_place('result')} + part * result_part + i * result_row + j;")
    write.line(f"if (m >= {lanes}) {{")
    tail.apply(write, dtype, lanes, "i", "j")
    write.line("    " + dialect.store.format(lanes=lanes, value="x", place="target"))
    write.line("    return;")
    write.line("}")
    write.line("    " + dialect.store.format(lanes=lanes, value="x", place="rest"))
    write.line("for (int l = 0; l < m; ++l) {")
    write.line(f"    {kind} x = rest[l];")
    tail.apply(write, dtype, 1, "i", "l")
    write.line("    target[l] = x;")
    write.line("}")
    return write.source()


@cache
def summed_parts(dialect: Dialect, dtype: DType, tail: Epilogue = PLAIN) -> Source:
    """The parts of products added up, in order, and the epilogue. One work-item for a vector of a row.

    Parameters: the parts' memory and first place; the result's memory, first place, strides of the outer and the inner batch
    axis and of the rows; the matrices of the inner batch axis, how many there are in all; n, m; how many parts; then
    those of the epilogue. A part holds all matrices, without gaps. Launch: vectors of a row, rows, matrices.
    """
    lanes = dialect.lanes[dtype]
    kind, index = dialect.types[dtype], dialect.index
    vector = dialect.vector.format(type=kind, lanes=lanes)
    write = Writer(dialect, "summed_parts", (dtype,))
    write.memory("part_memory", dtype)
    write.number("part_start")
    write.memory("result_memory", dtype, const=False)
    write.numbers("result_start", "result_outer", "result_inner", "result_row")
    write.numbers("inners", "count", "n", "m", "parts")
    tail.parameters(write, dtype)
    first, second, third = dialect.indices
    write.line(
        f"const {index} batch = {third}, outer = batch / inners, inner = batch % inners, i = {second};"
    )
    write.line(f"{index} j = ({index}){first} * {lanes};")
    tail.places(write, "outer", "inner")
    source = dialect.pointer.format(type=f"const {kind}", name="source")
    write.line(f"{source} = part_memory + part_start + (batch * n + i) * m;")
    target = dialect.pointer.format(type=kind, name="target")
    write.line(f"{target} = result_memory + {_place('result')} + i * result_row;")
    write.line(f"if (j + {lanes} <= m) {{")
    write.line(f"    {vector} x = {dialect.load.format(lanes=lanes, place='source + j')};")
    load = dialect.load.format(lanes=lanes, place="source + p * count * n * m + j")
    write.line(f"    for ({index} p = 1; p < parts; ++p) x = x + {load};")
    tail.apply(write, dtype, lanes, "i", "j")
    write.line("    " + dialect.store.format(lanes=lanes, value="x", place="target + j"))
    write.line("    return;")
    write.line("}")
    write.line("for (; j < m; ++j) {")
    write.line(f"    {kind} x = source[j];")
    write.line(f"    for ({index} p = 1; p < parts; ++p) x = x + source[p * count * n * m + j];")
    tail.apply(write, dtype, 1, "i", "j")
    write.line("    target[j] = x;")
    write.line("}")
    return write.source()
