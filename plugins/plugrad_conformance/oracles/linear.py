"""Oracles of products of matrices and vectors. Integers wrap around."""

from __future__ import annotations

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle


@oracle("matrix_product", "matmul")
@np.errstate(all="ignore")
def _matrix_product(x1: Array, x2: Array) -> Array:
    return np.asarray(np.matmul(x1, x2))


@oracle("tensordot")
@np.errstate(all="ignore")
def _tensordot(x1: Array, x2: Array, *, axes: tuple[tuple[int, ...], tuple[int, ...]]) -> Array:
    return np.asarray(np.tensordot(x1, x2, axes))


@oracle("vecdot")
@np.errstate(all="ignore")
def _vecdot(x1: Array, x2: Array, *, axis: int) -> Array:
    terms = np.moveaxis(x1, axis, -1) * np.moveaxis(x2, axis, -1)
    return np.asarray(np.sum(terms, axis=-1, dtype=terms.dtype))


@oracle("linear")
@np.errstate(all="ignore")
def affine(x: Array, weight: Array, bias: Array | None) -> Array:
    """``x @ weight.T + bias``."""
    out = np.asarray(np.matmul(x, weight.T))
    return out if bias is None else out + bias
