"""Scaled dot-product attention and its vjp, in blocks whose scores stay in the cache.

Arrays are stacks (B, C, L, E), (B, C, S, E), (B, C, S, Ev) of float32 or float64, of any strides whose last is that of
one element. No more of the scores, (B, C, L, S), exists at any time than a block for each thread. A block is several
matrices of the stack, or some rows of one; of a causal block the columns that no row of it sees are left out.

The exponentials of a row need its largest score subtracted only where they could leave the range of the dtype. Finding
it takes longer than all exponentials of a short row, and far longer than finding that no score of a block is large; what
takes no part is then multiplied by 0 after the exponential.

Keys are multiplied by the scale as they are transposed: BLAS takes transposed ones without a copy, and longer than the
copy takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from plugrad_numpy import _parallel
from plugrad_numpy._blas import can_limit, matmul, single_threaded
from plugrad_numpy._exponential import UNIT, power
from plugrad_numpy._parallel import scratch

__all__ = ["Mask", "attention", "attention_vjp"]

Array = np.ndarray[Any, Any]

_SCORES: Final = 1 << 17
"""Scores of a block: 512 kB in float32, which the second-level cache of a core holds."""

_ROWS: Final = 64
"""Rows that a block has at least, so that its products run at speed."""

_WORTH: Final = 1 << 16
"""Scores that are worth a thread."""

_LARGE: Final = 27.0
"""The magnitude of the scores up to which they are exponentiated as they are: to between 2e-12 and 5e11."""


class Block(NamedTuple):
    """Some matrices of a stack, and some of their rows."""

    outer: slice
    inner: slice
    rows: slice


class Mask:
    """Which scores take part: a mask over (..., L, S), causality, or both.

    Attributes:
        values: (M, L or 1, S or 1): bool, True where a position takes part, or floating, added; None for none.
        index: (B, C), which of M each matrix has.
        causal: row i sees the columns up to i alone.
    """

    def __init__(self, values: Array | None, index: Callable[[Array], Array], causal: bool) -> None:
        """State a mask.

        Args:
            values: (..., L or 1, S or 1), of at least 0 axes, or None.
            index: broadcasts an array of the leading axes of ``values`` to the stack, (B, C).
            causal: see above.
        """
        self.causal = causal
        self.values = None
        if values is not None:
            leading = values.shape[:-2] if values.ndim > 1 else ()
            last = (1, 1, *values.shape)[-2:]
            self.values = values.reshape(prod(leading), *last)
            self.index = index(np.arange(prod(leading)).reshape(leading))

    @property
    def additive(self) -> bool:
        """Whether values are added to the scores."""
        return self.values is not None and self.values.dtype != np.bool_

    def columns(self, rows: slice, columns: int) -> int:
        """How many columns the rows see."""
        return min(columns, rows.stop) if self.causal else columns

    def _part(self, block: Block, columns: int) -> Array:
        values = self.values
        assert values is not None
        if values.shape[1] > 1:
            values = values[:, block.rows]
        if values.shape[2] > 1:
            values = values[:, :, :columns]
        return values if len(values) == 1 else values[self.index[block.outer, block.inner]]

    def before(self, scores: Array, block: Block) -> None:
        """Make the scores of a block, those of the columns that it sees, minus infinity where they take no part."""
        if self.values is not None:
            values = self._part(block, scores.shape[-1])
            if self.additive:
                scores += values
            else:
                np.copyto(scores, -np.inf, where=~values)
        if self.causal and scores.shape[-1] > block.rows.start + 1:
            diagonal = scores[..., block.rows.start :]
            np.copyto(diagonal, -np.inf, where=_triangle(*diagonal.shape[-2:], scores.dtype) == 0)

    def after(self, weights: Array, block: Block) -> None:
        """Make the exponentials of a block, all finite, 0 where they take no part."""
        if self.values is not None:
            weights *= self._part(block, weights.shape[-1]).astype(weights.dtype)
        if self.causal and weights.shape[-1] > block.rows.start + 1:
            diagonal = weights[..., block.rows.start :]
            diagonal *= _triangle(*diagonal.shape[-2:], weights.dtype)

    def gather(self, total: Array, slope: Array, block: Block) -> None:
        """Add the cotangents of the scores of a block to that of ``values``, ``total``."""
        columns = slope.shape[-1]
        if total.shape[2] == 1:
            slope = slope.sum(axis=-1, keepdims=True)
        if total.shape[1] == 1:
            slope = slope.sum(axis=-2, keepdims=True)
        place = (
            slice(None) if total.shape[1] == 1 else block.rows,
            slice(None) if total.shape[2] == 1 else slice(0, columns),
        )
        if len(total) == 1:
            total[0][place] += slope.sum(axis=(0, 1))
            return
        matrices = slope.reshape(-1, *slope.shape[-2:])
        for i, part in zip(self.index[block.outer, block.inner].flat, matrices, strict=True):
            total[i][place] += part


@lru_cache(maxsize=8)
def _triangle(rows: int, columns: int, dtype: np.dtype[Any]) -> Array:
    """1 up to the diagonal, 0 above; to be read only."""
    return np.tri(rows, columns, dtype=dtype)


def _exponentials(scores: Array, mask: Mask, block: Block) -> bool:
    """Replace scores, times `UNIT`, by their exponentials, 0 where they take no part, if none is large.

    Otherwise they are replaced by themselves, not times anything, minus infinity where they take no part.

    Returns:
        Whether there are exponentials now.
    """
    limit = _LARGE * UNIT
    if (
        not mask.additive
        and np.maximum.reduce(scores, axis=None) <= limit
        and np.minimum.reduce(scores, axis=None) >= -limit
    ):
        power(scores, out=scores)
        mask.after(scores, block)
        return True
    scores *= scores.dtype.type(1 / UNIT)
    mask.before(scores, block)
    return False


def _groups(part: slice, query: Array, columns: int) -> Iterator[tuple[slice, slice]]:
    """The matrices of blocks, of those that ``part`` has of the first axis."""
    inner = query.shape[1]
    several = max(1, _SCORES // max(1, query.shape[2] * columns))
    down, across = max(1, several // max(1, inner)), min(several, inner)
    for i in range(part.start, part.stop, down):
        for j in range(0, inner, across):
            yield slice(i, min(i + down, part.stop)), slice(j, min(j + across, inner))


def _row_blocks(rows: slice, columns: int, causal: bool) -> Iterator[slice]:
    """The rows of blocks, the last first, which of causal blocks see all columns; all, where a matrix fits into a block."""
    length = rows.stop - rows.start
    step = max(1, length)
    if length * columns > _SCORES:
        # In low blocks more of the columns is seen by no row.
        step = max(_ROWS, min(_SCORES // columns, length // 4 if causal else length))
    for r in reversed(range(rows.start, rows.stop, step)):
        yield slice(r, min(r + step, rows.stop))


def _spread(work: Callable[[slice], None], length: int, least: int, scores: int) -> None:
    """Call ``work`` on parts of ``range(length)``, of ``least`` each at least, one a thread, if that pays."""
    count = min(length // least, _parallel.thread_count(), scores // _WORTH)
    if count < 2 or _parallel.is_inside() or not can_limit():
        work(slice(0, length))
        return
    bounds = [length * i // count for i in range(count + 1)]
    with single_threaded():
        _parallel.run(work, [slice(a, b) for a, b in pairwise(bounds)])


def _rows_like(slot: str, x: Array, width: int) -> Array:
    """Memory of the calling thread for rows of another width, in the order of those of ``x``.

    Where heads lie within positions, what has one element for each row and what has a row are then worked on together.
    """
    outer, inner, length, _ = x.shape
    if x.strides[1] < x.strides[2]:
        return scratch(slot, (outer, length, inner, width), x.dtype).swapaxes(1, 2)
    return scratch(slot, (outer, inner, length, width), x.dtype)


def _transposed(slot: str, x: Array, factor: float) -> Array:
    """``x`` times a number, its matrices transposed, in the calling thread's memory."""
    turned = x.swapaxes(2, 3)
    out = scratch(slot, turned.shape, x.dtype)
    np.multiply(turned, x.dtype.type(factor), out=out)
    return out


