"""Products of matrices. BLAS takes transposed views without a copy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.graph.ir import Graph
from plugrad_numpy import _blas
from plugrad_numpy.kernels._precision import given, is_low, widened
from plugrad_numpy.kernels._rows import ones
from plugrad_numpy.kernels._silent import again, run, silent
from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels._tail import Matrix, tail_of

Array = Any

_QUIET: Final = 9216
"""Elements of a matrix up to which OpenBLAS multiplies it with a vector in one thread by itself."""
_SMALL: Final = 1 << 18
"""The product of the three sizes up to which nothing but NumPy's own product comes into question."""


def in_rows(x: Array) -> Array:
    """``x`` (..., n) as (rows, n)."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


def taken(x: Array) -> Array:
    """``x`` as BLAS takes it: a copy where neither of the last two axes has its elements side by side.

    NumPy multiplies such arrays, those of stride 0 among them, without BLAS.
    """
    if x.flags.forc:
        return x
    down, across = x.strides[-2:]
    rows, columns = x.shape[-2:]
    one = x.itemsize
    if (across == one and down >= columns * one) or (down == one and across >= rows * one):
        return x
    return np.ascontiguousarray(x)


def product(x1: Array, x2: Array, into: Array | None = None) -> Array:
    """(..., n, k) by (..., k, m), in float32 for 16-bit floats, to ``into`` where there is one."""
    if is_low(x1.dtype):
        return given(product(widened(x1), widened(x2)).astype(x1.dtype), into)
    if x1.ndim == 2 == x2.ndim:
        return _blas.matmul(taken(x1), taken(x2), into)
    if x2.ndim == 2 and x1.flags.c_contiguous and (into is None or into.flags.c_contiguous):
        # One product, of all rows.
        shape = (*x1.shape[:-1], x2.shape[1])
        rows = prod(x1.shape[:-1])
        flat = None if into is None else into.reshape(rows, x2.shape[1])
        return _blas.matmul(x1.reshape(rows, x1.shape[-1]), taken(x2), flat).reshape(shape)
    return _blas.matmul(taken(x1), taken(x2), into)


def small(a: Any, b: Any) -> bool:
    """Whether the specs are of two matrices whose product is best left to NumPy."""
    return a.ndim == 2 == b.ndim and not is_low(a.dtype.numpy) and a.size * b.shape[1] <= _SMALL


def small_product(x1: Array, x2: Array, into: Array | None = None) -> Array:
    """The product of two matrices, by the shortest way."""
    if not (x1.flags.forc and x2.flags.forc):
        x1, x2 = taken(x1), taken(x2)
    try:
        return run(np.matmul, x1, x2, into)
    except RuntimeError as error:
        return again(error, np.matmul, x1, x2, into)


def with_tail(graph: Graph, *, turned: bool = False) -> Callable[..., Any] | None:
    """The product of rows with a matrix, or with a ``turned`` one, and what follows it."""
    tail = tail_of(graph, Matrix.takes)
    if tail is None:
        return None

    @silent
    def kernel(x1: Array, x2: Array, /, *others: Array, into: Any = None, **_: Any) -> Any:
        def multiplied(place: Array, finish: Any) -> None:
            matrix = x2.T if turned else x2
            _blas.gemm(taken(in_rows(x1)), taken(matrix), in_rows(place), None, finish)

        return tail.run(multiplied, others, into, Matrix(tail.shape))

    return kernel


def _by_matrix(specs: Any, attributes: Any) -> bool:
    """Whether the second operand is one matrix."""
    del attributes
    return bool(specs[1].ndim == 2)


table(ops.matrix_product, when=lambda specs, _: small(*specs), epilogue=with_tail)(small_product)


# The lower one is registered first.
@table(ops.matrix_product, spreads=True)
@table(ops.matrix_product, when=_by_matrix, spreads=True, epilogue=with_tail)
@silent
def _(x1: Array, x2: Array, *, into: Array | None = None) -> Array:
    return product(x1, x2, into)


def summed(x: Array, shape: tuple[int, ...]) -> Array:
    """``x`` summed down to ``shape``, from which it was broadcast."""
    if x.shape == shape:
        return x
    extra = x.ndim - len(shape)
    stretched = (i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1)
    return np.add.reduce(x, axis=(*range(extra), *stretched), dtype=x.dtype).reshape(shape)


def column_sums(x: Array, into: Array | None = None) -> Array:
    """The sums over the rows of a matrix of float32 or float64, as a product with ones.

    NumPy's own sum takes five to ten times as long.
    """
    if x.size <= _QUIET:
        return np.matmul(ones(len(x), x.dtype), taken(x), into)
    with _blas.single_threaded():
        return np.matmul(ones(len(x), x.dtype), taken(x), into)


def _of_rows(specs: Any, attributes: Any) -> bool:
    """Whether the rows of the first operand met one matrix."""
    return _by_matrix(specs, attributes) and attributes.x1.ndim >= 2


@table(ops.matrix_product.vjp_for("x1"))
@table(ops.matrix_product.vjp_for("x1"), when=_of_rows, epilogue=partial(with_tail, turned=True))
@silent
def _(ct: Array, x2: Array, *, x1: Any, into: Array | None = None) -> Array:
    shape = x1.shape
    if len(shape) == 2 < x2.ndim:
        terms = prod(x2.shape[:-2]) * x2.shape[-1]
        ct = np.moveaxis(ct, -2, 0).reshape(shape[0], terms)
        return product(ct, x2.swapaxes(-1, -2).reshape(terms, shape[1]), into)
    turned = x2.swapaxes(-1, -2)
    if ct.shape[:-2] == shape[:-2]:
        return product(ct, turned, into)
    return given(summed(product(widened(ct), widened(turned)), shape).astype(ct.dtype, copy=False), into)


@table(ops.matrix_product.vjp_for("x2"))
@silent
def _(ct: Array, x1: Array, *, x2: Any, into: Array | None = None) -> Array:
    shape = x2.shape
    if len(shape) == 2 < x1.ndim:
        rows = prod(x1.shape[:-1])
        x1, ct = x1.reshape(rows, shape[0]), ct.reshape(rows, shape[1])
    turned = x1.swapaxes(-1, -2)
    if ct.shape[:-2] == shape[:-2]:
        return product(turned, ct, into)
    return given(summed(product(widened(turned), widened(ct)), shape).astype(ct.dtype, copy=False), into)
