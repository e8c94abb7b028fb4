"""Kernels that copy matrices whose columns lie side by side into rows that do."""

from __future__ import annotations

from functools import cache
from itertools import product

from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Dialect, Source, Writer
from plugrad.graph.source.lanes import few, turned


@cache
def transpose(dialect: Dialect, dtype: DType, padded: bool = False) -> Source:
    """``result[i, j] = x[i, j]``, the elements of ``x`` lying side by side along i, those of the result along j.

    One work-item for a square of as many rows and columns as a vector has lanes; both axes have at least as many. Squares at the end move back, so that they end where the matrix does.

    Args:
        dialect: the language, which takes vectors apart.
        dtype: a dtype that has vectors.
        padded: j has at most as many elements as a vector has lanes, and zeros are written where it has fewer.

    Parameters: the operand's memory, first place, strides of the outer and the inner batch axis and along j; the result's
    memory, first place, strides of the outer and the inner batch axis and along i; the matrices of the inner batch axis; the
    sizes of i and j. Launch: squares along i, along j, matrices.
    """
    lanes, kind, index = dialect.lanes[dtype], dialect.types[dtype], dialect.index
    write = Writer(dialect, "transpose_padded" if padded else "transpose", (dtype,))
    for name, axis in (("x", "column"), ("result", "row")):
        write.memory(f"{name}_memory", dtype, const=name == "x")
        write.numbers(f"{name}_start", f"{name}_outer", f"{name}_inner", f"{name}_{axis}")
    write.numbers("inners", "n", "m")
    first, second, third = dialect.indices
    write.line(f"const {index} batch = {third}, outer = batch / inners, inner = batch % inners;")
    write.line(f"{index} i = ({index}){first} * {lanes}, j = ({index}){second} * {lanes};")
    write.line(f"if (i + {lanes} > n) i = n - {lanes};")
    if not padded:
        write.line(f"if (j + {lanes} > m) j = m - {lanes};")
    x = dialect.pointer.format(type=f"const {kind}", name="x")
    write.line(f"{x} = x_memory + x_start + outer * x_outer + inner * x_inner + i + j * x_column;")
    result = dialect.pointer.format(type=kind, name="result")
    start = "result_start + outer * result_outer + inner * result_inner"
    write.line(f"{result} = result_memory + {start} + i * result_row + j;")
    width = few(dtype)
    small = dialect.vector.format(type=kind, lanes=width)
    for row, column in product(range(0, lanes, width), range(0, lanes, width)):
        write.line("{")
        for c in range(width):
            load = dialect.load.format(lanes=width, place=f"x + {row} + {column + c} * x_column")
            if padded:
                zero = dialect.splat.format(type=kind, lanes=width, value="0")
                write.line(f"    {small} s{c} = {zero};")
                write.line(f"    if ({column + c} < m) s{c} = {load};")
            else:
                write.line(f"    const {small} s{c} = {load};")
        for r in range(width):
            value = turned(dialect, dtype, [f"s{c}" for c in range(width)], r)
            where = f"result + {row + r} * result_row + {column}"
            write.line("    " + dialect.store.format(lanes=width, value=value, place=where))
        write.line("}")
    return write.source()
