"""Oracles of what makes arrays from nothing, and of the triangles of a matrix."""

from __future__ import annotations

import numpy as np

from plugrad.dtypes import DType
from plugrad_conformance.oracles._held import Array, held
from plugrad_conformance.oracles._register import oracle

Scalar = bool | int | float


@oracle("full")
def _full(*, shape: tuple[int, ...], fill_value: Scalar, dtype: DType) -> Array:
    return np.full(shape, fill_value, held(dtype))


@oracle("iota")
def _iota(*, length: int, dtype: DType) -> Array:
    # Integers wrap around where the dtype ends.
    return np.arange(length).astype(held(dtype))


@oracle("eye")
def _eye(*, n_rows: int, n_cols: int, k: int, dtype: DType) -> Array:
    return np.eye(n_rows, n_cols, k, dtype=held(dtype))


@oracle("arange")
def _arange(*, start: Scalar, stop: Scalar, step: Scalar, dtype: DType) -> Array:
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
        return np.array(list(range(start, stop, step)), held(dtype))
    length = max(0, int(np.ceil((stop - start) / step)))
    return float(start) + np.arange(length) * float(step)


@oracle("linspace")
def _linspace(*, start: float, stop: float, num: int, dtype: DType, endpoint: bool) -> Array:
    del dtype
    steps = max(num - 1 if endpoint else num, 1)
    share = np.arange(num) / steps
    # Weighted ends, exact at both, instead of their difference, which may overflow.
    return start * (1 - share) + stop * share


@oracle("tril")
def _tril(x: Array, *, k: int) -> Array:
    return np.where(_above(x, k), np.zeros((), x.dtype), x)


@oracle("triu")
def _triu(x: Array, *, k: int) -> Array:
    return np.where(_above(x, k - 1), x, np.zeros((), x.dtype))


def _above(x: Array, k: int) -> Array:
    """Whether an element of a matrix lies above its ``k``-th diagonal."""
    rows, columns = x.shape[-2:]
    above: Array = np.arange(columns) > np.arange(rows)[:, None] + k
    return above
