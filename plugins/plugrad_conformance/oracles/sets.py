"""Oracles of the distinct elements. Distinct is what ``!=`` tells apart: each NaN is one of its own, and 0 equals -0."""

from __future__ import annotations

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle


@oracle("unique_all")
def _unique_all(x: Array) -> tuple[Array, Array, Array, Array]:
    flat = x.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    fresh = np.ones(flat.size, np.bool_)
    fresh[1:] = ordered[1:] != ordered[:-1]
    inverse = np.zeros(flat.size, np.int64)
    inverse[order] = np.cumsum(fresh) - 1
    starts = np.flatnonzero(fresh)
    counts = np.diff(np.append(starts, flat.size))
    return ordered[fresh], order[fresh].astype(np.int64), inverse.reshape(x.shape), counts.astype(np.int64)


@oracle("unique_counts")
def _unique_counts(x: Array) -> tuple[Array, Array]:
    values, _, _, counts = _unique_all(x)
    return values, counts


@oracle("unique_inverse")
def _unique_inverse(x: Array) -> tuple[Array, Array]:
    values, _, inverse, _ = _unique_all(x)
    return values, inverse


@oracle("unique_values")
def _unique_values(x: Array) -> Array:
    return _unique_all(x)[0]
