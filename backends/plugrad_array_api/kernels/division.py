"""The division that rounds, its remainder, and shifts: for integers the standard leaves out what is out of range."""

from __future__ import annotations

from plugrad import ops
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    def guarded(x2: Array) -> tuple[Array, Array | None, Array]:
        """Where an integer divisor is 0 and where it is -1, and the divisor with 1 in these places.

        The smallest integer by -1 overflows, which stops the process on some processors.
        """
        zero = x2 == 0
        minus = None if library.kind(x2) == "uint" else x2 == -1
        excluded = zero if minus is None else xp.logical_or(zero, minus)
        return zero, minus, xp.where(excluded, library.scalar(1, x2), x2)

    @kernels(ops.floor_divide)
    def _(x1: Array, x2: Array) -> Array:
        if library.is_floating(x1):
            return _floor_divide(library, x1, x2)
        zero, minus, divisor = guarded(x2)
        quotient = xp.floor_divide(x1, divisor)
        if minus is not None:
            quotient = xp.where(minus, xp.negative(x1), quotient)
        return xp.where(zero, library.scalar(0, x1), quotient)

    @kernels(ops.remainder)
    def _(x1: Array, x2: Array) -> Array:
        if library.is_floating(x1):
            wide1, wide2 = library.widened(x1), library.widened(x2)
            return library.cast(_remainder(library, wide1, wide2), x1.dtype)
        zero, minus, divisor = guarded(x2)
        excluded = zero if minus is None else xp.logical_or(zero, minus)
        return xp.where(excluded, library.scalar(0, x1), xp.remainder(x1, divisor))

    @kernels(ops.bitwise_left_shift)
    def _(x1: Array, x2: Array) -> Array:
        last = xp.iinfo(x1.dtype).bits - 1
        shifted = xp.bitwise_left_shift(x1, xp.where(x2 <= last, x2, library.scalar(last, x2)))
        return xp.where(x2 <= last, shifted, library.scalar(0, x1))

    @kernels(ops.bitwise_right_shift)
    def _(x1: Array, x2: Array) -> Array:
        last = xp.iinfo(x1.dtype).bits - 1
        if library.kind(x1) != "uint":
            return xp.bitwise_right_shift(x1, xp.where(x2 <= last, x2, library.scalar(last, x2)))
        shifted = xp.bitwise_right_shift(x1, xp.where(x2 <= last, x2, library.scalar(last, x2)))
        return xp.where(x2 <= last, shifted, library.scalar(0, x1))


def _remainder(library: Library, x1: Array, x2: Array) -> Array:
    """``x1 % x2`` of floats; the standard lets a library differ where ``x2`` is infinite."""
    xp = library.xp
    far = xp.logical_and(xp.isinf(x2), xp.isfinite(x1))
    opposite = xp.logical_and(x1 != 0, xp.signbit(x1) != xp.signbit(x2))
    at_infinity = xp.where(opposite, x2, xp.copysign(x1, x2))
    return xp.where(far, at_infinity, xp.remainder(x1, x2))


def _floor_divide(library: Library, x1: Array, x2: Array) -> Array:
    """``x1 // x2`` of floats, as Python has it: by the remainder, which is exact where a quotient is rounded."""
    xp = library.xp
    dtype = x1.dtype
    x1, x2 = library.widened(x1), library.widened(x2)
    quotient = xp.divide(x1, x2)
    # By an infinity the quotient is 0, or -1 across the sign; 0 keeps its sign.
    opposite = xp.logical_and(x1 != 0, xp.signbit(x1) != xp.signbit(x2))
    at_infinity = xp.where(opposite, library.scalar(-1, x1), quotient)
    whole = xp.round(xp.divide(xp.subtract(x1, xp.remainder(x1, x2)), x2))
    whole = xp.where(whole == 0, xp.copysign(library.scalar(0, x1), quotient), whole)
    whole = xp.where(xp.logical_and(xp.isinf(x2), xp.isfinite(x1)), at_infinity, whole)
    whole = xp.where(xp.isinf(x1), library.scalar(float("nan"), x1), whole)
    by_zero = xp.where(xp.isinf(x1), library.scalar(float("nan"), x1), quotient)
    return library.cast(xp.where(x2 == 0, by_zero, whole), dtype)
