"""Attention that reads and writes views: no scores lie in memory in the forward, those of some matrices in the backward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from plugrad import ops
from plugrad.generated.array import StridedArray, broadcast, empty, permuted, sliced
from plugrad.generated.device import device_of
from plugrad.generated.kernels._product import multiply
from plugrad.generated.kernels._run import cast, computable, contiguous, copied, filled
from plugrad.generated.kernels._table import table
from plugrad.graph.source import Epilogue, Source, attention, attention_derivative, collapse
from plugrad.graph.source.attention import tile_columns
from plugrad.spec import Shape

_ROWS: Final = (8, 4, 2, 1)
"""Rows of a tile: the first that a matrix has."""

_WIDEST: Final = 256
"""The width of a row up to which a kernel is written for it."""

_BYTES: Final = 1 << 26
"""Of the scores that the backward keeps at once, if one matrix has no more."""

_SCALED: Final = Epilogue("x = x * factor;", "x = x * factor;", (("factor", "n"),))


def _suits(query: Any, key: Any, value: Any) -> bool:
    """Whether there are kernels for these specs, in vectors: the body serves batches that broadcast, and rows of few elements."""
    dialect = device_of(query.device).dialect
    lanes = dialect.lanes.get(dialect.computed(query.dtype), 0)
    widths = query.shape[-1], value.shape[-1]
    return (
        lanes > 1
        and query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
        and min(widths) >= lanes
        and max(widths) <= _WIDEST
        and key.shape[-2] > 0
    )


def _swapped(x: StridedArray) -> StridedArray:
    axes = range(len(x.shape))
    return permuted(x, (*axes[:-2], axes[-1], axes[-2]))


def _lined(x: StridedArray) -> StridedArray:
    """``x``, or a copy, with the elements of a row side by side, in the dtype of the arithmetic."""
    x = computable(x)
    return x if x.strides[-1] == 1 else contiguous(x)


def _turned(x: StridedArray, columns: int) -> StridedArray:
    """The transposed matrices, their rows brought to a multiple of so many elements by zeros."""
    *batch, n, m = x.shape
    length = -(-n // columns) * columns
    wide = empty(x.device, (*batch, m, length), x.dtype)
    if length != n:
        filled(0, wide)
    copied(_swapped(x), sliced(wide, [(0, s, 1) for s in (*batch, m, n)]))
    return wide


def _ordered(x: StridedArray, shape: Shape) -> StridedArray:
    """A new array, whose axes lie in memory in the order of those of ``x``."""
    order = sorted(range(len(shape)), key=lambda a: (-x.strides[a], a))
    out = empty(x.device, tuple(shape[a] for a in order), x.dtype)
    return permuted(out, [order.index(a) for a in range(len(shape))])


class _Call:
    """A launch over matrices: the arrays' strides along at most two axes of the batch."""

    def __init__(self, batch: Shape, arrays: Sequence[StridedArray], mask: StridedArray | None) -> None:
        steps = [x.strides[: len(batch)] for x in arrays]
        if mask is not None:
            steps.append(mask.strides[: len(batch)])
        counts, collapsed = collapse(batch, steps)
        self.fits = len(counts) <= 2
        self.count, self.inners = math.prod(counts), counts[-1] if counts else 1
        self._pairs = [(0,) * (2 - len(s)) + s for s in collapsed]
        self.arguments: list[Any] = []
        for x, pair in zip(arrays, self._pairs, strict=False):
            self.arguments += [x.memory, x.start, *pair, x.strides[-2]]
        if mask is not None:
            self.arguments += [mask.memory, mask.start, *self._pairs[-1], *mask.strides[-2:]]


def _spread(mask: StridedArray | None, batch: Shape, rows: int, columns: int) -> StridedArray | None:
    return None if mask is None else broadcast(mask, (*batch, rows, columns))


def _attend(
    query: StridedArray,
    key: StridedArray,
    value: StridedArray,
    mask: StridedArray | None,
    is_causal: bool,
    scale: float,
) -> tuple[StridedArray, StridedArray]:
    """The result and the logarithms."""
    *leading, n, width = query.shape
    batch, columns, value_width = tuple(leading), key.shape[-2], value.shape[-1]
    lanes = query.dialect.lanes[query.dtype]
    out = _ordered(query, (*batch, n, value_width))
    log_sum = empty(query.device, (*batch, n), query.dtype)
    if not out.size:
        return out, log_sum
    turned = _turned(key, tile_columns(columns, lanes))
    shared = _spread(mask, batch, n, columns)
    call = _Call(batch, [query, turned, value, out], shared)
    if not call.fits:
        # Each of them without gaps; a mask that broadcasts is written out.
        some = None if shared is None else contiguous(shared)
        return _attend(contiguous(query), contiguous(key), contiguous(value), some, is_causal, scale)
    source, size = _kernel(attention, query, n, columns, value_width, mask, is_causal)
    sizes = [log_sum.memory, log_sum.start, call.inners, n, columns, width, value_width, scale]
    query.device.launch(source, (size, call.count), (1, 1), [*call.arguments, *sizes])
    return out, log_sum


