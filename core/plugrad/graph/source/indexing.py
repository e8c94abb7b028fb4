"""Kernels that read and add where indices point, each of which is checked before it is used.

An index that is out of range changes nothing and reads nothing: the first work-item that finds one leaves a number that
the backend gave it, and the index, in ``report`` (int64: room for the two).
"""

from __future__ import annotations

from functools import cache

from plugrad.dtypes import DType, int32, int64
from plugrad.graph.source.dialect import Dialect, Source, Writer


def _indices(write: Writer, count: int, dtypes: tuple[DType, ...]) -> None:
    for a, dtype in zip(range(count), dtypes, strict=True):
        write.memory(f"index{a}", dtype)
        write.numbers(f"index{a}_start", f"size{a}")
        write.number(f"site{a}", int32)
    write.memory("claim", int32, const=False)
    write.memory("report", int64, const=False)


def _checked(write: Writer, count: int, entry: str, otherwise: str) -> None:
    """Lines that make ``row`` of the indices at ``entry``, or do what ``otherwise`` says."""
    dialect = write.dialect
    kind = dialect.index
    write.line(f"{kind} row = 0;")
    for a in range(count):
        write.line(f"{kind} at{a} = index{a}[index{a}_start + {entry}];")
        write.line(f"if (at{a} < -size{a} || at{a} >= size{a}) {{")
        write.line(f"    if ({dialect.claim.format(name='claim', value=f'site{a}')}) report[0] = at{a};")
        write.line(f"    {otherwise}")
        write.line("}")
        write.line(f"row = row * size{a} + (at{a} < 0 ? at{a} + size{a} : at{a});")


@cache
def gather(dialect: Dialect, dtype: DType, indices: tuple[DType, ...]) -> Source:
    """``x[before, row, after]`` for each entry of the indices, which name the row together; all arrays are contiguous.

    Parameters: the operand's memory and first place; for each index its memory, first place, the size of its axis and
    its site; the claim and the report; the result's memory and first place; how many entries; the size of the axes
    after; the rows. Launch: along the first axis those after, along the second the entries, along the third those before.
    """
    write = Writer(dialect, "gather", (dtype,))
    write.memory("x_memory", dtype)
    write.number("x_start")
    _indices(write, len(indices), indices)
    write.memory("result_memory", dtype, const=False)
    write.numbers("result_start", "entries", "after", "rows")
    kind = dialect.index
    first, second, third = dialect.indices
    write.line(f"const {kind} i = {first}, entry = {second}, before = {third};")
    write.line("if (i >= after) return;")
    write.line(f"const {kind} target = result_start + (before * entries + entry) * after + i;")
    _checked(write, len(indices), "entry", "result_memory[target] = 0; return;")
    write.line("result_memory[target] = x_memory[x_start + (before * rows + row) * after + i];")
    return write.source()


@cache
def scatter(dialect: Dialect, dtype: DType, indices: tuple[DType, ...]) -> Source:
    """``result[before, row, after] += x[before, entry, after]``, entry after entry; all arrays are contiguous.

    Each work-item owns one place of the axes before and after, and takes all entries in order: the sum is the same
    at every run. Parameters: as those of `gather`. Launch: along the first axis the places after, along the second those
    before.
    """
    write = Writer(dialect, "scatter", (dtype,))
    write.memory("x_memory", dtype)
    write.number("x_start")
    _indices(write, len(indices), indices)
    write.memory("result_memory", dtype, const=False)
    write.numbers("result_start", "entries", "after", "rows")
    kind = dialect.index
    wide = dialect.types[dtype] if dtype.is_floating else dialect.word
    write.line(f"const {kind} i = {dialect.indices[0]}, before = {dialect.indices[1]};")
    write.line("if (i >= after) return;")
    write.line(f"for ({kind} entry = 0; entry < entries; ++entry) {{")
    _checked(write, len(indices), "entry", "continue;")
    write.line(f"const {kind} target = result_start + (before * rows + row) * after + i;")
    write.line(f"const {wide} v = ({wide})x_memory[x_start + (before * entries + entry) * after + i];")
    write.line(f"result_memory[target] = ({dialect.types[dtype]})(({wide})result_memory[target] + v);")
    write.line("}")
    return write.source()


