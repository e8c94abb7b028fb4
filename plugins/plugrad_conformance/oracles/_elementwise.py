"""`elementwise`: registers an oracle that may meet any value; `on_integers`: exact integers that wrap around."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from plugrad_conformance.oracles._register import Oracle, oracle


def elementwise(*names: str) -> Callable[[Oracle], Oracle]:
    """As `oracle`, for a function that gives what NumPy's functions do: silent about special values, and an array."""

    def register(function: Oracle) -> Oracle:
        @oracle(*names)
        @functools.wraps(function)
        def silent(*operands: Any, **attributes: Any) -> np.ndarray:
            with np.errstate(all="ignore"):
                return np.asarray(function(*operands, **attributes))

        return silent

    return register


def on_integers(function: Callable[..., int], *operands: np.ndarray) -> np.ndarray:
    """``function`` of Python's exact integers, elementwise, wrapped around into the dtype that the operands share."""
    dtype = np.result_type(*operands)
    exact = np.asarray(np.frompyfunc(function, len(operands), 1)(*operands), object)
    low_bits = np.asarray(exact & (1 << 8 * dtype.itemsize) - 1, object)
    return low_bits.astype(f"u{dtype.itemsize}").view(dtype)


def is_integer(x: np.ndarray) -> bool:
    """Whether the dtype is a signed or unsigned integer's."""
    return x.dtype.kind in "iu"
