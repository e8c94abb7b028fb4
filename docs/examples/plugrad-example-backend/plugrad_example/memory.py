"""`Buffer`, this device's own array, and the places of elements in it.

Elements lie in row-major order without gaps, in an `array.array`. A place is the number of an element in that order.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.spec import Shape

CODES: Final = dict(
    zip((*dtypes.BOOLEAN, *dtypes.INTEGER, dtypes.float32, dtypes.float64), "BbhiqBHIQfd", strict=True)
)
"""The dtypes of this device, each with the typecode of `array.array` that stores it."""


@dataclass(slots=True, eq=False)
class Buffer:
    """Elements, their dtype, and the shape that they fill."""

    elements: array[Any]
    dtype: DType
    shape: Shape


Into = Buffer | None
"""The buffer whose memory a kernel is to write its result into, if there is one."""


def allocate(shape: Shape, dtype: DType) -> Buffer:
    """A buffer of zeros."""
    return Buffer(array(CODES[dtype], bytes(math.prod(shape) * dtype.itemsize)), dtype, shape)


def store(values: Iterable[Any], dtype: DType, shape: Shape, into: Into) -> Buffer:
    """Values in a new buffer, or in ``into``: bools as 0 and 1, integers wrapped around, floats rounded.

    The last value is computed before the first is written, so ``into`` may be the buffer they are made from.
    """
    if dtype is dtypes.bool:
        values = map(bool, values)
    elif dtype.is_integer:
        low, mask = dtypes.iinfo(dtype).min, (1 << 8 * dtype.itemsize) - 1
        values = [(v - low & mask) + low for v in values]
    elements = array(CODES[dtype], values)
    if into is None:
        return Buffer(elements, dtype, shape)
    into.elements[:] = elements
    return into


def strides(shape: Shape) -> Shape:
    """From an element to the next along each axis: how many places."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def places(shape: Sequence[int], steps: Sequence[int], start: int = 0) -> list[int]:
    """Where the elements of a shape lie, in row-major order, given the steps along its axes."""
    found = [start]
    for size, step in zip(shape, steps, strict=True):
        offsets = [i * step for i in range(size)]
        found = [place + offset for place in found for offset in offsets]
    return found


def repeated(x: Shape, shape: Shape, steps: Shape) -> list[int]:
    """The places of ``x``, of these steps, as it broadcasts to ``shape``: an axis of size 1 is stepped by 0."""
    new = (0,) * (len(shape) - len(x))
    return places(shape, (*new, *(0 if n == 1 else s for n, s in zip(x, steps, strict=True))))


def lines(shape: Shape, axes: Sequence[int]) -> list[list[int]]:
    """The places that differ in the indices of ``axes`` alone, line by line."""
    steps = strides(shape)
    rest = [i for i in range(len(shape)) if i not in axes]
    along = places([shape[i] for i in axes], [steps[i] for i in axes])
    starts = places([shape[i] for i in rest], [steps[i] for i in rest])
    return [[start + offset for offset in along] for start in starts]
