"""Elementwise kernels: an expression over operands of any strides."""

from __future__ import annotations

import re
from functools import cache

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Dialect, Source, Writer, decompose, place

Operand = tuple[str, DType, str]
"""The name, the dtype, and a letter: ``c`` contiguous along the last axis, ``r`` repeated along it, ``s`` of another
stride there, ``n`` a number that is a parameter."""

_CHOOSES = re.compile(r"[<>=!?|&~%]")


@cache
def elementwise(
    dialect: Dialect,
    expression: str,
    helper: str,
    operands: tuple[Operand, ...],
    result: DType,
    letter: str,
    ndim: int,
) -> Source:
    """The kernel that writes ``expression`` at each index of a space of ``ndim`` axes, one at least.

    The expression is over the operands' names and the indices ``i0``, ``i1``, ...; ``letter`` is that of the result.

    Parameters: for each operand its memory, its first place and its strides, or the number; then those of the result;
    then the sizes of the axes. Launch: along the first axis the last axis of the space, in vectors of ``width`` elements;
    along the second the one before; along the third what is left, in row-major order.

    The expression is made of vectors where it can be: all that is stored is of one floating dtype which has them, lies
    in the order of the space along one axis, and nothing is chosen by comparison (which languages give other values
    for vectors). See `width`.
    """
    lanes = width(dialect, expression, operands, result, letter, ndim)
    write = Writer(dialect, "elementwise", (*(d for _, d, _ in operands), result))
    if helper:
        write.helper(helper)
    axes = [f"i{a}" for a in range(ndim)]
    sizes = [f"n{a}" for a in range(ndim)]
    places: dict[str, str] = {}
    for name, dtype, own in operands:
        if own == "n":
            write.number(name if lanes == 1 else f"{name}_number", dtype)
            continue
        write.memory(f"{name}_memory", dtype)
        places[name] = _place(write, name, axes, own)
    write.memory("result_memory", result, const=False)
    places[""] = _place(write, "result", axes, letter)
    write.numbers(*sizes)
    kind = dialect.index
    if lanes == 1:
        write.line(f"const {kind} {axes[-1]} = {dialect.indices[0]};")
        write.line(f"if ({axes[-1]} >= {sizes[-1]}) return;")
        _outer(write, axes, sizes)
        _scalar(write, expression, operands, result, places)
        return write.source()
    first = axes[-1]
    write.line(f"{kind} {first} = ({kind}){dialect.indices[0]} * {lanes};")
    write.line(f"if ({first} + {lanes} <= {sizes[-1]}) {{")
    vector = dialect.vector.format(type=dialect.types[result], lanes=lanes)
    for name, _, own in operands:
        if own == "c":
            where = f"{name}_memory + {places[name]}"
            value = dialect.load.format(lanes=lanes, place=where)
        else:
            number = f"{name}_number" if own == "n" else f"{name}_memory[{places[name]}]"
            value = dialect.splat.format(type=dialect.types[result], lanes=lanes, value=number)
        write.line(f"    const {vector} {name} = {value};")
    where = f"result_memory + {places['']}"
    write.line("    " + dialect.store.format(lanes=lanes, value=expression, place=where))
    write.line("    return;")
    write.line("}")
    write.line(f"for (; {first} < {sizes[-1]}; ++{first}) {{")
    _scalar(write, expression, operands, result, places, numbers="_number")
    write.line("}")
    return write.source()


def width(
    dialect: Dialect, expression: str, operands: tuple[Operand, ...], result: DType, letter: str, ndim: int
) -> int:
    """How many elements a work-item computes as one vector; 1 where the kernel has none."""
    same = bool(operands) and all(dtype is result for _, dtype, _ in operands)
    in_order = ndim == 1 and letter == "c" and all(own != "s" for _, _, own in operands)
    if same and in_order and not _CHOOSES.search(expression):
        return dialect.lanes.get(result, 1)
    return 1


def _place(write: Writer, name: str, axes: list[str], letter: str) -> str:
    start, strides = f"{name}_start", [f"{name}_s{a}" for a in range(len(axes))]
    write.numbers(start, *strides)
    last = {"c": "1", "r": "0"}.get(letter, strides[-1])
    return place(start, axes, [*strides[:-1], last])


def _outer(write: Writer, axes: list[str], sizes: list[str]) -> None:
    """The indices of all axes but the last."""
    if len(axes) > 1:
        write.line(f"const {write.dialect.index} {axes[-2]} = {write.dialect.indices[1]};")
    decompose(write, write.dialect.indices[2], sizes[:-2], axes[:-2])


def _scalar(
    write: Writer,
    expression: str,
    operands: tuple[Operand, ...],
    result: DType,
    places: dict[str, str],
    numbers: str = "",
) -> None:
    dialect = write.dialect
    types = {d: dialect.types[dialect.computed(d)] for d in (result, *(d for _, d, _ in operands))}
    for name, dtype, letter in operands:
        if letter != "n":
            write.line(
                f"const {types[dtype]} {name} = {dialect.element(dtype, f'{name}_memory', places[name])};"
            )
        elif numbers:
            write.line(f"const {types[dtype]} {name} = {name}{numbers};")
    value = f"({expression}) ? 1 : 0" if result is dtypes.bool else f"({types[result]})({expression})"
    write.line(dialect.write(result, "result_memory", places[""], value))
