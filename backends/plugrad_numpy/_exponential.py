"""The exponential of float32 by the fastest of NumPy's ufuncs.

Where NumPy is built with Intel's vector functions for AVX-512, `numpy.exp2` takes half the time of `numpy.exp` in
float32, and errs by no more than 2.7 units in the last place; but 10 to 150 times as long for exponents from which the
result is subnormal or 0, or close to overflow. Elsewhere it is a scalar function of the C library.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final

import numpy as np

__all__ = ["UNIT", "exponential", "power"]

Array = np.ndarray[Any, Any]


def _has_vectors() -> bool:
    """Whether `numpy.exp2` has vector code for AVX-512 here."""
    features: dict[str, bool] = getattr(np._core._multiarray_umath, "__cpu_features__", {})  # type: ignore[attr-defined]
    return sys.platform == "linux" and bool(features.get("AVX512_SKX"))


_BASE_2: Final = _has_vectors()

UNIT: Final = math.log2(math.e) if _BASE_2 else 1.0
"""What an exponent is multiplied by: ``power(UNIT * x)`` is exp(x). The rounding of the product errs by as much as a
relative error of half an ``eps`` of x does."""

power: Final[Any] = np.exp2 if _BASE_2 else np.exp
"""The ufunc, for exponents of magnitudes up to 87."""


def exponential(x: Array, within: bool | np.bool_) -> None:
    """Replace exponents, times `UNIT`, by their exponentials.

    Args:
        x: the exponents.
        within: whether their magnitudes, not times anything, are up to 87.
    """
    if within or not _BASE_2:
        power(x, out=x)
    else:
        x *= x.dtype.type(1 / UNIT)
        np.exp(x, out=x)
