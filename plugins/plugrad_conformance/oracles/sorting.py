"""Oracles of orders along an axis, and of places in an order. NaN comes last in an ascending order."""

from __future__ import annotations

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle


@oracle("argsort")
def _argsort(x: Array, *, axis: int, descending: bool, stable: bool) -> Array:
    # The stable order is among those that stable=False allows.
    del stable
    if not descending:
        return np.asarray(np.argsort(x, axis=axis, kind="stable"), np.int64)
    # Of the reversed elements, reversed: equal ones are turned round twice.
    turned = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return np.asarray(x.shape[axis] - 1 - np.flip(turned, axis), np.int64)


@oracle("sort")
def _sort(x: Array, *, axis: int, descending: bool, stable: bool) -> Array:
    order = _argsort(x, axis=axis, descending=descending, stable=stable)
    return np.take_along_axis(x, order, axis=axis)


@oracle("top_k")
def _top_k(x: Array, *, k: int, axis: int, largest: bool) -> tuple[Array, Array]:
    order = _argsort(x, axis=axis, descending=largest, stable=True)
    indices = np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(x, indices, axis=axis), indices


@oracle("searchsorted")
def _searchsorted(x1: Array, x2: Array, sorter: Array | None, *, side: str) -> Array:
    ordered = x1 if sorter is None else x1[sorter]
    return np.asarray(np.searchsorted(ordered, x2, side="left" if side == "left" else "right"), np.int64)
