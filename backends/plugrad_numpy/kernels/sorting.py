"""Orders along an axis. NaN is the largest, as in NumPy; bfloat16 goes by float32, as its own order is another."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.errors import IndexRangeError
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._table import table

Array = Any

_MANY: Final = 8
"""How many times as many elements as are wanted make it worth to set those apart before they are sorted."""


def _order(x: Array, axis: int, descending: bool, stable: bool) -> Array:
    """The indices that sort ``x``."""
    x = widened(x)
    kind: Any = "stable" if stable else None
    if not descending:
        return np.argsort(x, axis=axis, kind=kind)
    # The ascending order of the elements from the last to the first, read backwards, keeps that of equal ones.
    return x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind=kind), axis)


@table(ops.argsort)
def _(x: Array, *, axis: int, descending: bool, stable: bool, into: Array | None = None) -> Array:
    return given(_order(x, axis, descending, stable), into)


def _told_apart(x: Array) -> bool:
    """Whether elements that are equal can be told apart: 0 and -0."""
    if x.dtype.kind != "f":
        return False
    signs = np.signbit(x[x == 0])
    return bool(signs.any() and not signs.all())


@table(ops.sort)
def _(x: Array, *, axis: int, descending: bool, stable: bool, residuals: bool, into: Any = None) -> Any:
    wide = widened(x)
    if residuals or (stable and _told_apart(wide)):
        order = _order(wide, axis, descending, stable)
        result = np.take_along_axis(x, order, axis)
        if residuals:
            return (result, order) if into is None else (given(result, into[0]), given(order, into[1]))
    else:
        # NumPy's fast sorts are not stable, which does not show here.
        result = np.sort(wide, axis=axis)
        result = (np.flip(result, axis) if descending else result).astype(x.dtype, order="C", copy=False)
    return given(result, into)


def _top(x: Array, k: int, axis: int, largest: bool) -> Array:
    """The indices of the ``k`` largest or smallest elements of ``x``, in their order."""
    rows = np.moveaxis(x, axis, -1)
    n = rows.shape[-1]
    if n < _MANY * k or not k or (x.dtype.kind == "f" and np.isnan(x).any()):
        order = _order(x, axis, largest, True)
        return order[(slice(None),) * axis + (slice(k),)]
    at = n - k if largest else k - 1
    last = np.partition(rows, at, axis=-1)[..., at : at + 1]
    chosen = rows > last if largest else rows < last
    # Of those that equal the last one, the first few.
    wanted = k - np.count_nonzero(chosen, axis=-1, keepdims=True)
    ties = rows == last
    chosen |= ties & (np.cumsum(ties, axis=-1) <= wanted)
    places = np.nonzero(chosen)[-1].reshape(*rows.shape[:-1], k)
    order = _order(np.take_along_axis(rows, places, -1), -1, largest, True)
    return np.moveaxis(np.take_along_axis(places, order, -1), -1, axis)


@table(ops.top_k)
def _(x: Array, *, k: int, axis: int, largest: bool, into: Any = None) -> Any:
    places = _top(widened(x), k, axis, largest)
    values = np.take_along_axis(x, places, axis)
    return (values, places) if into is None else (given(values, into[0]), given(places, into[1]))


@table(ops.searchsorted)
def _(x1: Array, x2: Array, sorter: Array | None, *, side: Any, into: Array | None = None) -> Array:
    if sorter is not None:
        n = len(x1)
        if n and not (-n <= sorter.min() and sorter.max() < n):
            wrong = next(i for i in sorter.tolist() if not -n <= i < n)
            raise IndexRangeError(f"searchsorted: index {wrong} is out of range for axis 0 of size {n}")
        x1 = x1[sorter]
    return given(np.searchsorted(widened(x1), widened(x2), side), into)
