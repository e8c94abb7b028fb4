"""Kernels that make one value of many: sums, products, largest elements and where they are.

The axes that stay and those that are reduced are collapsed by themselves. Three forms do the work: one work-item for
each result (`reduce`), one for each row of elements that lie side by side (`reduce_rows`), and one for several columns
side by side (`reduce_columns`). In each, elements are taken in one fixed order.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from plugrad.dtypes import DType, int64
from plugrad.graph.source.dialect import Dialect, Source, Writer, decompose, place

_STEPS: Final = {
    "sum": "{a} = {a} + {v};",
    "prod": "{a} = {a} * {v};",
    "max": "{a} = {v} > {a} || {v} != {v} ? {v} : {a};",
}
_INITIAL: Final = {"sum": "0", "prod": "1"}


def _accumulator(dialect: Dialect, dtype: DType) -> str:
    """The type to add up in: integers wrap around as the widest unsigned one does."""
    return dialect.types[dtype] if dtype.is_floating else dialect.word


def _start(function: str, first: str) -> str:
    return _INITIAL.get(function, first)


@cache
def reduce(dialect: Dialect, function: str, dtype: DType, result: DType, kept: int, reduced: int) -> Source:
    """One work-item for each result: ``sum``, ``prod`` or ``max`` over ``reduced`` axes, ``kept`` axes staying.

    Parameters: the operand's memory, first place, strides of the axes kept and of those reduced; the result's memory,
    first place and strides; the sizes kept, and reduced; how many results. Launch: one axis, the results.
    """
    write, k, j = _head(dialect, f"reduce_{function}", dtype, result, kept, reduced)
    types = dialect.types
    kind = types[dtype] if function == "max" else _accumulator(dialect, result)
    base = place("x_start", k, [f"x_k{a}" for a in range(kept)])
    write.line(f"const {dialect.index} base = {base};")
    write.line(f"{kind} a = {_start(function, 'x_memory[base]')};")
    _loops(write, j)
    where = place("base", j, [f"x_r{a}" for a in range(reduced)])
    write.line(f"const {kind} v = ({kind})x_memory[{where}];")
    write.line(_STEPS[function].format(a="a", v="v"))
    write.line("}" * reduced)
    write.line(f"result_memory[{_target(k, kept)}] = ({types[result]})a;")
    return write.source()


@cache
def arg_reduce(dialect: Dialect, dtype: DType, kept: int, reduced: int) -> Source:
    """The position, int64, of the first largest element among those reduced in row-major order; NaN is the largest.

    Parameters and launch as those of `reduce`.
    """
    write, k, j = _head(dialect, "arg_reduce", dtype, int64, kept, reduced)
    kind = dialect.types[dtype]
    write.line(f"const {dialect.index} base = {place('x_start', k, [f'x_k{a}' for a in range(kept)])};")
    write.line(f"{kind} a = x_memory[base];")
    write.line(f"{dialect.index} position = 0, best = 0;")
    _loops(write, j)
    where = place("base", j, [f"x_r{a}" for a in range(reduced)])
    write.line(f"const {kind} v = x_memory[{where}];")
    write.line("if (v > a || (v != v && a == a)) { a = v; best = position; }")
    write.line("++position;")
    write.line("}" * reduced)
    write.line(f"result_memory[{_target(k, kept)}] = best;")
    return write.source()


@cache
def reduce_rows(dialect: Dialect, function: str, dtype: DType, kept: int) -> Source:
    """One work-item for each block of a row whose elements lie side by side, in vectors; dtype in and out are one.

    Parameters: the operand's memory, first place and strides of the axes kept; the result's memory and first place, its
    results standing row by row, those of a row's blocks side by side; the sizes kept; the elements of a row, of a block;
    the blocks of a row; how many results. Launch: one axis, the results.
    """
    lanes, kind = dialect.lanes[dtype], dialect.types[dtype]
    vector = dialect.vector.format(type=kind, lanes=lanes)
    write = Writer(dialect, f"reduce_rows_{function}", (dtype,))
    k = [f"k{a}" for a in range(kept)]
    write.memory("x_memory", dtype)
    write.numbers("x_start", *(f"x_{name}" for name in k))
    write.memory("result_memory", dtype, const=False)
    write.numbers("result_start", *(f"n_{name}" for name in k), "length", "block", "blocks", "count")
    index = dialect.index
    write.line(f"const {index} item = {dialect.indices[0]};")
    write.line("if (item >= count) return;")
    decompose(write, "item / blocks", [f"n_{name}" for name in k], k)
    write.line(f"const {index} from = item % blocks * block;")
    write.line(f"const {index} to = from + block < length ? from + block : length;")
    write.line(f"const {index} base = {place('x_start', k, [f'x_{name}' for name in k])};")
    splat = dialect.splat.format(type=kind, lanes=lanes, value=_start(function, "x_memory[base + from]"))
    write.line(f"{vector} wide = {splat};")
    write.line(f"{index} i = from;")
    write.line(f"for (; i + {lanes} <= to; i += {lanes}) {{")
    write.line(f"    const {vector} v = {dialect.load.format(lanes=lanes, place='x_memory + base + i')};")
    write.line("    " + _STEPS[function].format(a="wide", v="v"))
    write.line("}")
    write.line(f"{kind} part[{lanes}];")
    write.line(dialect.store.format(lanes=lanes, value="wide", place="part").strip())
    write.line(f"for (int step = {lanes // 2}; step; step /= 2)")
    write.line("    for (int l = 0; l < step; ++l) {")
    write.line(f"        const {kind} v = part[l + step];")
    write.line("        " + _STEPS[function].format(a="part[l]", v="v"))
    write.line("    }")
    write.line(f"{kind} a = part[0];")
    write.line(
        f"for (; i < to; ++i) {{ const {kind} v = x_memory[base + i]; {_STEPS[function].format(a='a', v='v')} }}"
    )
    write.line("result_memory[result_start + item] = a;")
    return write.source()


@cache
def reduce_columns(dialect: Dialect, function: str, dtype: DType, kept: int, reduced: int) -> Source:
    """One work-item for as many neighbouring columns as a vector has lanes; the last axis kept has stride 1 on both sides.

    Parameters: as those of `reduce`, but for the last, how many results. Launch: along the first axis the columns in
    vectors, along the second the other axes kept.
    """
    lanes, kind = dialect.lanes[dtype], dialect.types[dtype]
    vector = dialect.vector.format(type=kind, lanes=lanes)
    write = Writer(dialect, f"reduce_columns_{function}", (dtype,))
    k, j = _parameters(write, dtype, dtype, kept, reduced)
    index = dialect.index
    decompose(write, dialect.indices[1], [f"n_{name}" for name in k[:-1]], k[:-1])
    write.line(f"{index} {k[-1]} = ({index}){dialect.indices[0]} * {lanes};")
    x_strides = [*(f"x_k{a}" for a in range(kept - 1)), "1"]
    for wide in (True, False):
        if wide:
            write.line(f"if ({k[-1]} + {lanes} <= n_{k[-1]}) {{")
        else:
            write.line(f"for (; {k[-1]} < n_{k[-1]}; ++{k[-1]}) {{")
        write.line(f"const {index} base = {place('x_start', k, x_strides)};")

        def loaded(where: str, wide: bool = wide) -> str:
            return (
                dialect.load.format(lanes=lanes, place=f"x_memory + {where}")
                if wide
                else f"x_memory[{where}]"
            )

        first = _INITIAL.get(function)
        if first is None:
            first = loaded("base")
        elif wide:
            first = dialect.splat.format(type=kind, lanes=lanes, value=first)
        write.line(f"{vector if wide else kind} a = {first};")
        _loops(write, j)
        where = place("base", j, [f"x_r{a}" for a in range(reduced)])
        write.line(f"const {vector if wide else kind} v = {loaded(where)};")
        write.line(_STEPS[function].format(a="a", v="v"))
        write.line("}" * reduced)
        target = place("result_start", k, [*(f"result_k{a}" for a in range(kept - 1)), "1"])
        if wide:
            write.line(dialect.store.format(lanes=lanes, value="a", place=f"result_memory + {target}"))
            write.line("return;")
        else:
            write.line(f"result_memory[{target}] = a;")
        write.line("}")
    return write.source()


def _parameters(
    write: Writer, dtype: DType, result: DType, kept: int, reduced: int
) -> tuple[list[str], list[str]]:
    k, j = [f"k{a}" for a in range(kept)], [f"r{a}" for a in range(reduced)]
    write.memory("x_memory", dtype)
    write.numbers("x_start", *(f"x_{name}" for name in (*k, *j)))
    write.memory("result_memory", result, const=False)
    write.numbers("result_start", *(f"result_{name}" for name in k), *(f"n_{name}" for name in (*k, *j)))
    return k, j


def _head(
    dialect: Dialect, name: str, dtype: DType, result: DType, kept: int, reduced: int
) -> tuple[Writer, list[str], list[str]]:
    write = Writer(dialect, name, (dtype, result))
    k, j = _parameters(write, dtype, result, kept, reduced)
    write.number("count")
    write.line(f"const {dialect.index} item = {dialect.indices[0]};")
    write.line("if (item >= count) return;")
    decompose(write, "item", [f"n_{n}" for n in k], k)
    return write, k, j


def _loops(write: Writer, names: list[str]) -> None:
    for name in names:
        write.line(f"for ({write.dialect.index} {name} = 0; {name} < n_{name}; ++{name}) {{")


def _target(k: list[str], kept: int) -> str:
    return place("result_start", k, [f"result_k{a}" for a in range(kept)])
