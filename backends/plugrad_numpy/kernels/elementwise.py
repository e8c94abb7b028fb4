"""Elementwise kernels: NumPy's ufuncs, without warnings, and the gradients that take a few of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.dtypes import bfloat16, float16
from plugrad_array_api.kernels._library import Library
from plugrad_array_api.kernels.elementwise import functions
from plugrad_numpy.kernels._fused import blockwise, fused, in_float32, large
from plugrad_numpy.kernels._masks import keep
from plugrad_numpy.kernels._precision import given, typed
from plugrad_numpy.kernels._silent import again, quietly, run, silent
from plugrad_numpy.kernels._table import table

Array = Any
Ufunc = Callable[..., Array]


def _of_bfloat16(specs: Sequence[Any], attributes: Any) -> bool:
    del attributes
    return specs[0].dtype is bfloat16


def _large_bfloat16(specs: Sequence[Any], attributes: Any) -> bool:
    return _of_bfloat16(specs, attributes) and large(specs, attributes)


def unary(op: Any, ufunc: Ufunc, *, name: str = "x") -> None:
    """Register ``ufunc`` as the kernel of an op, or of a rule, of one operand."""

    @table(op, inplace=(name,), bare=ufunc)
    def _(x: Array, *, into: Array | None = None) -> Array:
        try:
            return run(ufunc, x, into)
        except RuntimeError as error:
            return again(error, ufunc, x, into)


def binary(op: Any, ufunc: Ufunc, *, names: Sequence[str] = ("x1", "x2")) -> None:
    """Register ``ufunc`` as the kernel of an op, or of a rule, of two operands."""

    @table(op, when=_of_bfloat16, inplace=names)
    def _(x1: Any, x2: Any, *, into: Array | None = None) -> Array:
        dtype = bfloat16.numpy
        x1, x2 = typed(x1, dtype), typed(x2, dtype)
        try:
            return run(ufunc, x1, x2, into)
        except RuntimeError as error:
            return again(error, ufunc, x1, x2, into)

    @table(op, inplace=names, bare=ufunc)
    def _(x1: Any, x2: Any, *, into: Array | None = None) -> Array:
        try:
            return run(ufunc, x1, x2, into)
        except RuntimeError as error:
            return again(error, ufunc, x1, x2, into)


def test(op: Any, ufunc: Ufunc) -> None:
    """Register ``ufunc``, a test of each element of one float operand.

    Those of NumPy (2.4.6) write wrong results where elements of ``into`` are not side by side in the inner loop.
    """

    @table(op, inplace=("x",))
    def _(x: Array, *, into: Array | None = None) -> Array:
        if into is not None and not (x.flags.c_contiguous and into.flags.c_contiguous):
            return given(quietly(ufunc, x), into)
        try:
            return run(ufunc, x, into)
        except RuntimeError as error:
            return again(error, ufunc, x, into)


def by_float32(op: Any, ufunc: Ufunc) -> None:
    """Register, for big bfloat16 arrays, ``ufunc`` in float32: ml_dtypes has no vector code."""
    table(op, when=_large_bfloat16)(in_float32(ufunc))


def threaded(op: Any, ufunc: Ufunc) -> None:
    """Register, for big arrays, ``ufunc`` over several threads: worth it where it costs more than the memory."""
    by_float32(op, ufunc)
    table(op, when=large, spreads=True)(blockwise(ufunc))


def _maximum(x1: Any, x2: Any, into: Array | None = None) -> Array:
    return np.maximum(x1, x2, out=into)  # NumPy deprecates the result's array by position for these two


def _minimum(x1: Any, x2: Any, into: Array | None = None) -> Array:
    return np.minimum(x1, x2, out=into)


# -- one ufunc --------------------------------------------------------------------------------------------


def _integers(specs: Sequence[Any], attributes: Any) -> bool:
    del attributes
    return bool(specs[0].dtype.is_integer)


for _op in (ops.floor, ops.ceil, ops.trunc, ops.round):

    @table(_op, when=_integers, inplace=("x",))
    def _(x: Array, *, into: Array | None = None) -> Array:
        return np.positive(x, into)


def _of_float16(specs: Sequence[Any], attributes: Any) -> bool:
    del attributes
    return specs[0].dtype is float16


@table(ops.nextafter, when=_of_float16)
@silent
def _(x1: Any, x2: Any, *, into: Array | None = None) -> Array:
    # NumPy gives x1 where the two are equal, also where one is -0 and the other 0.
    return given(np.where(np.equal(x1, x2), typed(x2, np.dtype(np.float16)), np.nextafter(x1, x2)), into)


_THREADED: Final = frozenset(
    (
        *(ops.exp, ops.expm1, ops.log, ops.log1p, ops.log2, ops.log10, ops.logaddexp),
        *(ops.sin, ops.cos, ops.tan, ops.asin, ops.acos, ops.atan, ops.atan2, ops.hypot),
        *(ops.sinh, ops.cosh, ops.tanh, ops.asinh, ops.acosh, ops.atanh),
        *(ops.floor_divide, ops.remainder),
    )
)
_BY_FLOAT32: Final = frozenset(
    (
        *(ops.abs, ops.negative, ops.square, ops.reciprocal, ops.sqrt, ops.copysign),
        *(ops.add, ops.subtract, ops.multiply, ops.divide, ops.maximum, ops.minimum),
        *(ops.floor, ops.ceil, ops.trunc, ops.round),
    )
)
_TESTS: Final = frozenset((ops.isnan, ops.isinf, ops.isfinite, ops.signbit))
_UFUNCS: Final[dict[Any, Ufunc]] = {
    # Whose names and meanings are the standard's, by which the kernels of all such libraries are stated.
    **functions(Library(np, None, (None,))),
    # Whose meaning for integers the standard leaves open, and NumPy has as plugrad has it.
    ops.floor_divide: np.floor_divide,
    ops.remainder: np.remainder,
    ops.bitwise_left_shift: np.left_shift,
    ops.bitwise_right_shift: np.right_shift,
    ops.floor: np.floor,
    ops.ceil: np.ceil,
    ops.trunc: np.trunc,
    ops.round: np.rint,
    # Whose shared kernels do more, for the sake of other libraries or by another way to write to ``into``.
    ops.nextafter: np.nextafter,
    ops.maximum: _maximum,
    ops.minimum: _minimum,
    # Where the standard of NumPy's version may not have it yet.
    ops.reciprocal: np.reciprocal,
}

# The sign of -0 is 0; that of ml_dtypes is -0.
table(ops.sign, when=_of_bfloat16)(in_float32(np.sign))

for _op, _ufunc in _UFUNCS.items():
    if _op in _THREADED:
        threaded(_op, _ufunc)
    elif _op in _BY_FLOAT32:
        by_float32(_op, _ufunc)
    if _op in _TESTS:
        test(_op, _ufunc)
    else:
        (unary if len(_op.operands) == 1 else binary)(_op, _ufunc)


@fused(ops.rsqrt, inplace=("x",))
def _(x: Array, into: Array | None) -> Array:
    root = np.sqrt(x, into)
    return np.reciprocal(root, root)


# -- clipping ---------------------------------------------------------------------------------------------


@table(ops.clip, inplace=("x",))
@silent
def _(x: Array, low: Any, high: Any, *, into: Array | None = None) -> Array:
    low, high = typed(low, x.dtype), typed(high, x.dtype)
    if high is None:
        return np.positive(x, into) if low is None else _maximum(x, low, into)
    return _minimum(x if low is None else _maximum(x, low), high, into)


@fused(ops.clip.vjp_for("x"))
def _(ct: Array, x: Array, low: Any, high: Any, into: Array | None) -> Array:
    if low is None and high is None:
        return np.positive(ct, into)
    inside = True if low is None else np.greater_equal(x, low)
    return keep(ct, inside if high is None else np.logical_and(inside, np.less_equal(x, high)), into)


# -- rules of one ufunc -----------------------------------------------------------------------------------

for _op, _ufunc, _second in (
    (ops.multiply.vjp_for("x1"), np.multiply, "x2"),
    (ops.multiply.vjp_for("x2"), np.multiply, "x1"),
    (ops.divide.vjp_for("x1"), np.divide, "x2"),
    (ops.exp.vjp, np.multiply, "out"),
    (ops.log.vjp, np.divide, "x"),
):
    by_float32(_op, _ufunc)
    binary(_op, _ufunc, names=("ct", _second))

for _op in (ops.subtract.vjp_for("x2"), ops.negative.vjp):
    by_float32(_op, np.negative)
    unary(_op, np.negative, name="ct")


# -- rules of several ufuncs ------------------------------------------------------------------------------


@fused(ops.divide.vjp_for("x2"), inplace=("ct", "out"))
def _(ct: Array, x2: Array, out: Array, into: Array | None) -> Array:
    product = np.multiply(ct, out, into)
    np.divide(product, x2, product)
    return np.negative(product, product)


def _extremum(op: Any, wins: Ufunc) -> None:
    """The rules of an extremum: all of the cotangent to the winner, half of it in a tie."""

    def rule(ct: Array, mine: Any, other: Any, into: Array | None) -> Array:
        result = keep(ct, wins(mine, other), into)
        np.multiply(result, 0.5, result, where=np.equal(mine, other))
        return result

    fused(op.vjp_for("x1"))(rule)
    fused(op.vjp_for("x2"))(lambda ct, x1, x2, into: rule(ct, x2, x1, into))


_extremum(ops.maximum, np.greater_equal)
_extremum(ops.minimum, np.less_equal)


@fused(ops.abs.vjp, inplace=("x",))
def _(ct: Array, x: Array, into: Array | None) -> Array:
    sign = np.sign(x, into)
    return np.multiply(ct, sign, sign)


@fused(ops.square.vjp, inplace=("ct", "x"))
def _(ct: Array, x: Array, into: Array | None) -> Array:
    product = np.multiply(ct, x, into)
    return np.add(product, product, product)


@fused(ops.reciprocal.vjp, inplace=("ct",))
def _(ct: Array, out: Array, into: Array | None) -> Array:
    product = np.multiply(ct, out, into)
    np.multiply(product, out, product)
    return np.negative(product, product)


@fused(ops.sqrt.vjp, inplace=("ct", "out"))
def _(ct: Array, out: Array, into: Array | None) -> Array:
    quotient = np.divide(ct, out, into)
    return np.multiply(quotient, 0.5, quotient)


@fused(ops.rsqrt.vjp, inplace=("ct", "out"))
def _(ct: Array, x: Array, out: Array, into: Array | None) -> Array:
    product = np.multiply(ct, out, into)
    np.divide(product, x, product)
    return np.multiply(product, -0.5, product)


@fused(ops.expm1.vjp, inplace=("out",))
def _(ct: Array, out: Array, into: Array | None) -> Array:
    product = np.multiply(ct, out, into)
    return np.add(product, ct, product)


@fused(ops.log1p.vjp, inplace=("x",))
def _(ct: Array, x: Array, into: Array | None) -> Array:
    shifted = np.add(x, 1, into)
    return np.divide(ct, shifted, shifted)


def _logarithm(op: Any, base: int) -> None:
    factor = 1 / float(np.log(base))

    @fused(op.vjp, inplace=("ct", "x"))
    def _(ct: Array, x: Array, into: Array | None) -> Array:
        quotient = np.divide(ct, x, into)
        return np.multiply(quotient, factor, quotient)


_logarithm(ops.log2, 2)
_logarithm(ops.log10, 10)


def _leg(ct: Array, x: Array, out: Array, into: Array | None) -> Array:
    ratio = np.divide(x, out, into)
    keep(ratio, np.not_equal(out, 0), ratio)
    return np.multiply(ct, ratio, ratio)


fused(ops.hypot.vjp_for("x1"), inplace=("x1",))(_leg)
fused(ops.hypot.vjp_for("x2"), inplace=("x2",))(_leg)


@fused(ops.tanh.vjp)
def _(ct: Array, out: Array, into: Array | None) -> Array:
    # ct - ct * out**2: without the Python number that 1 - out**2 would take.
    product = np.multiply(ct, out, into)
    np.multiply(product, out, product)
    return np.subtract(ct, product, product)


@fused(ops.tan.vjp, inplace=("out",))
def _(ct: Array, out: Array, into: Array | None) -> Array:
    product = np.multiply(out, out, into)
    np.multiply(product, ct, product)
    return np.add(product, ct, product)


def _scaled_by(op: Any, derivative: Ufunc) -> None:
    @fused(op.vjp, inplace=("x",))
    def _(ct: Array, x: Array, into: Array | None) -> Array:
        slope = derivative(x, into)
        return np.multiply(ct, slope, slope)


_scaled_by(ops.sin, np.cos)
_scaled_by(ops.sinh, np.cosh)
_scaled_by(ops.cosh, np.sinh)


@fused(ops.cos.vjp, inplace=("x",))
def _(ct: Array, x: Array, into: Array | None) -> Array:
    sine = np.sin(x, into)
    np.multiply(ct, sine, sine)
    return np.negative(sine, sine)


@fused(ops.atan.vjp, inplace=("x",))
def _(ct: Array, x: Array, into: Array | None) -> Array:
    square = np.multiply(x, x, into)
    np.add(square, 1, square)
    return np.divide(ct, square, square)
