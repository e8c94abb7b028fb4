"""Copies that turn matrices."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from plugrad.dtypes import DType
from plugrad.generated.array import StridedArray
from plugrad.graph.source import Dialect, Source, collapse, transpose
from plugrad.spec import Shape

Launch = tuple[Source, tuple[int, int, int], tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""A kernel, its work-items, the numbers after the operand, after the result, and at the end."""


def turned(x: StridedArray, into: StridedArray) -> bool:
    """Copy ``x`` to ``into``, of its shape, where matrices are to be turned for it; whether that is so."""
    launch = _settled(x.dialect, x.dtype, x.shape, x.strides, into.strides)
    if launch is None:
        return False
    source, size, own, others, sizes = launch
    arguments: list[Any] = [x.memory, x.start, *own, into.memory, into.start, *others, *sizes]
    x.device.launch(source, size, (1, 1, 1), arguments)
    return True


@lru_cache(maxsize=4096)
def _settled(
    dialect: Dialect, dtype: DType, shape: Shape, strides: tuple[int, ...], others: tuple[int, ...]
) -> Launch | None:
    lanes = dialect.lanes.get(dtype, 0)
    if lanes < 2 or 0 in shape:
        return None
    sizes, (own, target) = collapse(shape, [strides, others])
    if len(sizes) < 2 or target[-1] != 1 or own[-1] == 1:
        return None
    rows = next((a for a, step in enumerate(own) if step == 1), None)
    if rows is None or min(sizes[rows], sizes[-1]) < lanes:
        return None
    batch = [a for a in range(len(sizes) - 1) if a != rows]
    if len(batch) > 2:
        return None
    steps = [(0,) * (2 - len(batch)) + tuple(s[a] for a in batch) for s in (own, target)]
    n, m = sizes[rows], sizes[-1]
    return (
        transpose(dialect, dtype),
        (-(-n // lanes), -(-m // lanes), math.prod(sizes[a] for a in batch)),
        (*steps[0], own[-1]),
        (*steps[1], target[rows]),
        (sizes[batch[-1]] if batch else 1, n, m),
    )


def padded(x: StridedArray, into: StridedArray) -> None:
    """Copy ``x`` (matrices, k, m), k elements side by side, to ``into`` (matrices, k, lanes), with zeros behind each row."""
    count, k, m = x.shape
    lanes = into.shape[2]
    arguments = [
        *(x.memory, x.start, 0, x.strides[0], x.strides[2]),
        *(into.memory, into.start, 0, into.strides[0], into.strides[1]),
        *(count, k, m),
    ]
    x.device.launch(transpose(x.dialect, x.dtype, True), (-(-k // lanes), 1, count), (1, 1, 1), arguments)
