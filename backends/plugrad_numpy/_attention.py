"""Scaled dot-product attention and its vjp, in blocks whose scores stay in the cache.

Arrays are (B, L, E), (B, S, E), (B, S, Ev) of float32 or float64, the query scaled already. No more of the scores,
(B, L, S), exists at any time than a block for each thread. A block is several of B, or some rows of one; of a causal
block the columns that no row of it sees are left out.

The exponentials of a row need its largest score subtracted only where they could leave the range of the dtype. By the
inequality of Cauchy and Schwarz no score exceeds the product of two norms; where that is small, nothing is subtracted,
and what takes no part is multiplied by 0 after the exponential. Finding the largest of a short row takes longer than
all exponentials of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from math import prod
from typing import Any

import numpy as np

from plugrad_numpy import _parallel
from plugrad_numpy._blas import can_limit, matmul, single_threaded
from plugrad_numpy._parallel import scratch

__all__ = ["Mask", "attention", "attention_vjp"]

Array = np.ndarray[Any, Any]
Ints = tuple[int, ...]

_SCORES = 1 << 17
"""Scores of a block: 512 kB in float32, which the second-level cache of a core holds."""

_ROWS = 64
"""Rows that a block has at least, so that its products run at speed."""

_WORTH = 1 << 17
"""Scores that are worth a thread."""

_SMALL = 20.0
"""The bound of the scores up to which they are exponentiated as they are: all results lie within 5e8 and 2e-9."""


class Mask:
    """Which scores take part: a mask over (..., L, S), causality, or both.

    Attributes:
        values: (M, L or 1, S or 1): bool, True where a position takes part, or floating, added; None for none.
        index: which of M each of B has.
        causal: row i sees the columns up to i alone.
    """

    def __init__(self, values: Array | None, batch: Ints, causal: bool) -> None:
        self.causal = causal
        self.values = None
        if values is not None:
            leading = values.shape[:-2] if values.ndim > 1 else ()
            last = (1, 1, *values.shape)[-2:]
            self.values = values.reshape(prod(leading), *last)
            own = np.arange(prod(leading)).reshape(leading)
            self.index = np.broadcast_to(own, batch).reshape(-1)

    @property
    def additive(self) -> bool:
        """Whether values are added to the scores."""
        return self.values is not None and self.values.dtype != np.bool_

    def columns(self, rows: slice, columns: int) -> int:
        """How many columns the rows see."""
        return min(columns, rows.stop) if self.causal else columns

    def _block(self, several: slice, rows: slice, columns: int) -> Array:
        values = self.values
        assert values is not None
        if values.shape[1] > 1:
            values = values[:, rows]
        if values.shape[2] > 1:
            values = values[:, :, :columns]
        return values if len(values) == 1 else values[self.index[several]]

    def before(self, scores: Array, several: slice, rows: slice) -> None:
        """Make the scores of a block of ``several`` of B and some rows minus infinity where they take no part."""
        columns = scores.shape[-1]
        if self.values is not None:
            values = self._block(several, rows, columns)
            if self.additive:
                scores += values
            else:
                np.copyto(scores, -np.inf, where=~values)
        if self.causal and columns > rows.start + 1:
            np.copyto(scores[..., rows.start :], -np.inf, where=~_seen(rows, columns))

    def after(self, weights: Array, several: slice, rows: slice) -> None:
        """Make the exponentials of a block, all finite, 0 where they take no part."""
        columns = weights.shape[-1]
        if self.values is not None:
            weights *= self._block(several, rows, columns).astype(weights.dtype)
        if self.causal and columns > rows.start + 1:
            diagonal = weights[..., rows.start :]
            diagonal *= _seen(rows, columns).astype(weights.dtype)

    def gather(self, total: Array, slope: Array, several: slice, rows: slice) -> None:
        """Add the cotangents of the scores of a block to that of ``values``, ``total``."""
        columns = slope.shape[-1]
        if total.shape[2] == 1:
            slope = slope.sum(axis=2, keepdims=True)
        if total.shape[1] == 1:
            slope = slope.sum(axis=1, keepdims=True)
        place = (
            slice(None) if total.shape[1] == 1 else rows,
            slice(None) if total.shape[2] == 1 else slice(0, columns),
        )
        if len(total) == 1:
            total[0][place] += slope.sum(axis=0)
        else:
            for i, part in zip(self.index[several], slope, strict=True):
                total[i][place] += part


def _seen(rows: slice, columns: int) -> Array:
    """Of the columns from the first of the rows on, which each row sees."""
    return np.arange(rows.start, columns) <= np.arange(rows.start, rows.stop)[:, None]


def _bounded(query: Array, key: Array, mask: Mask) -> bool:
    """Whether the scores are so small that their exponentials are safe as they are; no NaN is."""
    if mask.additive:
        return False
    norms = (np.einsum("bij,bij->bi", x, x).max() for x in (query, key))
    return bool(prod(norms) <= _SMALL**2)


def _blocks(several: slice, rows: slice, columns: int, causal: bool) -> Iterator[tuple[slice, slice]]:
    """Blocks of ``several`` of B and their rows."""
    length = rows.stop - rows.start
    if length * columns > _SCORES:
        # In low blocks more of the columns is seen by no row.
        step = max(_ROWS, min(_SCORES // columns, length // 4 if causal else length))
        for i in range(several.start, several.stop):
            for r in range(rows.start, rows.stop, step):
                yield slice(i, i + 1), slice(r, min(r + step, rows.stop))
        return
    step = max(1, _SCORES // max(1, length * columns))
    for i in range(several.start, several.stop, step):
        yield slice(i, min(i + step, several.stop)), rows


def _spread(work: Callable[[slice], None], parts: list[slice]) -> None:
    with single_threaded() if len(parts) > 1 else nullcontext():
        _parallel.run(work, parts)


def attention(query: Array, key: Array, value: Array, mask: Mask, out: Array, log_sum: Array | None) -> None:
    """Write the attention to ``out`` (B, L, Ev), and the logarithms of the sums of exponentials to ``log_sum`` (B, L).

    Rows in which no position takes part are 0 in both.
    """
    batch, length, _ = query.shape
    columns = key.shape[1]
    turned = key.swapaxes(1, 2)

    def block(several: slice, rows: slice) -> None:
        seen = mask.columns(rows, columns)
        shape = (several.stop - several.start, rows.stop - rows.start, seen)
        scores = scratch("scores", shape, query.dtype)
        matmul(query[several, rows], turned[several, :, :seen], out=scores)
        top = None
        if bounded:
            np.exp(scores, out=scores)
            mask.after(scores, several, rows)
        else:
            mask.before(scores, several, rows)
            top = scores.max(axis=2, keepdims=True)
            top[np.isneginf(top)] = 0
            scores -= top
            np.exp(scores, out=scores)
        total = matmul(scores, ones[:seen])
        total[total == 0] = 1
        part = out[several, rows]
        matmul(scores, value[several, :seen], out=part)
        part /= total
        if log_sum is not None:
            np.log(total, out=total)
            if top is not None:
                total += top
            log_sum[several, rows] = total[..., 0]

    work = batch * length * columns
    if work == 0:
        out[...] = 0
        if log_sum is not None:
            log_sum[...] = 0
        return
    bounded = _bounded(query, key, mask)
    ones = np.ones((columns, 1), query.dtype)
    parts = _parallel.pieces(batch, -(-_WORTH * batch // work)) if can_limit() else [slice(0, batch)]
    if len(parts) > 1 or batch > 1:

        def images(part: slice) -> None:
            for several, rows in _blocks(part, slice(0, length), columns, mask.causal):
                block(several, rows)

        _spread(images, parts)
        return

    def lines(part: slice) -> None:
        for several, rows in _blocks(slice(0, 1), part, columns, mask.causal):
            block(several, rows)

    _spread(
        lines,
        _parallel.pieces(length, max(_ROWS, -(-_WORTH * length // work)))
        if can_limit()
        else [slice(0, length)],
    )


def attention_vjp(
    ct: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Mask,
    out: Array,
    log_sum: Array,
    wanted: tuple[Array | None, Array | None, Array | None, Array | None],
) -> None:
    """Write the cotangents of the scaled query, the key, the value and the mask to what of ``wanted`` is not None.

    Args:
        ct: (B, L, Ev), the cotangent of the attention.
        query: (B, L, E), scaled.
        key: (B, S, E).
        value: (B, S, Ev).
        mask: as of `attention`.
        out: (B, L, Ev), the attention.
        log_sum: (B, L), as `attention` gives it.
        wanted: (B, L, E), (B, S, E), (B, S, Ev), and the shape of the mask's values, which is added to.
    """
    batch, length, _ = query.shape
    columns = key.shape[1]
    dquery, dkey, dvalue, dmask = wanted
    turned_key, turned_value = key.swapaxes(1, 2), value.swapaxes(1, 2)
    sloping = dquery is not None or dkey is not None or dmask is not None

    def collect(total: Array, left: Array, right: Array, several: slice, rows: slice, seen: int) -> None:
        """The product over the rows of a block, to its place; added where there are more rows."""
        if rows.start == 0 and rows.stop == length:
            matmul(left, right, out=total[several, :seen])
            total[several, seen:] = 0
            return
        if rows.start == 0:
            total[several] = 0
        part = total[several, :seen]
        part += matmul(left, right)

    def block(several: slice, rows: slice) -> None:
        seen = mask.columns(rows, columns)
        shape = (several.stop - several.start, rows.stop - rows.start, seen)
        weights = scratch("scores", shape, query.dtype)
        matmul(query[several, rows], turned_key[several, :, :seen], out=weights)
        if not bounded:
            mask.before(weights, several, rows)
        weights -= log_sum[several, rows, None]
        np.exp(weights, out=weights)
        if bounded:
            mask.after(weights, several, rows)
        above = ct[several, rows]
        if dvalue is not None:
            collect(dvalue, weights.swapaxes(1, 2), above, several, rows, seen)
        if not sloping:
            return
        slope = scratch("slope", shape, query.dtype)
        matmul(above, turned_value[several, :, :seen], out=slope)
        slope -= np.einsum("bij,bij->bi", above, out[several, rows])[..., None]
        slope *= weights
        if dmask is not None:
            mask.gather(dmask, slope, several, rows)
        if dquery is not None:
            matmul(slope, key[several, :seen], out=dquery[several, rows])
        if dkey is not None:
            collect(dkey, slope.swapaxes(1, 2), query[several, rows], several, rows, seen)

    def images(part: slice) -> None:
        for several, rows in _blocks(part, slice(0, length), columns, mask.causal):
            block(several, rows)

    work = batch * length * columns
    if work == 0:
        for total in wanted:
            if total is not None:
                total[...] = 0
        return
    bounded = _bounded(query, key, mask)
    parts = [slice(0, batch)]
    if dmask is None and can_limit():
        parts = _parallel.pieces(batch, -(-_WORTH * batch // work))
    _spread(images, parts)