def _kernel(
    template: Any,
    query: StridedArray,
    n: int,
    columns: int,
    width: int,
    mask: StridedArray | None,
    is_causal: bool,
) -> tuple[Source, int]:
    """The kernel, and how many tiles of rows a matrix has."""
    rows = next(r for r in _ROWS if r <= n)
    dialect, dtype = query.dialect, query.dtype
    lanes = dialect.lanes[dtype]
    vectors = tile_columns(columns, lanes) // lanes
    source = template(dialect, dtype, rows, vectors, width, None if mask is None else mask.dtype, is_causal)
    return source, -(-n // rows)


def _rounded(out: StridedArray, like: StridedArray, into: StridedArray | None) -> StridedArray:
    """The result in the dtype of an operand, or in ``into``."""
    if out.dtype is like.dtype:
        return out if into is None else copied(out, into)
    memory = out.device.allocate(out.size * like.dtype.itemsize)
    return cast(
        out, StridedArray(out.device, memory, like.dtype, out.shape, out.strides) if into is None else into
    )


@table(
    ops.scaled_dot_product_attention,
    when=lambda specs, _: _suits(*specs[:3]),
)
def _(
    query: StridedArray,
    key: StridedArray,
    value: StridedArray,
    attn_mask: StridedArray | None,
    *,
    is_causal: bool,
    scale: float,
    residuals: bool,
    into: Any = None,
) -> Any:
    own, logarithms = (into if residuals else (into, None)) if into is not None else (None, None)
    out, log_sum = _attend(_lined(query), _lined(key), _lined(value), attn_mask, is_causal, scale)
    out = _rounded(out, query, own)
    if not residuals:
        return out
    return out, log_sum if logarithms is None else copied(log_sum, logarithms)


def _derivative(
    ct: StridedArray,
    operands: tuple[StridedArray, StridedArray, StridedArray],
    mask: StridedArray | None,
    out: StridedArray,
    log_sum: StridedArray,
    is_causal: bool,
    scale: float,
    results: tuple[StridedArray, StridedArray, StridedArray],
) -> None:
    """Write the cotangents of queries, keys and values; the mask has the shape of the scores."""
    query, key, value = operands
    *leading, n, width = query.shape
    batch, columns, value_width = tuple(leading), key.shape[-2], value.shape[-1]
    lanes = query.dialect.lanes[query.dtype]
    each = n * columns * query.dtype.itemsize
    if batch and batch[0] > 1 and math.prod(batch) * each > _BYTES:
        middle = batch[0] // 2
        for low, high in ((0, middle), (middle, batch[0])):

            def part(x: StridedArray, low: int = low, high: int = high) -> StridedArray:
                return sliced(x, [(low, high, 1), *((0, m, 1) for m in x.shape[1:])])

            some = None if mask is None else part(mask)
            q, k, v = part(query), part(key), part(value)
            cts = part(results[0]), part(results[1]), part(results[2])
            _derivative(part(ct), (q, k, v), some, part(out), part(log_sum), is_causal, scale, cts)
        return
    step = tile_columns(columns, lanes)
    keys, values = _turned(key, step), _turned(value, step)
    length = keys.shape[-1]
    weights, slope = (empty(query.device, (*batch, n, length), query.dtype) for _ in range(2))
    call = _Call(batch, [query, key, keys, values, ct, out, weights, slope, results[0]], mask)
    if not call.fits:
        q, k, v = contiguous(query), contiguous(key), contiguous(value)
        made = empty(query.device, query.shape, query.dtype)
        some = None if mask is None else contiguous(mask)
        cts = made, results[1], results[2]
        _derivative(contiguous(ct), (q, k, v), some, contiguous(out), log_sum, is_causal, scale, cts)
        copied(made, results[0])
        return
    source, size = _kernel(attention_derivative, query, n, columns, width, mask, is_causal)
    sizes = [log_sum.memory, log_sum.start, length, call.inners, n, columns, width, value_width, scale]
    query.device.launch(source, (size, call.count), (1, 1), [*call.arguments, *sizes])
    bounds = [(0, m, 1) for m in (*batch, n, columns)]
    multiply(_swapped(sliced(slope, bounds)), query, results[1], _SCALED, [scale])
    multiply(_swapped(sliced(weights, bounds)), ct, results[2])


def _derivative_suits(specs: Sequence[Any], attributes: Any) -> bool:
    return _suits(*specs[1:4]) and "attn_mask" not in attributes.wrt


@table(ops.scaled_dot_product_attention.vjp, when=_derivative_suits)
def _(
    ct: StridedArray,
    query: StridedArray,
    key: StridedArray,
    value: StridedArray,
    attn_mask: StridedArray | None,
    out: StridedArray,
    log_sum: StridedArray,
    *,
    is_causal: bool,
    scale: float,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[StridedArray, ...]:
    operands = query, key, value
    q, k, v = _lined(query), _lined(key), _lined(value)
    results = _ordered(q, q.shape), _ordered(k, k.shape), _ordered(v, v.shape)
    batch, n, columns = q.shape[:-2], q.shape[-2], k.shape[-2]
    if q.size:
        mask = _spread(attn_mask, batch, n, columns)
        lines = contiguous(log_sum)
        _derivative(_lined(ct), (q, k, v), mask, _lined(out), lines, is_causal, scale, results)
    elif k.size:
        for x in results[1:]:
            filled(0, x)
    names = ("query", "key", "value")
    places = dict(zip(wrt, (None,) * len(wrt) if into is None else into, strict=True))
    found = {m: (r, x) for m, r, x in zip(names, results, operands, strict=True)}
    return tuple(_rounded(*found[name], places[name]) for name in wrt)
