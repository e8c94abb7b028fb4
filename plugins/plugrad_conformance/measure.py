"""How far a result is from the oracle's, and whether that is too far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from plugrad.dtypes import DType
from plugrad_conformance.tolerances import Bound, Exact, Gradient, Norm, Terms, Ulp

Host = np.ndarray[Any, Any]


class Failure(Exception):
    """A device does not do what is asked. The message says what was got, what was wanted, and where."""


@dataclass(slots=True)
class Worst:
    """The largest error that a case met.

    Attributes:
        value: its size.
        unit: ``ULP``, or ``bound`` for a fraction of what is allowed.
    """

    value: float | None = None
    unit: str | None = None

    def meet(self, value: float, unit: str) -> None:
        """Take an error into account; ULP and fractions of a bound are not compared with each other."""
        if self.value is None or (unit == self.unit and value > self.value):
            self.value, self.unit = value, unit


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an oracle gives.

    Attributes:
        value: the result; floating ones in float64.
        tail: what is to be added to ``value``, where float64 is not enough to hold the result; or None.
        terms: the sum of the terms' magnitudes and how many there are, for results that are sums; or None.
        loose: positions that are not compared; or None.
        largest: the largest magnitude among the operands, at each place or of all; of a gradient, among the
            cotangents; or None.
    """

    value: Host
    tail: Host | None = None
    terms: tuple[Host, Host] | None = None
    loose: Host | None = None
    largest: Host | None = None


def compare(what: str, got: Host, wanted: Wanted, dtype: DType, bound: Bound, worst: Worst) -> None:
    """Hold ``got`` against ``wanted``.

    NaN must stand where NaN is wanted and nowhere else, an infinity where the wanted value rounds to one. What is
    below the smallest normal number may have been flushed to zero.

    Raises:
        Failure: if the shape or the dtype is another one, or a value is too far.
    """
    if got.dtype != dtype.numpy:
        raise Failure(f"{what}: the array has dtype {got.dtype}, the op's rule says {dtype}")
    if got.shape != wanted.value.shape:
        raise Failure(f"{what}: the array has shape {got.shape}, wanted {wanted.value.shape}")
    if not got.size:
        return
    if not dtype.is_floating:
        _raise_first(what, got != wanted.value, got, wanted.value, "")
        worst.meet(0.0, "ULP")
        return
    _compare_floating(what, got.astype(np.float64), wanted, dtype, bound, worst)


def _compare_floating(what: str, got: Host, wanted: Wanted, dtype: DType, bound: Bound, worst: Worst) -> None:
    value = np.asarray(wanted.value, np.float64)
    with np.errstate(all="ignore"):
        rounded = value.astype(dtype.numpy).astype(np.float64)
        checked = np.ones(got.shape, bool) if wanted.loose is None else ~wanted.loose
        finite = np.isfinite(rounded)
        if isinstance(bound, Exact):
            unequal = (got != rounded) & ~(np.isnan(got) & np.isnan(rounded)) & checked
            _raise_first(what, unequal, got, rounded, "bit for bit")
            worst.meet(0.0, "ULP")
            return
        wrong = np.where(np.isnan(rounded), ~np.isnan(got), ~finite & (got != rounded))
        _raise_first(what, wrong & checked, got, rounded, "")
        error = np.abs((got - value) - (0.0 if wanted.tail is None else wanted.tail))
        allowed, unit = _allowed(value, wanted, dtype, bound, finite)
        tiny = float(ml_dtypes.finfo(dtype.numpy).smallest_normal)  # type: ignore[no-untyped-call]
        error = np.where((np.abs(value) < tiny) & (np.abs(got) < tiny), 0.0, error)
        relevant = finite & checked
        shown = np.where(relevant, error / unit, 0.0)
        worst.meet(float(np.max(shown)), "ULP" if isinstance(bound, Ulp) else "bound")
        _raise_first(
            what, relevant & ~(error <= allowed), got, value, _named(bound, error, unit, allowed, relevant)
        )


def ulp(value: Host, dtype: DType) -> Host:
    """The unit in the last place of ``dtype`` at ``value``, in float64; never below that of normal numbers."""
    info = ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]
    magnitude = np.maximum(np.abs(value), float(info.smallest_normal))
    exponent = np.frexp(magnitude)[1] - 1
    unit: Host = np.ldexp(float(info.eps), exponent)
    return unit


def _allowed(value: Host, wanted: Wanted, dtype: DType, bound: Bound, finite: Host) -> tuple[Host, Host]:
    """What error is allowed at each place, and the unit that errors are told in."""
    eps = float(ml_dtypes.finfo(dtype.numpy).eps)  # type: ignore[no-untyped-call]
    counts = isinstance(bound, Gradient) or getattr(bound, "operands", False)
    other = wanted.largest if counts and wanted.largest is not None else np.zeros(())
    unit = ulp(np.maximum(np.abs(value), other) if isinstance(bound, Ulp) else value, dtype)
    if isinstance(bound, Ulp):
        return bound.of(dtype) * unit, unit
    scale: Any
    if isinstance(bound, Terms):
        if wanted.terms is None:
            raise TypeError("a bound of terms needs the sum of their magnitudes")
        total, count = wanted.terms
        scale = bound.factor * np.maximum(count, 1.0) * eps * total
    else:
        assert isinstance(bound, (Norm, Gradient))
        largest = float(np.max(np.abs(value), where=finite & np.isfinite(value), initial=0.0))
        scale = bound.factor * eps * max(largest, float(np.max(other, initial=0.0)))
    allowed = np.broadcast_to(scale + unit, value.shape)
    return allowed, allowed


def _named(bound: Bound, error: Host, unit: Host, allowed: Host, relevant: Host) -> str:
    at = np.unravel_index(int(np.argmax(np.where(relevant, error / allowed, 0.0))), error.shape)
    if isinstance(bound, Ulp):
        return f"up to {error[at] / unit[at]:.3g} ULP away, {allowed[at] / unit[at]:.3g} allowed"
    return f"up to {error[at]:.3g} away, {allowed[at]:.3g} allowed"


def _raise_first(what: str, wrong: Host, got: Host, wanted: Host, how: str) -> None:
    if not wrong.any():
        return
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f" at {list(at)}" if at else ""
    count = int(np.count_nonzero(wrong))
    several = f"; {count} of {wrong.size} elements are wrong" if count > 1 else ""
    raise Failure(
        f"{what}: got {got[at].item()!r}{place}, wanted {wanted[at].item()!r}{several}{f' ({how})' if how else ''}"
    )


def same_zeros(what: str, got: Host, wanted: Host) -> None:
    """Hold the signs of zeros against those wanted."""
    host, value = got.astype(np.float64), np.asarray(wanted, np.float64)
    zero = (host == 0) & (value == 0)
    _raise_first(f"{what}, the sign of zero", zero & (np.signbit(host) != np.signbit(value)), host, value, "")
