"""Rows of a matrix in blocks that stay in the cache, over several threads, with sums that blocks add to."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from plugrad_numpy import _blas, _parallel
from plugrad_numpy.kernels._silent import silent

Array = Any

BYTES: Final = 1 << 18
"""Bytes of a block, unless a kernel says otherwise."""

WORTH: Final = 1 << 18
"""Elements that are worth a thread."""


def in_rows(
    work: Callable[[slice, Any], None],
    rows: int,
    width: int,
    itemsize: int,
    sums: Any = None,
    *,
    block: int = BYTES,
) -> Any:
    """Call ``work(part, sums)`` for one block of rows after the other; return the sums over all blocks.

    Args:
        work: adds to its second argument, an array that starts at 0, what its rows have to add.
        rows: how many rows there are.
        width: elements of a row.
        itemsize: bytes of an element.
        sums: a spec of the sums, ``(shape, dtype)``, or None for none.
        block: bytes of a block of rows.

    The result depends on the number of threads by rounding alone, and is the same at every run with as many.
    """
    if rows * width * itemsize <= block:
        total = None if sums is None else np.zeros(*sums)
        work(slice(0, rows), total)
        return total
    step = max(1, block // max(1, width * itemsize))
    parts = _parallel.pieces(rows, max(1, WORTH // max(1, width)))
    totals: list[Any] = [None if sums is None else np.zeros(*sums) for _ in parts]

    @silent
    def piece(i: int) -> None:
        stop = parts[i].stop
        for start in range(parts[i].start, stop, step):
            work(slice(start, min(start + step, stop)), totals[i])

    # Products with vectors go faster here than NumPy's sums; they must not ask for threads of their own.
    with _blas.single_threaded():
        _parallel.run(piece, range(len(parts)))
    return None if sums is None else functools.reduce(np.add, totals)


def as_rows(x: Array, axes: int) -> Array:
    """``x`` as a matrix, its last ``axes`` axes as one; a copy where the memory does not run that way."""
    if not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    if axes == 1 and x.ndim == 2:
        return x
    width = math.prod(x.shape[x.ndim - axes :])
    return x.reshape(-1 if width else 0, width)


_ONES: Final = {np.dtype(t): np.ones(1 << 16, t) for t in (np.float32, np.float64)}


def ones(count: int, dtype: Any) -> Array:
    """1 ``count`` times, to be read only: the product with it is a sum."""
    kept = _ONES[dtype]
    return kept[:count] if count <= kept.size else np.ones(count, dtype)


def contiguous(into: Array | None, shape: Sequence[int], dtype: Any) -> Array:
    """``into`` where a kernel can write rows straight to it, else a new array."""
    if into is not None and into.flags.c_contiguous and into.dtype == dtype:
        return into
    return np.empty(shape, dtype)


def slots(into: Any, count: int) -> Sequence[Any]:
    """Where each of ``count`` results goes: an array, or None for a new one."""
    if into is None:
        return (None,) * count
    return into if isinstance(into, (tuple, list)) else (into,)
