"""Elementwise kernels: a function of Python's numbers for each op.

Where Python raises, IEEE 754 has an infinity or NaN, and so have these. Floats are computed in double precision.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable
from typing import Any

from plugrad import dtypes, ops
from plugrad.backend import KernelTable
from plugrad.dtypes import DType
from plugrad_example.memory import Buffer, Into, store

kernels = KernelTable()


def elementwise(op: Any, function: Callable[..., Any], dtype: DType | None = None, when: Any = None) -> None:
    """Register ``function`` as the kernel of ``op``; the result has ``dtype``, or else that of the operands."""

    @kernels(op, when=when, inplace=[o.name for o in op.operands])
    def _(*operands: Buffer, into: Into = None) -> Buffer:
        values = map(function, *(x.elements for x in operands))
        return store(values, dtype or operands[-1].dtype, operands[0].shape, into)


def divide(a: Any, b: Any) -> Any:
    """``a / b``; by 0 an infinity or NaN."""
    return a / b if b else a * math.copysign(math.inf, b)


def floor_divide(a: Any, b: Any) -> Any:
    """``a // b``; by 0 as `divide` for floats, 0 for integers."""
    if b:
        return a // b
    return divide(a, b) if isinstance(b, float) else 0


def power(a: Any, b: Any) -> Any:
    """``a ** b``; modulo 2**64 for integers, of which only 1 and -1 have negative powers other than 0."""
    if isinstance(a, int):
        if b < 0:
            return a ** (b % 2) if a in (1, -1) else 0
        return pow(a, b, 1 << 64)
    try:
        return math.pow(a, b)
    except (ValueError, OverflowError):
        if a < 0 and b % 1:
            return math.nan
        return math.copysign(math.inf, a) if b % 2 == 1 else math.inf


def ieee(function: Callable[[float], float]) -> Callable[[float], float]:
    """``function`` of `math`, with NaN outside its domain and infinity where it overflows."""

    def wrapper(x: float) -> float:
        try:
            return function(x)
        except ValueError:
            return math.nan
        except OverflowError:
            return math.inf

    return wrapper


def nextafter32(a: float, b: float) -> float:
    """The float32 next to ``a`` towards ``b``: its bits as an integer are one more or one less."""
    if a == b or b != b:
        return b
    if a == 0 or a != a:
        return math.copysign(2.0**-149, b) if a == 0 else a
    (bits,) = struct.unpack("i", struct.pack("f", a))
    return float(*struct.unpack("f", struct.pack("i", bits + (1 if (a < b) == (a > 0) else -1))))


for _op, _function in (
    (ops.add, operator.add),
    (ops.subtract, operator.sub),
    (ops.multiply, operator.mul),
    (ops.divide, divide),
    (ops.floor_divide, floor_divide),
    (ops.remainder, lambda a, b: a % b if b else math.nan if isinstance(b, float) else 0),
    (ops.pow, power),
    (ops.maximum, lambda a, b: a if a > b or a != a else b),
    (ops.minimum, lambda a, b: a if a < b or a != a else b),
    (ops.negative, operator.neg),
    (ops.abs, abs),
    (ops.sign, lambda x: (x > 0) - (x < 0) if x == x else x),
    (ops.floor, lambda x: x // 1 if x - x == 0 else x),  # infinities and NaN stay
    (ops.where, lambda condition, a, b: a if condition else b),
    (ops.exp, ieee(math.exp)),
    (ops.expm1, ieee(math.expm1)),
    (ops.log, ieee(lambda x: math.log(x) if x else -math.inf)),
    (ops.log1p, ieee(lambda x: math.log1p(x) if x != -1 else -math.inf)),
    (ops.sqrt, ieee(math.sqrt)),
    (ops.sin, ieee(math.sin)),
    (ops.cos, ieee(math.cos)),
    (ops.tanh, math.tanh),
    (ops.atan2, math.atan2),
    (ops.erf, math.erf),
    (ops.bitwise_and, operator.and_),
    (ops.bitwise_or, operator.or_),
    (ops.bitwise_xor, operator.xor),
    (ops.bitwise_left_shift, lambda a, b: a << min(b, 64)),  # no dtype keeps more
    (ops.bitwise_right_shift, operator.rshift),
):
    elementwise(_op, _function)

for _op, _function in (
    (ops.equal, operator.eq),
    (ops.not_equal, operator.ne),
    (ops.less, operator.lt),
    (ops.less_equal, operator.le),
    (ops.signbit, lambda x: math.copysign(1.0, x) < 0),
):
    elementwise(_op, _function, dtypes.bool)

# Of several kernels the first whose `when` takes the specs of the operands is chosen.
elementwise(ops.bitwise_invert, operator.not_, when=lambda specs, _: specs[0].dtype is dtypes.bool)
elementwise(ops.bitwise_invert, operator.invert)
elementwise(ops.nextafter, nextafter32, when=lambda specs, _: specs[0].dtype is dtypes.float32)
elementwise(ops.nextafter, math.nextafter)
