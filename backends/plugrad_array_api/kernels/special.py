"""The error function, which the standard lacks, and the neighbours of floats, which it has since 2024.12."""

from __future__ import annotations

from typing import Final

from plugrad import ops
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels

# erf(x) / x in x^2 for |x| <= 1, error 7.4e-18: a Chebyshev fit in 50 digits. Highest power first.
_SMALL: Final = (
    -7.795898827002142e-10,
    1.3720064546777686e-08,
    -1.6208483801871705e-07,
    1.6447424703317362e-06,
    -1.492473690741966e-05,
    0.00012055294904839707,
    -0.0008548325975389692,
    0.0052239776071164225,
    -0.02686617064323777,
    0.11283791670945006,
    -0.37612638903183543,
    1.1283791670955126,
)
# erfc(|x|) exp(x^2) in (|x| - 2.5) / (|x| + 2.5) for 1 <= |x| <= 6, error 1.1e-17: likewise.
_LARGE: Final = (
    8.134380709229634e-08,
    -1.5625258507743158e-06,
    -2.2842173094341345e-06,
    7.48480117852628e-06,
    1.8609712314617464e-05,
    -3.4172229273553035e-05,
    -0.00012887649615317198,
    0.00022837955896605415,
    0.0008759154019168855,
    -0.002642365927759658,
    -0.0039937011641469865,
    0.0399225390747838,
    -0.12503305237885554,
    0.251713193217456,
    -0.3717367339489732,
    0.21080636406114356,
)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    y = x * coefficients[0]
    for c in coefficients[1:-1]:
        y = (y + c) * x
    return y + coefficients[-1]


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    @kernels(ops.erf)
    def _(x: Array) -> Array:
        dtype, x = x.dtype, library.widened(x)
        size = xp.abs(x)
        square = xp.minimum(size, library.scalar(1, x))
        near = x * _polynomial(_SMALL, square * square)
        # Beyond 6 it is 1 in float64 as well.
        size = xp.minimum(size, library.scalar(6, x))
        rest = _polynomial(_LARGE, (size - 2.5) / (size + 2.5)) * xp.exp(-(size * size))
        return library.cast(xp.where(size > 1, xp.copysign(1 - rest, x), near), dtype)

    def moved(x1: Array, x2: Array) -> Array:
        return xp.where(x2 > x1, _above(library, x1), -_above(library, -x1))

    towards = library.function("nextafter") if library.offers("nextafter") else moved

    @kernels(ops.nextafter)
    def _(x1: Array, x2: Array) -> Array:
        result = towards(x1, x2)
        # A 0 that is passed has the sign of where it is come from (C99 F.10.8.3), which not all libraries keep.
        result = xp.where(result == 0, xp.copysign(result, x1), result)
        result = xp.where(xp.equal(x1, x2), x2, result)
        return xp.where(xp.logical_or(xp.isnan(x1), xp.isnan(x2)), x1 + x2, result)


def _above(library: Library, x: Array) -> Array:
    """The least float above each of ``x``, by arithmetic alone.

    Rump, Zimmermann, Boldo and Melquiond, "Computing predecessor and successor in rounding to nearest", BIT 49 (2009),
    algorithm 2: exact, where the device does not flush subnormal numbers to 0.
    """
    xp = library.xp
    limits = xp.finfo(x.dtype)
    unit = float(limits.eps) / 2
    tiny = float(limits.smallest_normal) * float(limits.eps)
    factor = unit * (1 + 2 * unit)
    size = xp.abs(x)
    scaled = x / unit
    between = (scaled + factor * xp.abs(scaled)) * unit
    result = xp.where(size < tiny / unit, x + tiny, between)
    result = xp.where(size >= tiny / unit / unit / 2, x + factor * size, result)
    return xp.where(x == -float("inf"), library.scalar(float(limits.min), x), result)
