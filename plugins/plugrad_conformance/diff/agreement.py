"""Whether two devices' results of one application agree: the rule of `plugrad diff`.

Integers and booleans agree if they are equal; NaN and infinities, if they stand in the same places. Other floating
elements agree if they differ by no more than ``c * sqrt(k) * eps * scale``: ``eps`` is that of the dtype, ``c`` is 64,
or 8 for dtypes of 16 bits, and ``k`` says how many input elements, at most, there are to a result element, for the
rounding errors of that many terms add up like steps of a random walk. For an elementwise primitive the scale is the
element itself. For anything else it is the largest magnitude of the result, or, where terms cancel and leave less than
their own rounding, what the result moves by when each input moves by a rounding, in units of ``eps``: no device can be
asked for more than the inputs determine.

This tells a wrong kernel from a differently rounded one. It is no measure of accuracy: `plugrad conformance` is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plugrad.dispatch.statement import Kind
from plugrad.dtypes import DType, as_dtype, finfo
from plugrad.spec import Device
from plugrad_conformance.diff.application import Application, Host, compute
from plugrad_conformance.measure import ulp


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two results differ by more than the rule allows.

    Attributes:
        result: which result, by its number from 0.
        reason: what differs before any element does: a shape, a dtype, a result that is not there; or the empty
            string, and then the rest counts.
        position: of the worst element.
        expected, got: that element from either device.
        ulp: their distance in units in the last place; None for a dtype that is not floating.
        relative: their distance relative to ``expected``.
        allowed: the largest distance that counts as rounding.
        wrong, size: how many elements differ too much, of how many.
    """

    result: int
    reason: str = ""
    position: tuple[int, ...] = ()
    expected: Any = None
    got: Any = None
    ulp: float | None = None
    relative: float = math.nan
    allowed: float = 0.0
    wrong: int = 0
    size: int = 0


def difference(
    application: Application,
    expected: Sequence[Host | None],
    got: Sequence[Host | None],
    tolerance: float | None,
    of: Mapping[Device, Sequence[Host | None]],
) -> Difference | None:
    """The first result of an application that differs, or None.

    Args:
        application: the application.
        expected: the results of one device.
        got: the results of the other.
        tolerance: stands for ``c * sqrt(k) * eps`` if it is given.
        of: the results by the devices that are here to compute the application again: where rounding counts, the
            device whose results move least is believed, for one that is not repeatable moves without cause.
    """
    if len(expected) != len(got):
        return Difference(0, f"{len(expected)} results against {len(got)}")
    for index, (e, g) in enumerate(zip(expected, got, strict=True)):
        if e is None or g is None:
            if e is not g:
                return Difference(index, f"{_said(e)} against {_said(g)}")
            continue
        if e.shape != g.shape or e.dtype != g.dtype:
            return Difference(index, f"{_said(e)} against {_said(g)}")
        dtype = as_dtype(e.dtype)
        if not dtype.is_floating:
            found = _unequal(index, e, g)
        else:
            found = _apart(index, application, e, g, dtype, tolerance, of)
        if found is not None:
            return found
    return None


def _said(value: Host | None) -> str:
    return "no array" if value is None else f"{value.dtype} {value.shape}"


def _unequal(index: int, expected: Host, got: Host) -> Difference | None:
    wrong = expected != got
    if not wrong.any():
        return None
    distance = np.abs(got.astype(np.float64) - expected.astype(np.float64)) * wrong
    at = _position(np.where(wrong, np.maximum(distance, 0.5), 0.0))
    e, g = expected[at].item(), got[at].item()
    relative = abs(int(g) - int(e)) / abs(int(e)) if e else math.inf
    return Difference(
        index, "", at, expected[at], got[at], None, relative, 0.0, int(np.count_nonzero(wrong)), expected.size
    )


def _apart(
    index: int,
    application: Application,
    expected: Host,
    got: Host,
    dtype: DType,
    tolerance: float | None,
    of: Mapping[Device, Sequence[Host | None]],
) -> Difference | None:
    e, g = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(e) & np.isfinite(g)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(finite, np.abs(g - e), 0.0)
    misplaced = ~finite & (e != g) & ~(np.isnan(e) & np.isnan(g))
    info = finfo(dtype)
    if tolerance is None:
        terms = max((a.size / max(e.size, 1) for a in application.arrays), default=1.0)
        tolerance = (64 if dtype.itemsize > 2 else 8) * math.sqrt(max(terms, 1.0)) * info.eps
    op = application.op
    alone = op.primitive and op.kind is Kind.ELEMENTWISE
    scale: Any = np.abs(e) if alone else _largest(e)
    allowed = np.broadcast_to(tolerance * scale + info.smallest_normal, e.shape)
    if not alone and (error > allowed).any():
        scale = max(scale, min(_moves(index, application, d, r) for d, r in of.items()) / info.eps)
        allowed = np.broadcast_to(tolerance * scale + info.smallest_normal, e.shape)
    # Not written the other way round: infinite or NaN bounds allow nothing.
    wrong = misplaced | (finite & ~(error <= allowed))
    if not wrong.any():
        return None
    at = _position(np.where(misplaced, np.inf, np.where(wrong, error / allowed, 0.0)))
    distance = float(error[at]) if finite[at] else math.inf
    return Difference(
        index,
        "",
        at,
        expected[at],
        got[at],
        distance / float(ulp(e[at], dtype)) if finite[at] else math.inf,
        distance / abs(float(e[at])) if e[at] and finite[at] else math.inf,
        float(allowed[at]),
        int(np.count_nonzero(wrong)),
        e.size,
    )


def _moves(index: int, application: Application, device: Device, results: Sequence[Host | None]) -> float:
    """How far the elements of a device's result move when each input element moves by a rounding."""
    rng = np.random.default_rng(0)
    most, result = 0.0, results[index]
    for _ in range(2):
        moved = compute(application.nudged(rng), device).results[index]
        if result is not None and moved is not None and moved.shape == result.shape:
            with np.errstate(invalid="ignore", over="ignore"):
                most = max(most, _largest(moved.astype(np.float64) - result))
    return most


def _largest(values: Host) -> float:
    return float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))


def _position(error: Host) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(error)), error.shape))


__all__ = ["Difference", "difference"]
