"""Scans along an axis. 16-bit floats accumulate in float32."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any

_FEW: Final = 24
"""Recurrences side by side from which on a NumPy call for all of them beats Python's arithmetic on each."""


def _wide(dtype: Any) -> Any:
    return np.float32 if dtype.is_floating and dtype.itemsize == 2 else dtype.numpy


def _accumulated(
    ufunc: Any, x: Array, axis: int, dtype: Any, wide: Any, initial: bool, into: Array | None
) -> Array:
    """The scan of ``ufunc`` in ``wide``, after its identity where ``initial`` is asked for, as ``dtype``."""
    target = into if wide == dtype else None
    if initial:
        shape = list(x.shape)
        shape[axis] += 1
        out = np.empty(shape, wide) if target is None else target
        along = np.moveaxis(out, axis, 0)
        along[0] = ufunc.identity
        ufunc.accumulate(np.moveaxis(x, axis, 0), axis=0, dtype=wide, out=along[1:])
    else:
        out = ufunc.accumulate(x, axis=axis, dtype=wide, out=target)
    if into is None:
        return out.astype(dtype, copy=False)
    return into if out is into else given(out, into)


@table(ops.cumulative_sum)
@silent
def _(x: Array, *, axis: int, dtype: Any, include_initial: bool, into: Array | None = None) -> Array:
    # One running sum rounds once an element; in float32 that would show.
    wide = np.float64 if dtype.name == "float32" else _wide(dtype)
    return _accumulated(np.add, x, axis, dtype.numpy, wide, include_initial, into)


@table(ops.cumulative_prod)
@silent
def _(x: Array, *, axis: int, dtype: Any, include_initial: bool, into: Array | None = None) -> Array:
    return _accumulated(np.multiply, x, axis, dtype.numpy, _wide(dtype), include_initial, into)


def _one_by_one(factors: list[float], terms: list[float]) -> list[float]:
    """The recurrence in Python's floats."""
    factors[0] = 0.0
    return list(accumulate(zip(factors, terms, strict=True), lambda h, at: at[0] * h + at[1], initial=0.0))[
        1:
    ]


@table(ops.linear_recurrence)
@silent
def _(a: Array, b: Array, *, axis: int, reverse: bool, into: Array | None = None) -> Array:
    step = -1 if reverse else 1
    factors = np.moveaxis(widened(a), axis, 0)[::step]
    terms = np.moveaxis(widened(b), axis, 0)[::step]
    out = np.empty(b.shape, terms.dtype)
    results = np.moveaxis(out, axis, 0)[::step]
    n = len(terms)
    if terms.size and terms.size < _FEW * n:
        rows = zip(factors.reshape(n, -1).T.tolist(), terms.reshape(n, -1).T.tolist(), strict=True)
        found = np.array([_one_by_one(*row) for row in rows])
        results[...] = found.T.reshape(results.shape)
    elif terms.size:
        results[0] = terms[0]
        for before, here, factor, term in zip(results, results[1:], factors[1:], terms[1:], strict=False):
            np.multiply(before, factor, out=here)
            here += term
    return out.astype(b.dtype, copy=False) if into is None else given(out, into)
