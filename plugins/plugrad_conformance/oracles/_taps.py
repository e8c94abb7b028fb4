"""Windows over (N, C, spatial...), one element of the kernel at a time: what convolution and pooling share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from plugrad_conformance.oracles._held import Array

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def reach(kernel: Ints, dilation: Ints) -> Ints:
    """How many elements of each axis a window spans."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def positions(size: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Ints:
    """How many windows there are on each axis."""
    return tuple(
        (before + n + after - r) // s + 1
        for n, r, s, (before, after) in zip(size, reach(kernel, dilation), stride, padding, strict=True)
    )


def padded(x: Array, padding: Pairs, value: float = 0.0) -> Array:
    """``x`` with ``value`` around its spatial axes; a negative width counts as none."""
    widths = [(0, 0)] * (x.ndim - len(padding)) + [(max(a, 0), max(b, 0)) for a, b in padding]
    return np.pad(x, widths, constant_values=value)


def taps(kernel: Ints, space: Ints, stride: Ints, dilation: Ints) -> Iterator[tuple[Any, Any]]:
    """The index of each element of the kernel, and that of what all windows have under it in the padded operand."""
    for tap in product(*map(range, kernel)):
        under = (
            slice(t * d, t * d + (count - 1) * s + 1, s)
            for t, d, s, count in zip(tap, dilation, stride, space, strict=True)
        )
        yield (..., *tap), (..., *under)
