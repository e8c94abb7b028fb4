"""`StridedArray`: elements in a device's memory, by their first place and their strides; and the views of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from plugrad.dtypes import DType
from plugrad.generated.device import GeneratedDevice
from plugrad.generated.memory import Memory, Part, Row
from plugrad.graph.source import Dialect, collapse, contiguous_strides
from plugrad.spec import Shape

_serials = itertools.count()


class StridedArray:
    """An array of the backend.

    Attributes:
        device: where it lives.
        memory: what the elements lie in, which views share; None where there are none.
        start: the place of the first element, counted in elements.
        strides: places from one element to the next along each axis; 0 where an axis is repeated.
        shape: the sizes.
        dtype: the dtype.
        serial: its own; no other array has it.
    """

    __slots__ = ("device", "dtype", "memory", "serial", "shape", "start", "strides")

    def __init__(
        self,
        device: GeneratedDevice,
        memory: Memory | None,
        dtype: DType,
        shape: Shape,
        strides: Sequence[int] | None = None,
        start: int = 0,
    ) -> None:
        self.device = device
        self.memory = memory
        self.dtype = dtype
        self.shape = shape
        self.strides = contiguous_strides(shape) if strides is None else tuple(strides)
        self.start = start
        self.serial = next(_serials)

    @property
    def dialect(self) -> Dialect:
        """The language of the device."""
        return self.device.dialect

    @property
    def size(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the elements stand in row-major order without gaps."""
        if not self.size:
            return True
        sizes, (strides,) = collapse(self.shape, [self.strides])
        return not sizes or strides == (1,)

    def view(self, shape: Shape, strides: Sequence[int], start: int | None = None) -> StridedArray:
        """Elements of the same memory."""
        return StridedArray(
            self.device, self.memory, self.dtype, shape, strides, self.start if start is None else start
        )


def empty(device: GeneratedDevice, shape: Shape, dtype: DType) -> StridedArray:
    """A new contiguous array, its elements unspecified."""
    return StridedArray(device, device.allocate(math.prod(shape) * dtype.itemsize), dtype, shape)


def side_by_side(device: GeneratedDevice, shapes: Sequence[Shape], dtype: DType) -> list[StridedArray]:
    """New contiguous arrays, one directly behind the other in a block."""
    sizes = [math.prod(s) for s in shapes]
    whole = device.allocate(sum(sizes) * dtype.itemsize)
    if whole is None:
        return [StridedArray(device, None, dtype, s) for s in shapes]
    row = Row.of(whole)
    starts = itertools.accumulate(sizes, initial=0)
    found = [
        StridedArray(device, Part(row) if n else None, dtype, s, start=at)
        for s, n, at in zip(shapes, sizes, starts, strict=False)
    ]
    row.serials = [a.serial for a in found]
    return found


def joined(arrays: Sequence[StridedArray | None]) -> StridedArray | None:
    """The elements of arrays that `side_by_side` gave, all of them, in order, as one array; else None."""
    first = arrays[0]
    memory = None if first is None else first.memory
    if not isinstance(memory, Part) or memory.row.serials != [
        None if a is None else a.serial for a in arrays
    ]:
        return None
    assert first is not None
    size = sum(math.prod(a.shape) for a in arrays if a is not None)
    return StridedArray(first.device, memory.row, first.dtype, (size,))


def as_host(x: StridedArray, memory: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The elements in the bytes of its memory, as the host sees them."""
    itemsize = x.dtype.itemsize
    steps = [s * itemsize for s in x.strides]
    return np.ndarray(x.shape, x.dtype.numpy, memory, x.start * itemsize, steps)


def permuted(x: StridedArray, axes: Sequence[int]) -> StridedArray:
    """The view whose axis ``i`` is axis ``axes[i]`` of ``x``."""
    return x.view(tuple(x.shape[a] for a in axes), [x.strides[a] for a in axes])


def broadcast_strides(shape: Shape, strides: Sequence[int], wanted: Shape) -> tuple[int, ...]:
    """The strides of an array as it broadcasts to the shape ``wanted``."""
    own = tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))
    return (0,) * (len(wanted) - len(shape)) + own


def broadcast(x: StridedArray, shape: Shape) -> StridedArray:
    """The view of ``x`` as it broadcasts to ``shape``."""
    return x.view(shape, broadcast_strides(x.shape, x.strides, shape))


def sliced(x: StridedArray, bounds: Sequence[tuple[int, int, int]]) -> StridedArray:
    """The view of what ``(start, stop, step)``, as `slice.indices` gives them, select along each axis."""
    shape = tuple(len(range(*b)) for b in bounds)
    start = x.start + sum(b[0] * s for b, s in zip(bounds, x.strides, strict=True))
    return x.view(shape, [b[2] * s for b, s in zip(bounds, x.strides, strict=True)], start)


def reshaped(x: StridedArray, shape: Shape) -> StridedArray | None:
    """The view of the elements in row-major order in another shape; None where the strides allow none."""
    if not x.size:
        return x.view(shape, contiguous_strides(shape))
    sizes, (steps,) = collapse(x.shape, [x.strides])
    strides: list[int] = []
    remaining = list(zip(sizes, steps, strict=True))
    # From the last axis on, each new axis must divide what is left of an old one.
    for n in reversed(shape):
        if n == 1:
            strides.append(0)
            continue
        size, step = remaining[-1]
        if size % n:
            return None
        strides.append(step)
        if size == n:
            remaining.pop()
        else:
            remaining[-1] = size // n, step * n
    return x.view(shape, strides[::-1])
