"""Layer norm and root-mean-square norm: rows in blocks, each read and written once."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._precision import given, is_low, widened
from plugrad_numpy.kernels._rows import as_rows, contiguous, in_rows, ones, slots
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any
Shape = tuple[int, ...]


_BLOCK: Final = 1 << 19
"""Bytes of a block. In halves of it threads that take the interpreter lock wait for each other: the gradient of 4096 rows
of 512 takes 40 % longer."""


def _wide(dtype: Any) -> Any:
    return np.dtype(np.float32) if is_low(dtype) else dtype


def _vector(x: Array | None, width: int) -> Array | None:
    """A weight or bias as one row to compute with."""
    if x is None:
        return None
    return widened(x if x.flags.c_contiguous else np.ascontiguousarray(x)).reshape(width)


def _normalized(
    x: Array, weight: Array | None, bias: Array | None, axes: int, eps: float, centred: bool, into: Any
) -> tuple[Array, ...]:
    """The result, the means where ``centred``, and the reciprocal deviations."""
    rows = as_rows(x, axes)
    count, width = rows.shape
    wide = _wide(x.dtype)
    weight, bias = _vector(weight, width), _vector(bias, width)
    where = slots(into, 3 if centred else 2)
    out = contiguous(where[0], x.shape, x.dtype)
    target = out.reshape(rows.shape)
    kept = (*x.shape[: x.ndim - axes], *(1,) * axes)
    means = np.empty((count if centred else 0, 1), wide)
    rstds = np.empty((count, 1), wide)
    unit = ones(width, wide)
    inverse = wide.type(1 / width)
    low = wide != x.dtype

    def work(part: slice, _: Any) -> None:
        block = widened(rows[part])
        buffer = scratch("0", block.shape, wide) if low else target[part]
        if centred:
            mean = means[part]
            np.multiply((block @ unit)[:, None], inverse, out=mean)
            block = np.subtract(block, mean, out=buffer)
        rstd = rstds[part]
        np.multiply(np.vecdot(block, block)[:, None], inverse, out=rstd)
        rstd += wide.type(eps)
        np.sqrt(rstd, out=rstd)
        np.reciprocal(rstd, out=rstd)
        np.multiply(block, rstd, out=buffer)
        if weight is not None:
            buffer *= weight
        if bias is not None:
            buffer += bias
        if low:
            target[part] = buffer

    in_rows(work, count, width, wide.itemsize, block=_BLOCK)
    results = [out if where[0] is None or out is where[0] else given(out, where[0])]
    if centred:
        results.append(given(means.reshape(kept), where[1] if len(where) > 1 else None))
    results.append(given(rstds.reshape(kept), where[-1] if len(where) > 1 else None))
    return tuple(results)


@table(ops.layer_norm)
@silent
def _(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    normalized_shape: Shape,
    eps: float,
    residuals: bool,
    into: Any = None,
) -> Any:
    results = _normalized(x, weight, bias, len(normalized_shape), eps, True, into)
    return results if residuals else results[0]


@table(ops.rms_norm)
@silent
def _(
    x: Array,
    weight: Array | None,
    *,
    normalized_shape: Shape,
    eps: float,
    residuals: bool,
    into: Any = None,
) -> Any:
    results = _normalized(x, weight, None, len(normalized_shape), eps, False, into)
    return results if residuals else results[0]


def _pulled(
    ct: Array,
    x: Array,
    weight: Array | None,
    mean: Array | None,
    rstd: Array,
    axes: int,
    wrt: tuple[str, ...],
    into: Any,
) -> tuple[Array, ...]:
    """The cotangents of x, weight and bias that ``wrt`` names; without ``mean`` those of the norm that does not centre.

    With d = x - mean, r the reciprocal deviation, n = d r and g = ct weight, that of x is
    r (g - mean(g) - n mean(g n)). The sums over a row are products with the weight, those over rows products
    with r.
    """
    rows, cts = as_rows(x, axes), as_rows(ct, axes)
    count, width = rows.shape
    dtype, wide = x.dtype, _wide(x.dtype)
    shape = x.shape[x.ndim - axes :]
    low = wide != dtype
    vector: Any = ones(width, wide) if weight is None else _vector(weight, width)
    rstds = np.ascontiguousarray(rstd).reshape(count, 1)
    means = None if mean is None else np.ascontiguousarray(mean).reshape(count, 1)
    inverse = wide.type(1 / width)
    where = dict(zip(wrt, slots(into, len(wrt)), strict=True))
    out = contiguous(where["x"], x.shape, dtype) if "x" in wrt else None
    target = None if out is None else out.reshape(rows.shape)

    def work(part: slice, sums: Array) -> None:
        c, d, r = widened(cts[part]), widened(rows[part]), rstds[part]
        if means is not None:
            d = np.subtract(d, means[part], out=scratch("0", d.shape, wide))
        product = np.multiply(c, d, out=scratch("1", d.shape, wide))
        sums[0] += r[:, 0] @ product
        if "bias" in wrt:
            sums[1] += ones(len(c), wide) @ c
        if target is None:
            return
        along = (product @ vector)[:, None]
        along *= r
        along *= r
        along *= inverse
        buffer = product if low else target[part]
        d = np.multiply(d, along, out=scratch("0", d.shape, wide))
        if weight is not None:
            np.multiply(c, vector, out=buffer)
            buffer -= d
        else:
            np.subtract(c, d, out=buffer)
        if means is not None:
            total = (c @ vector)[:, None]
            total *= inverse
            buffer -= total
        buffer *= r
        if low:
            target[part] = buffer

    sums = in_rows(work, count, width, wide.itemsize, ((2, width), wide), block=_BLOCK)
    found = {"weight": sums[0], "bias": sums[1]}
    results = []
    for name in wrt:
        if name == "x":
            results.append(out if where["x"] is None or out is where["x"] else given(out, where["x"]))
        else:
            result = found[name].reshape(shape).astype(dtype, copy=False)
            results.append(given(result, where[name]))
    return tuple(results)


@table(ops.layer_norm.vjp)
@silent
def _(
    ct: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    *,
    normalized_shape: Shape,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[Array, ...]:
    return _pulled(ct, x, weight, mean, rstd, len(normalized_shape), wrt, into)


@table(ops.rms_norm.vjp)
@silent
def _(
    ct: Array,
    x: Array,
    weight: Array | None,
    rstd: Array,
    *,
    normalized_shape: Shape,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[Array, ...]:
    return _pulled(ct, x, weight, None, rstd, len(normalized_shape), wrt, into)
