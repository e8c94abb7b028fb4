"""Evenly spaced numbers: `arange` and `linspace` (array API standard 2024.12, "Creation functions")."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from plugrad.dispatch.op import Kind, Scalar, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors, samples
from plugrad.dispatch.statement import Normalizer
from plugrad.dtypes import FLOATING, DType, as_dtype, float32, float64, iinfo, int64
from plugrad.errors import ArgumentError, DTypeError
from plugrad.ops._rules import dtype_value
from plugrad.ops.casting import astype
from plugrad.ops.comparison import where
from plugrad.ops.creation import count, iota, number, numeric_dtype
from plugrad.spec import Device, Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _range_number(name: str) -> Normalizer:
    def normalize(call: Any, value: Any) -> Scalar:
        given = number(call, name, value)
        if not math.isfinite(given):
            raise ArgumentError(f"{call.op.name}: {name} takes a finite number, got {given}")
        return int(given) if isinstance(given, bool) else given

    return normalize


def _range_stop(call: Any, value: Any) -> Scalar:
    """The stop; where only one number was given, that is it, and the start is 0."""
    if value is None:
        value, call.start = call.start, 0
    given: Scalar = _range_number("stop")(call, value)
    return given


def _range_step(call: Any, value: Any) -> Scalar:
    step: Scalar = _range_number("step")(call, value)
    if step == 0:
        raise ArgumentError("arange: step is 0; takes a positive or negative number")
    return step


def _range_dtype(call: Any, value: Any) -> DType:
    numbers = (call.start, call.stop, call.step)
    floating = any(isinstance(n, float) for n in numbers)
    if value is None:
        return float32 if floating else int64
    dtype = numeric_dtype(call, value)
    if floating and not dtype.is_floating:
        if not all(float(n).is_integer() for n in numbers):
            raise DTypeError(f"arange: {dtype} does not hold the steps of {numbers}; pass a floating dtype")
        call.start, call.stop, call.step = map(int, numbers)
    if dtype.is_integer:
        info, length = iinfo(dtype), range_length(call.start, call.stop, call.step)
        ends = (call.start, call.start + (length - 1) * call.step) if length else ()
        if any(not info.min <= e <= info.max for e in ends):
            raise ArgumentError(f"arange: {ends} are outside the range of {dtype}, {info.min} to {info.max}")
    return dtype


def range_length(start: Scalar, stop: Scalar, step: Scalar) -> int:
    """How many numbers `arange` gives."""
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
        return len(range(start, stop, step))
    return max(0, math.ceil((stop - start) / step))


def _ranged(call: Any) -> Spec:
    return Spec((range_length(call.start, call.stop, call.step),), call.dtype, call.device)


@op(
    kind=Kind.CREATION,
    infer=_ranged,
    attributes={
        "start": _range_number("start"),
        "stop": _range_stop,
        "step": _range_step,
        "dtype": _range_dtype,
    },
    differentiable=False,
    samples=samples(
        Sample(start=5),
        Sample(start=2, stop=11, step=3),
        Sample(start=3, stop=-4, step=-2),
        Sample(start=3, stop=3),
        Sample(start=0.5, stop=2.0, step=0.25),
        Sample(start=0, stop=1, step=0.1, dtype="float64"),
    ),
    errors=errors(
        ErrorSample(ArgumentError, start=0, stop=3, step=0),
        ErrorSample(ArgumentError, start=0.0, stop=math.inf),
        ErrorSample(ArgumentError, start=0, stop=257, dtype="uint8"),
        ErrorSample(DTypeError, start=0.5, stop=3, dtype="int64"),
    ),
)
def arange(
    start: Scalar,
    stop: Scalar | None = None,
    step: Scalar = 1,
    *,
    dtype: DType | str | None = None,
    device: Device | str | None = None,
) -> Tensor:
    """``start, start + step, ...`` up to and without ``stop`` (array API `arange`).

    Args:
        start: the first number; where ``stop`` is left out, the stop, and the first number is 0.
        stop: the end, which is not reached.
        step: the distance, not 0.
        dtype: by default int64 for ints, float32 where a float is among the numbers.
        device: by default the current device.

    Returns:
        ``ceil((stop - start) / step)`` numbers, none where that is negative; the i-th is ``start + i * step``.

    Raises:
        ArgumentError: if ``step`` is 0, a number is not finite, or the dtype does not hold the numbers.
        DTypeError: if the dtype is not numeric, or an integer one for numbers that are none.
    """
    assert stop is not None
    length = range_length(start, stop, step)
    target = as_dtype(dtype)
    if target.is_integer:
        # uint64 takes no negative number, so that a step down is a subtraction.
        i = iota(length, dtype=target if target.itemsize == 8 else int64, device=device)
        return astype(i * step + start if step > 0 else start - i * -step, target)
    i = iota(length, dtype=_wide(target), device=device)
    return astype(i * float(step) + float(start), target)


def _wide(dtype: DType) -> DType:
    """The dtype that numbers of a floating one are computed in."""
    return float64 if dtype is float64 else float32


def _floating_dtype(call: Any, value: Any) -> DType:
    dtype = float32 if value is None else dtype_value(call, value)
    if dtype not in FLOATING:
        raise DTypeError(f"{call.op.name}: takes a floating dtype, got {dtype}")
    return dtype


@op(
    kind=Kind.CREATION,
    infer=lambda call: Spec((call.num,), call.dtype, call.device),
    attributes={
        "start": lambda call, value: float(_range_number("start")(call, value)),
        "stop": lambda call, value: float(_range_number("stop")(call, value)),
        "num": count("num"),
        "dtype": _floating_dtype,
    },
    differentiable=False,
    samples=samples(
        Sample(start=0.0, stop=1.0, num=7, dtype="float64"),
        Sample(start=-1, stop=1.5, num=5, endpoint=False),
        Sample(start=3.0, stop=-3.0, num=1),
        Sample(start=3.0, stop=5.0, num=0),
    ),
    errors=errors(
        ErrorSample(ArgumentError, start=0.0, stop=1.0, num=-1),
        ErrorSample(ArgumentError, start=math.nan, stop=1.0, num=3),
        ErrorSample(DTypeError, start=0.0, stop=1.0, num=3, dtype="int64"),
    ),
)
def linspace(
    start: Scalar,
    stop: Scalar,
    num: int,
    *,
    dtype: DType | str | None = None,
    device: Device | str | None = None,
    endpoint: bool = True,
) -> Tensor:
    """``num`` evenly spaced numbers from ``start`` to ``stop`` (array API `linspace`).

    Args:
        start: the first number.
        stop: the last one with ``endpoint``; without it, the one that would come next.
        num: how many.
        dtype: a floating dtype, by default float32.
        device: by default the current device.
        endpoint: whether ``stop`` is among the numbers.

    Raises:
        ArgumentError: if ``num`` is negative, or a number is not finite.
        DTypeError: if the dtype is not floating.
    """
    target = as_dtype(dtype)
    steps = max(num - 1 if endpoint else num, 1)
    i = iota(num, dtype=_wide(target), device=device)
    # From both ends, so that both are exact; half of the distance, which does not overflow.
    half = (stop / 2 - start / 2) / steps
    low = (i * 2) * half + start
    high = stop - ((steps - i) * 2) * half
    return astype(where(i * 2 < steps, low, high), target)


__all__ = ["arange", "linspace"]
