"""Scaled dot-product attention; see `plugrad_numpy._attention`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy._attention import Mask, attention, attention_vjp
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels.linear_algebra import summed

Array = Any
Ints = tuple[int, ...]


def _flat(x: Array, batch: Ints) -> Array:
    """``x`` (..., n, m) as (B, n, m), with the leading axes broadcast to ``batch``; 16-bit floats in float32."""
    x = widened(x)
    if x.shape[:-2] != batch:
        x = np.broadcast_to(x, (*batch, *x.shape[-2:]))
    return x.reshape(prod(batch), *x.shape[-2:])


def _scaled(query: Array, batch: Ints, scale: float) -> Array:
    """``query`` times ``scale``, as `_flat` gives it."""
    wide = widened(query)
    out = np.empty((*batch, *query.shape[-2:]), wide.dtype)
    np.multiply(wide, wide.dtype.type(scale), out)
    return out.reshape(prod(batch), *query.shape[-2:])


def _batch(*operands: Array) -> Ints:
    return np.broadcast_shapes(*(x.shape[:-2] for x in operands))


@table(ops.scaled_dot_product_attention)
@silent
def _(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None,
    *,
    is_causal: bool,
    scale: float,
    residuals: bool,
    into: Any = None,
) -> Any:
    batch, dtype = _batch(query, key, value), query.dtype
    q = _scaled(query, batch, scale)
    k, v = _flat(key, batch), _flat(value, batch)
    shape = (*batch, query.shape[-2], value.shape[-1])
    target, rest = into if residuals and into is not None else (into, None)
    direct = target is not None and target.dtype == q.dtype and target.flags.c_contiguous
    out = target if direct else np.empty(shape, q.dtype)
    log_sum = np.empty(shape[:-1], q.dtype) if residuals else None
    attention(
        q,
        k,
        v,
        Mask(attn_mask, batch, is_causal),
        out.reshape(len(q), *shape[-2:]),
        None if log_sum is None else log_sum.reshape(len(q), shape[-2]),
    )
    if not direct:
        out = given(out.astype(dtype, copy=False), target)
    return (out, given(log_sum, rest)) if residuals else out


@table(ops.scaled_dot_product_attention.vjp)
@silent
def _(
    ct: Array,
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None,
    out: Array,
    log_sum: Array,
    *,
    is_causal: bool,
    scale: float,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[Array, ...]:
    batch = _batch(query, key, value)
    q = _scaled(query, batch, scale)
    k, v, c, o = (_flat(x, batch) for x in (key, value, ct, out))
    mask = Mask(attn_mask, batch, is_causal)
    totals: dict[str, Array] = {
        n: np.empty(x.shape, q.dtype) for n, x in (("query", q), ("key", k), ("value", v)) if n in wrt
    }
    if "attn_mask" in wrt:
        assert mask.values is not None
        totals["attn_mask"] = np.zeros(mask.values.shape, q.dtype)
    wanted = tuple(totals.get(n) for n in ("query", "key", "value", "attn_mask"))
    attention_vjp(c, q, k, v, mask, o, log_sum.reshape(q.shape[:2]), wanted)  # type: ignore[arg-type]
    if "query" in totals:
        totals["query"] *= q.dtype.type(scale)
    operands = {"query": query, "key": key, "value": value, "attn_mask": attn_mask}
    results = []
    for i, name in enumerate(wrt):
        total, operand = totals[name], operands[name]
        if name != "attn_mask":
            total = summed(total.reshape(*batch, *total.shape[-2:]), operand.shape)
        total = total.reshape(operand.shape).astype(operand.dtype, copy=False)
        results.append(given(total, None if into is None else into[i]))
    return tuple(results)
