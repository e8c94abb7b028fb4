"""Oracles of the scans, and of differences of neighbours."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from plugrad.dtypes import DType
from plugrad_conformance.oracles._held import Array, held
from plugrad_conformance.oracles._register import oracle


@oracle("cumulative_sum")
@np.errstate(all="ignore")
def _cumulative_sum(x: Array, *, axis: int, dtype: DType, include_initial: bool) -> Array:
    sums = np.cumsum(x, axis=axis, dtype=held(dtype))
    return _begun(sums, axis, 0) if include_initial else sums


@oracle("cumulative_prod")
@np.errstate(all="ignore")
def _cumulative_prod(x: Array, *, axis: int, dtype: DType, include_initial: bool) -> Array:
    products = np.cumprod(x, axis=axis, dtype=held(dtype))
    return _begun(products, axis, 1) if include_initial else products


def _begun(scanned: Array, axis: int, first: int) -> Array:
    """``scanned`` with ``first`` before its elements along ``axis``."""
    shape = (*scanned.shape[:axis], 1, *scanned.shape[axis + 1 :])
    return np.concatenate([np.full(shape, first, scanned.dtype), scanned], axis=axis)


@oracle("linear_recurrence")
@np.errstate(all="ignore")
def _linear_recurrence(a: Array, b: Array, *, axis: int, reverse: bool) -> Array:
    factors, terms = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    out = np.array(terms)
    steps = range(len(terms))
    for before, i in pairwise(reversed(steps) if reverse else steps):
        out[i] = factors[i] * out[before] + terms[i]
    return np.moveaxis(out, 0, axis)


@oracle("diff")
@np.errstate(all="ignore")
def _diff(x: Array, prepend: Array | None, append: Array | None, *, axis: int, n: int) -> Array:
    if n == 0:
        return np.array(x)
    out = np.concatenate([p for p in (prepend, x, append) if p is not None], axis=axis)
    for _ in range(n):
        rows = np.moveaxis(out, axis, 0)
        out = np.moveaxis(rows[1:] - rows[:-1], 0, axis)
    return out
