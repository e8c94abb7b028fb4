"""Scaled dot-product attention; see `plugrad_numpy._attention`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy import _parallel
from plugrad_numpy._attention import Mask, attention, attention_vjp
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels.linear_algebra import summed

Array = Any
Ints = tuple[int, ...]


class _Stack:
    """How arrays with leading axes are seen as stacks (B, C, ...).

    Attributes:
        batch: the leading axes of all operands, broadcast.
        shape: B and C: the longer one first, where B is what threads share out.
    """

    def __init__(self, *operands: Array) -> None:
        self.batch: Ints = np.broadcast_shapes(*(x.shape[:-2] for x in operands))
        outer, inner = prod(self.batch[:-1]), self.batch[-1] if self.batch else 1
        if len(self.batch) < 2:
            outer, inner = inner, 1
        self._turned = outer < min(inner, _parallel.thread_count())
        self._shape = (outer, inner)
        self.shape = (inner, outer) if self._turned else (outer, inner)

    def of(self, x: Array, last: int = 2) -> Array:
        """``x``, which has the leading axes, and ``last`` others; a copy where its strides do not allow a view."""
        if len(self.batch) != 2:
            x = x.reshape(*self._shape, *x.shape[x.ndim - last :])
        return x.swapaxes(0, 1) if self._turned else x

    def index(self, own: Array) -> Array:
        """An array of leading axes, broadcast, as (B, C)."""
        return self.of(np.broadcast_to(own, self.batch), 0)

    def operand(self, x: Array) -> Array:
        """An operand, broadcast and with rows that BLAS takes; 16-bit floats in float32."""
        x = widened(x)
        if not _has_rows(x):
            x = np.ascontiguousarray(x)
        if x.shape[:-2] != self.batch:
            x = np.broadcast_to(x, (*self.batch, *x.shape[-2:]))
        return self.of(x)

    def is_place(self, x: Array | None, dtype: Any) -> bool:
        """Whether `of` gives a view of ``x``, which products are written to."""
        return (
            x is not None
            and x.dtype == dtype
            and _has_rows(x)
            and (len(self.batch) <= 2 or x.flags.c_contiguous)
        )

    def place(self, into: Array | None, shape: Ints, like: Array, dtype: Any) -> Array:
        """``into`` where products can be written to it, else new memory in the order of that of ``like``."""
        if self.is_place(into, dtype):
            return into
        new = np.empty_like(like, dtype, subok=False, shape=shape)
        return new if self.is_place(new, dtype) else np.empty(shape, dtype)


def _has_rows(x: Array) -> bool:
    """Whether the elements of a row lie side by side, and rows one after the other."""
    step = x.itemsize
    down, across = x.strides[-2:]
    return bool(
        x.flags.aligned
        and (across == step or x.shape[-1] == 1)
        and (down >= step * x.shape[-1] or x.shape[-2] == 1)
        and down % step == 0
    )


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
    stack, dtype = _Stack(query, key, value), query.dtype
    q, k, v = (stack.operand(x) for x in (query, key, value))
    shape = (*stack.batch, query.shape[-2], value.shape[-1])
    target, rest = into if residuals and into is not None else (into, None)
    out = stack.place(target, shape, query, q.dtype)
    log_sum = np.empty(shape[:-1], q.dtype) if residuals else None
    attention(
        q,
        k,
        v,
        Mask(attn_mask, stack.index, is_causal),
        scale,
        stack.of(out),
        None if log_sum is None else stack.of(log_sum, 1),
    )
    if out is not target:
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
    stack = _Stack(query, key, value)
    q, k, v, c, o = (stack.operand(x) for x in (query, key, value, ct, out))
    mask = Mask(attn_mask, stack.index, is_causal)
    operands = {"query": query, "key": key, "value": value, "attn_mask": attn_mask}
    places = dict(zip(wrt, (None,) * len(wrt) if into is None else into, strict=True))
    totals: dict[str, Array] = {}
    for name in wrt:
        x = operands[name]
        if name == "attn_mask":
            totals[name] = np.zeros(mask.values.shape, q.dtype)  # type: ignore[union-attr]
        else:
            shape = (*stack.batch, *x.shape[-2:])
            totals[name] = stack.place(places[name] if shape == x.shape else None, shape, x, q.dtype)
    wanted = tuple(
        totals.get(n) if n == "attn_mask" or n not in totals else stack.of(totals[n])
        for n in ("query", "key", "value", "attn_mask")
    )
    attention_vjp(c, q, k, v, mask, scale, o, stack.of(log_sum, 1), wanted)  # type: ignore[arg-type]
    results = []
    for name in wrt:
        total, x, place = totals[name], operands[name], places[name]
        if total is not place:
            total = summed(total, x.shape) if name != "attn_mask" else total.reshape(x.shape)
            total = given(total.astype(x.dtype, copy=False), place)
        results.append(total)
    return tuple(results)
