"""Launches of elementwise kernels over arrays of any strides, and what is made of them: copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.generated.array import StridedArray, broadcast_strides, empty
from plugrad.generated.device import GeneratedDevice
from plugrad.generated.kernels._transpose import turned
from plugrad.graph.source import Dialect, Source, cast_of, collapse, elementwise
from plugrad.graph.source.elementwise import items, width
from plugrad.spec import Shape

_GROUPS: Final = (1024, 64, 8)
"""Work-items of a group: few sizes, as some drivers compile a kernel once for each."""


def group_of(count: int) -> int:
    """Work-items of a group for so many along the first axis."""
    return next((g for g in _GROUPS if count >= 4 * g), _GROUPS[-1] if count > 1 else 1)


def run_elementwise(
    expression: str, helper: str, operands: Sequence[tuple[str, Any, DType]], into: StridedArray
) -> StridedArray:
    """Write ``expression`` over the elements of ``into``.

    Args:
        expression: over the operands' names.
        helper: a function that it calls, or the empty string.
        operands: for each its name, an array that broadcasts to the shape of ``into`` or a number, and its dtype.
        into: the result.
    """
    layouts = tuple(
        (name, dtype, x.shape, x.strides) if isinstance(x, StridedArray) else (name, dtype, None, None)
        for name, x, dtype in operands
    )
    launch = _settled(into.dialect, expression, helper, layouts, into.dtype, into.shape, into.strides)
    if launch is None:
        return into
    arguments: list[Any] = []
    for (_, x, dtype), steps in zip(operands, launch.steps, strict=True):
        if steps is None:
            arguments.append(number_of(x, dtype, into.dialect))
        else:
            arguments += (x.memory, x.start, *steps)
    arguments += (into.memory, into.start, *launch.tail)
    into.device.launch(launch.source, launch.size, launch.group, arguments)
    return into


@dataclass(frozen=True, slots=True)
class _Launch:
    """What is the same for all arrays of these layouts.

    Attributes:
        source: the kernel.
        size, group: its work-items.
        steps: for each operand the strides along the collapsed axes, None for a number.
        tail: the strides of the result, and the sizes of the axes.
    """

    source: Source
    size: tuple[int, int, int]
    group: tuple[int, int, int]
    steps: tuple[tuple[int, ...] | None, ...]
    tail: tuple[int, ...]


_Layout = tuple[str, DType, Shape | None, tuple[int, ...] | None]


@lru_cache(maxsize=4096)
def _settled(
    dialect: Dialect,
    expression: str,
    helper: str,
    layouts: tuple[_Layout, ...],
    dtype: DType,
    shape: Shape,
    strides: tuple[int, ...],
) -> _Launch | None:
    """The launch for operands and a result of these layouts; None where there is no element."""
    if 0 in shape:
        return None
    own = [broadcast_strides(s, t, shape) for _, _, s, t in layouts if s is not None and t is not None]
    sizes, collapsed = collapse(shape, [*own, strides])
    if not sizes:
        sizes, collapsed = (1,), [(0,)] * len(collapsed)
    rest = iter(collapsed)
    steps = tuple(None if s is None else next(rest) for _, _, s, _ in layouts)
    described = tuple(
        (name, d, "n" if step is None else "c" if step[-1] == 1 else "r" if step[-1] == 0 else "s")
        for (name, d, _, _), step in zip(layouts, steps, strict=True)
    )
    letter = "c" if collapsed[-1][-1] == 1 else "s"
    source = elementwise(dialect, expression, helper, described, dtype, letter, len(sizes))
    size = items(dialect, width(dialect, expression, described, dtype, letter), sizes)
    return _Launch(source, size, (group_of(size[0]), 1, 1), steps, (*collapsed[-1], *sizes))


def copied(x: StridedArray, into: StridedArray) -> StridedArray:
    """The elements of ``x``, which broadcasts to the shape of ``into``, written there."""
    if x.shape == into.shape and turned(x, into):
        return into
    # 16-bit floats are moved as integers, so that no NaN changes.
    x, target = raw(x), raw(into)
    run_elementwise("x", "", [("x", x, x.dtype)], target)
    return into


def raw(x: StridedArray) -> StridedArray:
    """An array of 16-bit floats as one of the unsigned integers of their bits; any other as it is."""
    if x.dtype not in x.dialect.arithmetic:
        return x
    return StridedArray(x.device, x.memory, dtypes.uint16, x.shape, x.strides, x.start)


def cast(x: StridedArray, into: StridedArray) -> StridedArray:
    """The elements of ``x`` in the dtype of ``into``, written there."""
    if x.dtype is into.dtype:
        return copied(x, into)
    expression, helper = cast_of(x.dtype, into.dtype, x.dialect)
    return run_elementwise(expression, helper, [("x", x, x.dtype)], into)


def computable(x: StridedArray) -> StridedArray:
    """``x``, or, where its dtype is only stored, a copy in that of its arithmetic."""
    dtype = x.dialect.computed(x.dtype)
    return x if dtype is x.dtype else cast(x, empty(x.device, x.shape, dtype))


def rounding(function: Callable[[StridedArray], StridedArray], out: StridedArray) -> StridedArray:
    """Let ``function`` write to ``out``; where its dtype is only stored, to an array of its arithmetic, which is rounded."""
    dtype = out.dialect.computed(out.dtype)
    if dtype is out.dtype:
        return function(out)
    return cast(function(empty(out.device, out.shape, dtype)), out)


def number_of(value: Any, dtype: DType, dialect: Dialect) -> Any:
    """A number of the host as a parameter, rounded to ``dtype`` once."""
    return dialect.computed(dtype).numpy.type(dtype.numpy.type(value))


def given(result: StridedArray, into: StridedArray | None) -> StridedArray:
    """``result`` itself, or its elements in ``into``."""
    return result if into is None else copied(result, into)


def contiguous(x: StridedArray) -> StridedArray:
    """``x``, or a copy of it in row-major order without gaps."""
    return x if x.contiguous else copied(x, empty(x.device, x.shape, x.dtype))


def filled(value: Any, into: StridedArray) -> StridedArray:
    """A number written to each element."""
    return run_elementwise("x", "", [("x", value, into.dtype)], into)


def room(device: GeneratedDevice, shape: Shape, dtype: DType, into: StridedArray | None) -> StridedArray:
    """``into``, or a new array."""
    return empty(device, shape, dtype) if into is None else into


def room_like(arrays: Sequence[StridedArray], shape: Shape, dtype: DType) -> StridedArray:
    """A new array whose axes lie in memory in the order of the first operand's that has this shape."""
    strides = next((x.strides for x in arrays if x.shape == shape), None)
    memory = arrays[0].device.allocate(math.prod(shape) * dtype.itemsize)
    return StridedArray(
        arrays[0].device, memory, dtype, shape, None if strides is None else _dense(shape, strides)
    )


@lru_cache(maxsize=4096)
def _dense(shape: Shape, strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides, if no place is left out or reached twice; else None."""
    reached = 1
    for n, step in sorted(zip(shape, strides, strict=True), key=lambda pair: pair[1]):
        if n != 1 and step != reached:
            return None
        reached *= n
    return strides
