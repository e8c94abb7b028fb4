"""Elementwise kernels: an expression over operands of any strides."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
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
    then the sizes of the axes. Launch: see `items`.

    The expression is made of vectors where it can be: all that is stored is of one floating dtype which has them, lies
    side by side along the last axis, and nothing is chosen by comparison (which languages give other values for
    vectors). See `width`. A work-item has a vector then, or, of several axes, a line along the last one.
    """
    lanes = width(dialect, expression, operands, result, letter)
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
    first, end = axes[-1], sizes[-1]
    if ndim == 1:
        write.line(f"{kind} {first} = ({kind}){dialect.indices[0]} * {lanes};")
        write.line(f"if ({first} + {lanes} <= {end}) {{")
    else:
        chunk, end = dialect.profile.chunk, "end"
        write.line(
            f"const {kind} item = {dialect.indices[0]}, pieces = ({sizes[-1]} + {chunk - 1}) / {chunk};"
        )
        write.line(f"if (item >= {' * '.join(sizes[:-1])} * pieces) return;")
        decompose(write, "item / pieces", sizes[:-1], axes[:-1])
        write.line(f"{kind} {first} = item % pieces * {chunk};")
        write.line(f"const {kind} end = {first} + {chunk} < {sizes[-1]} ? {first} + {chunk} : {sizes[-1]};")
        write.line(f"for (; {first} + {lanes} <= end; {first} += {lanes}) {{")
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
    if ndim == 1:
        write.line("    return;")
    write.line("}")
    write.line(f"for (; {first} < {end}; ++{first}) {{")
    _scalar(write, expression, operands, result, places, numbers="_number")
    write.line("}")
    return write.source()


def width(
    dialect: Dialect, expression: str, operands: tuple[Operand, ...], result: DType, letter: str
) -> int:
    """How many elements a work-item computes as one vector; 1 where the kernel has none."""
    same = bool(operands) and all(dtype is result for _, dtype, _ in operands)
    in_order = letter == "c" and all(own != "s" for _, _, own in operands)
    if same and in_order and not _CHOOSES.search(expression):
        return dialect.lanes.get(result, 1)
    return 1


def items(dialect: Dialect, lanes: int, sizes: Sequence[int]) -> tuple[int, int, int]:
    """The work-items of a launch, along each axis.

    Args:
        dialect: the language.
        lanes: what `width` says.
        sizes: of the axes of the space.

    Returns:
        Where the kernel is of numbers, those of the last axis, of the one before, and of what is left. Where it is of
        vectors, those of one axis, or of several in one row the lines, in pieces of ``dialect.profile.chunk`` elements.
    """
    if lanes > 1 and len(sizes) > 1:
        return math.prod(sizes[:-1]) * -(-sizes[-1] // dialect.profile.chunk), 1, 1
    return -(-sizes[-1] // lanes), sizes[-2] if len(sizes) > 1 else 1, math.prod(sizes[:-2])


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