def attention(
    query: Array, key: Array, value: Array, mask: Mask, scale: float, out: Array, log_sum: Array | None
) -> None:
    """Write the attention to ``out`` (B, C, L, Ev), and the logarithms of the sums of exponentials to ``log_sum``.

    ``log_sum`` is (B, C, L). Rows in which no position takes part are 0 in both.
    """
    batch, inner, length, _ = query.shape
    columns, dtype = key.shape[2], query.dtype
    if batch * inner * length * columns == 0:
        out[...] = 0
        if log_sum is not None:
            log_sum[...] = 0
        return
    ones = np.ones((columns, 1), dtype)

    def block(turned: Array, here: Block) -> None:
        several, rows = here[:2], here.rows
        seen = mask.columns(rows, columns)
        left = query[(*several, rows)]
        scores = scratch("0", (*left.shape[:3], seen), dtype)
        matmul(left, turned[..., :seen], out=scores)
        top = None
        if not _exponentials(scores, mask, here):
            top = scores.max(axis=3, keepdims=True)
            top[np.isneginf(top)] = 0
            scores -= top
            np.exp(scores, out=scores)
        part = out[(*several, rows)]
        total = _rows_like("5", part, 1)
        matmul(scores, ones[:seen], out=total)
        if mask.values is not None:
            total[total == 0] = 1
        matmul(scores, value[several][..., :seen, :], out=part)
        part /= total
        if log_sum is not None:
            np.log(total, out=total)
            if top is not None:
                total += top
            log_sum[(*several, rows)] = total[..., 0]

    def matrices(part: slice, lines: slice) -> None:
        for several in _groups(part, query, columns):
            turned = _transposed("2", key[several], scale * UNIT)
            for rows in _row_blocks(lines, columns, mask.causal):
                block(turned, Block(*several, rows))

    scores = batch * inner * length * columns
    if batch > 1:
        _spread(lambda part: matrices(part, slice(0, length)), batch, 1, scores)
    elif inner > 1:
        matrices(slice(0, 1), slice(0, length))
    else:
        _spread(lambda lines: matrices(slice(0, 1), lines), length, _ROWS, scores)


