"""16-bit floats: computed in float32 and rounded once. Python numbers as operands."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from plugrad.dtypes import bfloat16

Array = Any

_NUMBERS: Final = frozenset((bool, int, float))


def is_low(dtype: Any) -> bool:
    """Whether the NumPy ``dtype`` is a 16-bit float."""
    return bool(dtype == np.float16 or dtype == bfloat16.numpy)


def widened(array: Array) -> Array:
    """``array`` in float32 where it is a 16-bit float, else as it is."""
    return array.astype(np.float32) if is_low(array.dtype) else array


def typed(value: Any, dtype: Any) -> Any:
    """A Python number as a NumPy scalar of ``dtype``; anything else as it is.

    NumPy itself takes Python numbers for weak, but not beside the dtypes of ml_dtypes.
    """
    return dtype.type(value) if type(value) in _NUMBERS else value


def given(result: Array, into: Array | None) -> Array:
    """``result``, written to ``into`` where there is one, cast to its dtype."""
    if into is None:
        return result
    np.copyto(into, result, casting="unsafe")
    return into
