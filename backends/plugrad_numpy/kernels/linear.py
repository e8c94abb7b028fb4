"""The fully connected layer: one product of all rows, which bias is added to where it lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.graph.ir import Graph
from plugrad_numpy import _blas
from plugrad_numpy.kernels._precision import given, is_low, widened
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels._tail import Matrix, tail_of
from plugrad_numpy.kernels.linear_algebra import column_sums, in_rows, product, small, taken, with_tail

Array = Any


def _small(specs: Any, attributes: Any) -> bool:
    del attributes
    return small(specs[0], specs[1])


_FEW: Final = 4096
"""Elements of rows that are transposed in 2 us."""


def _small_linear(x: Array, weight: Array, bias: Array | None, into: Array | None = None) -> Array:
    if not (x.flags.forc and weight.flags.forc):
        x, weight = taken(x), taken(weight)
    rows, columns = len(x), len(weight)
    if columns >= 64 and rows >= 16 and 2 * x.size <= min(_FEW, weight.size):
        # OpenBLAS's small products of rows with rows take up to twice as long as those of columns with them.
        x = x.T.copy().T
    out = np.matmul(x, weight.T, into)
    if bias is not None:
        np.add(out, bias, out)
    return out


def _with_tail(graph: Graph) -> Callable[..., Any] | None:
    """The layer and what follows it."""
    tail = tail_of(graph, Matrix.takes)
    if tail is None:
        return None

    @silent
    def kernel(x: Array, weight: Array, bias: Array | None, *others: Array, into: Any = None) -> Any:
        def layer(place: Array, finish: Any) -> None:
            _blas.gemm(taken(in_rows(x)), taken(weight.T), in_rows(place), bias, finish)

        return tail.run(layer, others, into, Matrix(tail.shape))

    return kernel


table(ops.linear, when=_small, bare=_small_linear, epilogue=_with_tail)(silent(_small_linear))


@table(ops.linear, spreads=True, epilogue=_with_tail)
@silent
def _(x: Array, weight: Array, bias: Array | None, *, into: Array | None = None) -> Array:
    shape, dtype = (*x.shape[:-1], weight.shape[0]), x.dtype
    direct = into is not None and into.flags.c_contiguous and not is_low(dtype)
    rows = None if into is None or not direct else in_rows(into)
    out = _blas.gemm(
        taken(widened(in_rows(x))), taken(widened(weight).T), rows, None if bias is None else widened(bias)
    )
    return into if direct else given(out.reshape(shape).astype(dtype, copy=False), into)


def _small_vjp_x(ct: Array, weight: Array, into: Array | None = None, *, x: Any) -> Array:
    del x
    if not (ct.flags.forc and weight.flags.forc):
        ct, weight = taken(ct), taken(weight)
    return np.matmul(ct, weight, into)


def _small_vjp_weight(ct: Array, x: Array, into: Array | None = None) -> Array:
    if not (ct.flags.forc and x.flags.forc):
        ct, x = taken(ct), taken(x)
    return np.matmul(ct.T, x, into)


table(ops.linear.vjp_for("x"), when=_small, bare=_small_vjp_x, epilogue=with_tail)(silent(_small_vjp_x))
table(ops.linear.vjp_for("weight"), when=_small, bare=_small_vjp_weight)(silent(_small_vjp_weight))


@table(ops.linear.vjp_for("x"), spreads=True, epilogue=with_tail)
@silent
def _(ct: Array, weight: Array, *, x: Any, into: Array | None = None) -> Array:
    if into is not None and into.flags.c_contiguous:
        product(in_rows(ct), weight, in_rows(into))
        return into
    return given(product(in_rows(ct), weight).reshape(x.shape), into)


@table(ops.linear.vjp_for("weight"), spreads=True)
@silent
def _(ct: Array, x: Array, *, into: Array | None = None) -> Array:
    return product(in_rows(ct).T, in_rows(x), into)


def _bias_vjp(ct: Array, into: Array | None = None) -> Array:
    rows = in_rows(ct)
    if is_low(ct.dtype):
        return given(column_sums(widened(rows)).astype(ct.dtype), into)
    return column_sums(rows, into)


table(ops.linear.vjp_for("bias"), bare=_bias_vjp)(silent(_bias_vjp))