def attention_vjp(
    ct: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Mask,
    scale: float,
    out: Array,
    log_sum: Array,
    wanted: tuple[Array | None, Array | None, Array | None, Array | None],
) -> None:
    """Write the cotangents of the query, the key, the value and the mask to what of ``wanted`` is not None.

    Args:
        ct: (B, C, L, Ev), the cotangent of the attention.
        query: (B, C, L, E).
        key: (B, C, S, E).
        value: (B, C, S, Ev).
        mask: as of `attention`.
        scale: what the scores are multiplied by.
        out: (B, C, L, Ev), the attention.
        log_sum: (B, C, L), as `attention` gives it.
        wanted: (B, C, L, E), (B, C, S, E), (B, C, S, Ev), and the shape of the mask's values, which is added to.
    """
    batch, inner, length, _ = query.shape
    columns, dtype = key.shape[2], query.dtype
    dquery, dkey, dvalue, dmask = wanted
    if batch * inner * length * columns == 0:
        for total in wanted:
            if total is not None:
                total[...] = 0
        return
    sloping = dquery is not None or dkey is not None or dmask is not None
    inside = 1.0 if dmask is not None else scale

    def collect(total: Array, left: Array, right: Array, here: Block, seen: int) -> None:
        """The product over the rows of a block, to its place; added where there were other rows."""
        place = total[here[:2]]
        if here.rows.stop == length:
            matmul(left, right, out=place[:, :, :seen])
            place[:, :, seen:] = 0
            return
        place = place[:, :, :seen]
        place += matmul(left, right)

    def block(turned_key: Array, turned_value: Array, here: Block) -> None:
        rows = (*here[:2], here.rows)
        seen = mask.columns(here.rows, columns)
        left, sums = query[rows], log_sum[rows]
        weights = scratch("0", (*left.shape[:3], seen), dtype)
        matmul(left, turned_key[..., :seen], out=weights)
        above = ct[rows]
        if _exponentials(weights, mask, here):
            # Not the weights are divided by their sums, but what they are multiplied by: there is less of it.
            share = _rows_like("5", above, 1)
            np.negative(sums, out=share[..., 0])
            np.exp(share, out=share)
            above = np.multiply(above, share, out=_rows_like("4", above, above.shape[3]))
        else:
            weights -= sums[..., None]
            np.exp(weights, out=weights)
        if dvalue is not None:
            collect(dvalue, weights.swapaxes(2, 3), above, here, seen)
        if not sloping:
            return
        slope = scratch("1", weights.shape, dtype)
        matmul(above, turned_value[..., :seen], out=slope)
        slope -= (np.vecdot(above, out[rows]) * dtype.type(inside))[..., None]
        slope *= weights
        if dmask is not None:
            mask.gather(dmask, slope, here)
        if dquery is not None:
            matmul(slope, key[here[:2]][..., :seen, :], out=dquery[rows])
        if dkey is not None:
            collect(dkey, slope.swapaxes(2, 3), left, here, seen)

    def matrices(part: slice) -> None:
        for several in _groups(part, query, columns):
            turned_key = _transposed("2", key[several], scale * UNIT)
            turned_value = _transposed("3", value[several], inside)
            for rows in _row_blocks(slice(0, length), columns, mask.causal):
                block(turned_key, turned_value, Block(*several, rows))
            if inside != scale:
                for total in (dquery, dkey):
                    if total is not None:
                        total[several] *= dtype.type(scale)

    scores = batch * inner * length * columns
    if dmask is None:
        _spread(matrices, batch, 1, scores)
    else:
        with single_threaded() if can_limit() else nullcontext():
            matrices(slice(0, batch))
