"""Launches of elementwise kernels over arrays of any strides, and what is made of them: copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.graph.source import cast_of, collapse, elementwise
from plugrad.graph.source.elementwise import width
from plugrad.spec import Shape
from plugrad_opencl._array import CLArray, broadcast, empty
from plugrad_opencl._device import CLDevice
from plugrad_opencl._dialect import OPENCL_C

_GROUPS: Final = (1024, 64, 8)
"""Work-items of a group: few sizes, as some drivers compile a kernel once for each."""


def group_of(count: int) -> int:
    """Work-items of a group for so many along the first axis."""
    return next((g for g in _GROUPS if count >= 4 * g), _GROUPS[-1] if count > 1 else 1)


def run_elementwise(
    expression: str, helper: str, operands: Sequence[tuple[str, Any, DType]], into: CLArray
) -> CLArray:
    """Write ``expression`` over the elements of ``into``.

    Args:
        expression: over the operands' names.
        helper: a function that it calls, or the empty string.
        operands: for each its name, an array that broadcasts to the shape of ``into`` or a number, and its dtype.
        into: the result.
    """
    if not into.size:
        return into
    arrays = [broadcast(x, into.shape) if isinstance(x, CLArray) else None for _, x, _ in operands]
    strided = [a.strides for a in arrays if a is not None]
    sizes, strides = collapse(into.shape, [*strided, into.strides])
    if not sizes:
        sizes, strides = (1,), [(0,)] * len(strides)
    ndim, steps = len(sizes), iter(strides)
    described, arguments = [], []
    for (name, value, dtype), array in zip(operands, arrays, strict=True):
        if array is None:
            described.append((name, dtype, "n"))
            arguments.append(_number(value, dtype))
            continue
        own = next(steps)
        described.append((name, dtype, "c" if own[-1] == 1 else "r" if own[-1] == 0 else "s"))
        arguments += [array.memory, array.start, *own]
    arguments += [into.memory, into.start, *strides[-1], *sizes]
    letter = "c" if strides[-1][-1] == 1 else "s"
    source = elementwise(OPENCL_C, expression, helper, tuple(described), into.dtype, letter, ndim)
    lanes = width(OPENCL_C, expression, tuple(described), into.dtype, letter, ndim)
    first = -(-sizes[-1] // lanes)
    second = sizes[-2] if ndim > 1 else 1
    into.device.launch(source, (first, second, math.prod(sizes[:-2])), (group_of(first), 1, 1), arguments)
    return into


def copied(x: CLArray, into: CLArray) -> CLArray:
    """The elements of ``x``, which broadcasts to the shape of ``into``, written there."""
    # 16-bit floats are moved as integers, so that no NaN changes.
    x, target = raw(x), raw(into)
    run_elementwise("x", "", [("x", x, x.dtype)], target)
    return into


def raw(x: CLArray) -> CLArray:
    """An array of 16-bit floats as one of the unsigned integers of their bits; any other as it is."""
    if x.dtype not in OPENCL_C.arithmetic:
        return x
    return CLArray(x.device, x.memory, dtypes.uint16, x.shape, x.strides, x.start)


def cast(x: CLArray, into: CLArray) -> CLArray:
    """The elements of ``x`` in the dtype of ``into``, written there."""
    if x.dtype is into.dtype:
        return copied(x, into)
    expression, helper = cast_of(x.dtype, into.dtype, OPENCL_C)
    return run_elementwise(expression, helper, [("x", x, x.dtype)], into)


def computable(x: CLArray) -> CLArray:
    """``x``, or, where its dtype is only stored, a copy in that of its arithmetic."""
    dtype = OPENCL_C.computed(x.dtype)
    return x if dtype is x.dtype else cast(x, empty(x.device, x.shape, dtype))


def rounding(function: Callable[[CLArray], CLArray], out: CLArray) -> CLArray:
    """Let ``function`` write to ``out``; where its dtype is only stored, to an array of its arithmetic, which is rounded."""
    dtype = OPENCL_C.computed(out.dtype)
    if dtype is out.dtype:
        return function(out)
    return cast(function(empty(out.device, out.shape, dtype)), out)


def _number(value: Any, dtype: DType) -> Any:
    """A number of the host as a parameter, rounded to ``dtype`` once."""
    return OPENCL_C.computed(dtype).numpy.type(dtype.numpy.type(value))


def given(result: CLArray, into: CLArray | None) -> CLArray:
    """``result`` itself, or its elements in ``into``."""
    return result if into is None else copied(result, into)


def contiguous(x: CLArray) -> CLArray:
    """``x``, or a copy of it in row-major order without gaps."""
    return x if x.contiguous else copied(x, empty(x.device, x.shape, x.dtype))


def filled(value: Any, into: CLArray) -> CLArray:
    """A number written to each element."""
    return run_elementwise("x", "", [("x", value, into.dtype)], into)


def room(device: CLDevice, shape: Shape, dtype: DType, into: CLArray | None) -> CLArray:
    """``into``, or a new array."""
    return empty(device, shape, dtype) if into is None else into
