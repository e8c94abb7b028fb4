"""Powers: of integers with negative exponents, and of floats in the places where libraries differ."""

from __future__ import annotations

from plugrad import ops
from plugrad_array_api.kernels._library import Array, Library
from plugrad_array_api.kernels._table import Kernels


def add(kernels: Kernels, library: Library) -> None:
    """Register the kernels of this family."""
    xp = library.xp

    @kernels(ops.pow)
    def _(x1: Array, x2: Array) -> Array:
        if library.is_floating(x1):
            return floats(x1, x2)
        if library.kind(x2) == "uint":
            return xp.pow(x1, x2)
        powers = xp.pow(x1, xp.where(x2 < 0, library.scalar(0, x2), x2))
        # Of the inverses only those of 1 and -1 are integers.
        one, zero = library.scalar(1, x1), library.scalar(0, x1)
        signs = xp.where(x1 == -1, 1 - 2 * xp.bitwise_and(x2, library.scalar(1, x2)), zero)
        inverses = xp.where(x1 == 1, one, signs)
        return xp.where(x2 < 0, inverses, powers)

    def floats(x1: Array, x2: Array) -> Array:
        powers = xp.pow(x1, x2)
        # NumPy takes the square root for it, which keeps -0 and has none of minus infinity (C99 F.10.4.4 differs).
        edge = xp.logical_and(x2 == 0.5, xp.logical_or(x1 == 0, x1 == -float("inf")))
        powers = xp.where(edge, xp.abs(x1), powers)
        # The standard leaves 1 to the power of NaN open.
        return xp.where(xp.logical_or(x1 == 1, x2 == 0), library.scalar(1, x1), powers)