@cache
def gather_rows(dialect: Dialect, dtype: DType, indices: tuple[DType, ...]) -> Source:
    """As `gather`, of a dtype that has vectors: a work-item for each entry, which reads the places after in vectors.

    Parameters: as those of `gather`. Launch: along the first axis the entries, along the
    second the places before.
    """
    lanes, kind = dialect.lanes[dtype], dialect.index
    write = Writer(dialect, "gather_rows", (dtype,))
    write.memory("x_memory", dtype)
    write.number("x_start")
    _indices(write, len(indices), indices)
    write.memory("result_memory", dtype, const=False)
    write.numbers("result_start", "entries", "after", "rows")
    write.line(f"const {kind} entry = {dialect.indices[0]}, before = {dialect.indices[1]};")
    write.line("if (entry >= entries) return;")
    element = dialect.types[dtype]
    target = dialect.pointer.format(type=element, name="target")
    write.line(f"{target} = result_memory + result_start + (before * entries + entry) * after;")
    _checked(write, len(indices), "entry", f"for ({kind} i = 0; i < after; ++i) target[i] = 0; return;")
    source = dialect.pointer.format(type=f"const {element}", name="source")
    write.line(f"{source} = x_memory + x_start + (before * rows + row) * after;")
    write.line(f"{kind} i = 0;")
    load = dialect.load.format(lanes=lanes, place="source + i")
    store = dialect.store.format(lanes=lanes, place="target + i", value=load)
    write.line(f"for (; i + {lanes} <= after; i += {lanes}) {store}")
    write.line("for (; i < after; ++i) target[i] = source[i];")
    return write.source()


@cache
def scatter_rows(dialect: Dialect, dtype: DType, indices: tuple[DType, ...]) -> Source:
    """As `scatter`, of a dtype that has vectors: a work-item owns as many places after as a vector has lanes.

    There are as many at least; the last work-item has those that are left over. Launch: along the first axis vectors of places
    after, along the second the places before.
    """
    lanes, kind, element = dialect.lanes[dtype], dialect.index, dialect.types[dtype]
    write = Writer(dialect, "scatter_rows", (dtype,))
    write.memory("x_memory", dtype)
    write.number("x_start")
    _indices(write, len(indices), indices)
    write.memory("result_memory", dtype, const=False)
    write.numbers("result_start", "entries", "after", "rows")
    write.line(f"const {kind} i = ({kind}){dialect.indices[0]} * {lanes}, before = {dialect.indices[1]};")
    source = dialect.pointer.format(type=f"const {element}", name="source")
    write.line(f"{source} = x_memory + x_start + before * entries * after + i;")
    target = dialect.pointer.format(type=element, name="target")
    write.line(f"for ({kind} entry = 0; entry < entries; ++entry, source += after) {{")
    _checked(write, len(indices), "entry", "continue;")
    write.line(f"{target} = result_memory + result_start + (before * rows + row) * after + i;")
    values = [dialect.load.format(lanes=lanes, place=place) for place in ("target", "source")]
    write.line(f"if (i + {lanes} <= after) {{")
    write.line("    " + dialect.store.format(lanes=lanes, place="target", value=" + ".join(values)))
    write.line("    continue;")
    write.line("}")
    write.line(f"for ({kind} l = 0; l < after - i; ++l) target[l] += source[l];")
    write.line("}")
    return write.source()


def _block(write: Writer, dtype: DType) -> None:
    write.memory("x_memory", dtype)
    write.number("x_start")
    write.memory("counts", int64, const=False)
    write.numbers("size", "block", "blocks")


def _over_block(write: Writer) -> None:
    kind = write.dialect.index
    write.line(f"const {kind} item = {write.dialect.indices[0]};")
    write.line("if (item >= blocks) return;")
    write.line(f"const {kind} to = (item + 1) * block < size ? (item + 1) * block : size;")


@cache
def nonzero_count(dialect: Dialect, dtype: DType) -> Source:
    """How many elements of each block are not 0.

    Parameters: the operand's memory, contiguous, and first place; the counts, int64; the elements, those of a block,
    the blocks. Launch: one axis, the blocks.
    """
    write = Writer(dialect, "nonzero_count", (dtype,))
    _block(write, dtype)
    _over_block(write)
    write.line(f"{dialect.index} found = 0;")
    write.line(f"for ({dialect.index} i = item * block; i < to; ++i) found += x_memory[x_start + i] != 0;")
    write.line("counts[item] = found;")
    return write.source()


@cache
def nonzero_write(dialect: Dialect, dtype: DType, ndim: int) -> Source:
    """The indices of the elements that are not 0, in row-major order.

    Parameters: as those of `nonzero_count`, the counts being how many were found in the blocks before; then the result's
    memory, int64, a row for each axis, and first place; the sizes of the axes; how many were found in all. Launch: one
    axis, the blocks.
    """
    write = Writer(dialect, "nonzero_write", (dtype,))
    _block(write, dtype)
    write.memory("result_memory", int64, const=False)
    write.numbers("result_start", *(f"n{a}" for a in range(ndim)), "found")
    _over_block(write)
    kind = dialect.index
    write.line(f"{kind} at = counts[item];")
    write.line(f"for ({kind} i = item * block; i < to; ++i) {{")
    write.line("    if (x_memory[x_start + i] == 0) continue;")
    write.line(f"    {kind} rest = i;")
    for a in range(ndim - 1, -1, -1):
        write.line(f"    result_memory[result_start + {a} * found + at] = rest % n{a}; rest /= n{a};")
    write.line("    ++at;")
    write.line("}")
    return write.source()
