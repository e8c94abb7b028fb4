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
            quotient, _ = _divided(library, library.widened(x1), library.widened(x2))
            return library.cast(quotient, x1.dtype)
        zero, minus, divisor = guarded(x2)
        quotient = xp.floor_divide(x1, divisor)
        if minus is not None:
            quotient = xp.where(minus, xp.negative(x1), quotient)
        return xp.where(zero, library.scalar(0, x1), quotient)

    @kernels(ops.remainder)
    def _(x1: Array, x2: Array) -> Array:
        if library.is_floating(x1):
            _, rest = _divided(library, library.widened(x1), library.widened(x2))
            return library.cast(rest, x1.dtype)
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


def _divided(library: Library, x1: Array, x2: Array) -> tuple[Array, Array]:
    """``x1 // x2`` and ``x1 % x2`` of floats, as Python has them.

    By the remainder of the magnitudes, which is exact, and where no two libraries that follow the standard differ.
    """
    xp = library.xp
    size1, size2 = xp.abs(x1), xp.abs(x2)
    rest = xp.remainder(size1, size2)
    whole = xp.round(xp.divide(xp.subtract(size1, rest), size2))
    across = xp.signbit(x1) != xp.signbit(x2)
    further = xp.logical_and(across, rest != 0)
    quotient = xp.where(across, -whole, whole)
    quotient = xp.where(further, quotient - 1, quotient)
    plain = xp.divide(x1, x2)
    quotient = xp.where(quotient == 0, xp.copysign(quotient, plain), quotient)
    signed = xp.copysign(rest, x1)
    remainder = xp.where(further, signed + x2, signed)
    remainder = xp.where(rest == 0, xp.copysign(rest, x2), remainder)
    return xp.where(x2 == 0, plain, quotient), remainder
