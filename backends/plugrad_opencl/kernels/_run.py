"""Launches of elementwise kernels over arrays of any strides, and what is made of them: copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from plugrad.dtypes import DType
from plugrad.graph.source import collapse, elementwise
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
            arguments.append(dtype.numpy.type(value))
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
    return run_elementwise("x", "", [("x", x, x.dtype)], into)


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
