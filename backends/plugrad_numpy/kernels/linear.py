"""The fully connected layer: one product of all rows, which bias is added to where it lies."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy import _blas
from plugrad_numpy.kernels._precision import given, is_low, widened
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels.linear_algebra import column_sums, product, small, taken

Array = Any


def _rows(x: Array) -> Array:
    """``x`` (..., n) as (rows, n)."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _small(specs: Any, attributes: Any) -> bool:
    del attributes
    x, weight, _ = specs
    return small(x, weight)


def _small_linear(x: Array, weight: Array, bias: Array | None, into: Array | None = None) -> Array:
    if not (x.flags.forc and weight.flags.forc):
        x, weight = taken(x), taken(weight)
    out = np.matmul(x, weight.T, into)
    if bias is not None:
        np.add(out, bias, out)
    return out


table(ops.linear, when=_small, bare=_small_linear)(silent(_small_linear))


@table(ops.linear, spreads=True)
@silent
def _(x: Array, weight: Array, bias: Array | None, *, into: Array | None = None) -> Array:
    shape, dtype = (*x.shape[:-1], weight.shape[0]), x.dtype
    direct = into is not None and into.flags.c_contiguous and not is_low(dtype)
    rows = None if into is None or not direct else _rows(into)
    out = _blas.gemm(
        taken(widened(_rows(x))), taken(widened(weight).T), rows, None if bias is None else widened(bias)
    )
    return into if direct else given(out.reshape(shape).astype(dtype, copy=False), into)


@table(ops.linear.vjp_for("x"), spreads=True)
@silent
def _(ct: Array, weight: Array, *, x: Any, into: Array | None = None) -> Array:
    if into is not None and into.flags.c_contiguous:
        product(_rows(ct), weight, _rows(into))
        return into
    return given(product(_rows(ct), weight).reshape(x.shape), into)


@table(ops.linear.vjp_for("weight"), spreads=True)
@silent
def _(ct: Array, x: Array, *, into: Array | None = None) -> Array:
    return product(_rows(ct).T, _rows(x), into)


def _bias_vjp(ct: Array, into: Array | None = None) -> Array:
    rows = _rows(ct)
    if is_low(ct.dtype):
        return given(column_sums(widened(rows)).astype(ct.dtype), into)
    return column_sums(rows, into)


table(ops.linear.vjp_for("bias"), bare=_bias_vjp)(silent(_bias_vjp))
