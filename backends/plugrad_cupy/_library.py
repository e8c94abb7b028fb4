"""Calls of CuPy's own that go to the stream in the place of a kernel, so that they are recorded and repeated like one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cupy

from plugrad.dtypes import DType, int64
from plugrad.graph.source import Source
from plugrad.graph.source.dialect import MEMORY
from plugrad.spec import Shape

Strides = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LibraryCall(Source):
    """What stands for a kernel's text: called as a kernel is, it calls a library on arrays in the device's memory.

    Attributes:
        layouts: shape and strides, in elements, of each array, the result last.
        dtype: that of all.
    """

    layouts: tuple[tuple[Shape, Strides], ...]
    dtype: DType

    def __call__(self, grid: Any, threads: Any, arguments: Sequence[Any]) -> None:
        """Call the library; ``arguments`` are addresses, each followed by the first element's place."""
        del grid, threads
        *operands, result = (
            _array(int(arguments[2 * i]), arguments[2 * i + 1], shape, strides, self.dtype)
            for i, (shape, strides) in enumerate(self.layouts)
        )
        cupy.matmul(*operands, out=result)


def matmul(dtype: DType, layouts: tuple[tuple[Shape, Strides], ...]) -> LibraryCall:
    """A product of matrices, by cuBLAS."""
    return LibraryCall("matmul", "", (MEMORY, int64) * len(layouts), layouts, dtype)


def _array(address: int, start: int, shape: Shape, strides: Strides, dtype: DType) -> Any:
    """Elements at an address as an array of CuPy's, which does not hold the memory."""
    itemsize = dtype.itemsize
    steps = tuple(s * itemsize for s in strides)
    extent = sum((n - 1) * s for n, s in zip(shape, steps, strict=True)) + itemsize if math.prod(shape) else 0
    memory = cupy.cuda.UnownedMemory(address + start * itemsize, extent, None)
    return cupy.ndarray(shape, dtype.numpy, memptr=cupy.cuda.MemoryPointer(memory, 0), strides=steps)
