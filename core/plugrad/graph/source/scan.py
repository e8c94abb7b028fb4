"""Kernels along lines: running sums, and orders by merging."""

from __future__ import annotations

from functools import cache

from plugrad.dtypes import DType, int64
from plugrad.graph.source.dialect import Dialect, Source, Writer, decompose, place


@cache
def cumulative(dialect: Dialect, dtype: DType, result: DType, lines: int) -> Source:
    """Running sums in ``result``, one work-item for each line; ``lines`` axes number the lines.

    Parameters: the operand's memory, first place, strides of the lines' axes and along a line; the same of the result;
    the sizes of the lines' axes; the elements of a line of the operand; whether 0 comes first (1 or 0); how many lines.
    Launch: one axis, the lines.
    """
    write = Writer(dialect, "cumulative", (dtype, result))
    k = [f"k{a}" for a in range(lines)]
    for name, d, const in (("x", dtype, True), ("result", result, False)):
        write.memory(f"{name}_memory", d, const)
        write.numbers(f"{name}_start", *(f"{name}_{axis}" for axis in k), f"{name}_step")
    write.numbers(*(f"n_{axis}" for axis in k), "length", "initial", "count")
    index = dialect.index
    kind = dialect.types[result] if result.is_floating else dialect.word
    write.line(f"const {index} item = {dialect.indices[0]};")
    write.line("if (item >= count) return;")
    decompose(write, "item", [f"n_{axis}" for axis in k], k)
    for name in ("x", "result"):
        write.line(f"{index} {name}_at = {place(f'{name}_start', k, [f'{name}_{axis}' for axis in k])};")
    write.line(f"{kind} a = 0;")
    write.line("if (initial) { result_memory[result_at] = 0; result_at += result_step; }")
    write.line(f"for ({index} i = 0; i < length; ++i, x_at += x_step, result_at += result_step) {{")
    write.line(f"    a += ({kind})x_memory[x_at];")
    write.line(f"    result_memory[result_at] = ({dialect.types[result]})a;")
    write.line("}")
    return write.source()


def _before(first: str, second: str, descending: bool) -> str:
    """Whether ``second`` must stand before ``first``, NaN being the largest; equal elements keep their order."""
    low, high = (first, second) if descending else (second, first)
    return f"({low} < {high} || ({low} == {low} && {high} != {high}))"


@cache
def sort_runs(dialect: Dialect, dtype: DType, descending: bool) -> Source:
    """Indices of short runs of each line brought into stable order by insertion, one work-item for each run.

    Parameters: the elements' memory, contiguous lines, and first place; the indices' memory, int64; the elements of a
    line, and of a run; the runs of a line; how many runs in all. Launch: one axis, the runs.
    """
    write = Writer(dialect, "sort_runs", (dtype,))
    write.memory("x_memory", dtype)
    write.number("x_start")
    write.memory("order", int64, const=False)
    write.numbers("length", "run", "runs", "count")
    index, kind = dialect.index, dialect.types[dtype]
    write.line(f"const {index} item = {dialect.indices[0]};")
    write.line("if (item >= count) return;")
    write.line(f"const {index} line = item / runs * length, from = item % runs * run;")
    write.line(f"const {index} to = from + run < length ? from + run : length;")
    write.line(f"for ({index} i = from; i < to; ++i) {{")
    write.line(f"    const {kind} v = x_memory[x_start + line + i];")
    write.line(f"    {index} j = i;")
    write.line("    for (; j > from; --j) {")
    write.line(f"        const {index} other = order[line + j - 1];")
    write.line(f"        const {kind} u = x_memory[x_start + line + other];")
    write.line(f"        if (!{_before('u', 'v', descending)}) break;")
    write.line("        order[line + j] = other;")
    write.line("    }")
    write.line("    order[line + j] = i;")
    write.line("}")
    return write.source()


@cache
def merge_runs(dialect: Dialect, dtype: DType, descending: bool) -> Source:
    """Pairs of neighbouring runs of each line merged stably, one work-item for each pair.

    Parameters: as those of `sort_runs`, with the memory of the merged indices after that of the indices; ``run`` is the
    length of a run before, and ``runs`` counts the pairs of a line. Launch: one axis, the pairs.
    """
    write = Writer(dialect, "merge_runs", (dtype,))
    write.memory("x_memory", dtype)
    write.number("x_start")
    write.memory("order", int64)
    write.memory("merged", int64, const=False)
    write.numbers("length", "run", "pairs", "count")
    index, kind = dialect.index, dialect.types[dtype]
    write.line(f"const {index} item = {dialect.indices[0]};")
    write.line("if (item >= count) return;")
    write.line(f"const {index} line = item / pairs * length, from = item % pairs * (2 * run);")
    write.line(f"const {index} middle = from + run < length ? from + run : length;")
    write.line(f"const {index} to = middle + run < length ? middle + run : length;")
    write.line(f"{index} i = from, j = middle;")
    write.line(f"for ({index} at = from; at < to; ++at) {{")
    write.line("    int right = i >= middle;")
    write.line("    if (!right && j < to) {")
    write.line(f"        const {kind} u = x_memory[x_start + line + order[line + i]];")
    write.line(f"        const {kind} v = x_memory[x_start + line + order[line + j]];")
    write.line(f"        right = {_before('u', 'v', descending)};")
    write.line("    }")
    write.line("    merged[line + at] = right ? order[line + j++] : order[line + i++];")
    write.line("}")
    return write.source()
