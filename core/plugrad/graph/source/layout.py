"""Shapes and strides, in elements, as kernels see them: as few axes as reach the same elements in the same order."""

from __future__ import annotations

import math
from collections.abc import Sequence

Strides = tuple[int, ...]


def contiguous_strides(shape: Sequence[int]) -> Strides:
    """The strides of elements that stand in row-major order without gaps."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def collapse(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], list[Strides]]:
    """Axes of size 1 left out, and neighbours merged that every array steps through as through one.

    Args:
        shape: the sizes, none of them 0.
        strides: for each array, its strides along the axes of ``shape``.

    Returns:
        The sizes that remain, none for a single element, and the strides of each array along them.
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        here = [s[axis] for s in strides]
        if sizes and all(done[-1] == step * size for done, step in zip(steps, here, strict=True)):
            sizes[-1] *= size
            for done, step in zip(steps, here, strict=True):
                done[-1] = step
        else:
            sizes.append(size)
            for done, step in zip(steps, here, strict=True):
                done.append(step)
    return tuple(sizes), [tuple(s) for s in steps]
