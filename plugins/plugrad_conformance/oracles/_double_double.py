"""Unevaluated sums of two float64 numbers, head and tail, for arguments that a function magnifies the error of.

Source: Dekker, "A floating-point technique for extending the available precision", 1971. Where a product overflows
on the way the tail is 0, so that the sum is no worse than its head.
"""

from __future__ import annotations

from typing import Any

import numpy as np

DoubleDouble = tuple[Any, Any]
"""Head and tail: float64 arrays or scalars."""


def _halves(x: Any) -> DoubleDouble:
    scaled = x * float((1 << 27) + 1)
    high = scaled - (scaled - x)
    return high, x - high


def product(x: Any, y: Any) -> DoubleDouble:
    """``x * y``, exactly but for overflow and underflow."""
    head = x * y
    (x1, x0), (y1, y0) = _halves(x), _halves(y)
    tail = x0 * y0 - (((head - x1 * y1) - x0 * y1) - x1 * y0)
    return head, np.where(np.isfinite(tail), tail, 0.0)


def multiply(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """``x * y`` to about 100 bits."""
    head, tail = product(x[0], y[0])
    tail = tail + (x[0] * y[1] + x[1] * y[0])
    total = head + tail
    return total, tail - (total - head)


def add(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """``x + y`` to about 100 bits, for terms of one sign."""
    head = x[0] + y[0]
    part = head - x[0]
    tail = (x[0] - (head - part)) + (y[0] - part) + x[1] + y[1]
    total = head + tail
    return total, tail - (total - head)
