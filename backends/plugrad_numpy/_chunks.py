"""Work on large arrays piece by piece: chunks that stay in the cache, spread over threads, whatever the strides."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from plugrad_numpy import _parallel

__all__ = ["along", "compute_dtype", "elementwise", "memory_order"]

Array = np.ndarray[Any, Any]

_BYTES = 3 << 18
"""Bytes of a chunk of one operand. Two threads that take the interpreter lock between short calls wait for each other:
in chunks of a third of this the gradient of GELU takes 40 % longer, in larger ones it gains little."""

_LINES = 1 << 18
"""Bytes of a chunk of lines."""

_LENDING = 3 << 19
"""Bytes of a chunk of a result whose rest lends memory: threads that need none of their own wait less in longer ones."""

_LAST = 1 << 14
"""Elements of the last chunk of such a result, for which the thread's own memory stands in."""

_WORTH = 1 << 15
"""Elements that are worth a thread: each takes about 1 ns."""


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What is computed in: float32 for the 16-bit floating dtypes, else the dtype."""
    return dtype if dtype.itemsize >= 4 or dtype.kind in "iub" else np.dtype(np.float32)


def memory_order(x: Array) -> tuple[int, ...] | None:
    """The order of axes in which ``x`` is contiguous in memory, None where it is in none."""
    if x.flags.c_contiguous:
        return tuple(range(x.ndim))
    order = tuple(sorted(range(x.ndim), key=lambda axis: (-x.strides[axis], -x.shape[axis])))
    return order if x.transpose(order).flags.c_contiguous else None


def _widened(x: Array, dtype: np.dtype[Any], slot: int) -> Array:
    """``x`` where it is of the dtype, else a copy in the calling thread's memory."""
    if x.dtype == dtype:
        return x
    wide = _parallel.scratch(f"chunk.{slot}", x.shape, dtype)
    np.copyto(wide, x, casting="unsafe")
    return wide


def elementwise(
    kernel: Callable[..., None],
    *operands: Array,
    into: Array | None = None,
    dtype: np.dtype[Any] | None = None,
    lending: int | None = None,
) -> Array:
    """Run ``kernel(*chunks, out)`` over all elements, floating-point warnings off.

    Args:
        kernel: takes flat chunks of the operands and writes its result to ``out`` with its last operation,
            so that ``into`` may be an operand. Chunks of 16-bit dtypes come as float32.
        operands: of one shape and dtype.
        into: the result, of any strides; None allocates one of the layout of the first operand.
        dtype: of the result where ``into`` is None; by default the first operand's.
        lending: the kernel takes as many arrays like ``out`` as ``lent=``, and may then write to them, and to ``out``
            at any time; or it gets None, where ``into`` may be an operand. They lie where the result is not written
            yet, so that a large one needs no memory beside it. None for a kernel that has no use for them.
    """
    first = operands[0]
    out = np.empty_like(first, dtype=dtype or first.dtype) if into is None else into
    wide = compute_dtype(first.dtype)
    step = _BYTES // wide.itemsize
    small = out.size <= (step if _parallel.is_inside() else min(step, 2 * _WORTH)) and out.dtype == wide
    if small and all(x.flags.c_contiguous for x in (out, *operands)):
        with np.errstate(all="ignore"):
            kernel(*(x.reshape(-1) for x in operands), out.reshape(-1))
        return out
    order = memory_order(out)
    if order is None:
        out[...] = elementwise(kernel, *operands, dtype=out.dtype)
        return out
    sources = [np.ascontiguousarray(x.transpose(order)).reshape(-1) for x in operands]
    target = out.transpose(order).reshape(-1)
    several = lending or 0
    lends = lending is not None and target.dtype == wide
    lends = lends and not any(np.may_share_memory(target, x) for x in sources)
    step = _LENDING // wide.itemsize if lends else step

    def work(part: slice) -> None:
        start, stop = part.start, part.stop
        with np.errstate(all="ignore"):
            while start < stop:
                length = min(step, stop - start)
                if lends and several and length > _LAST:
                    length = max(_LAST, min(length, (stop - start) // (1 + several)))
                cut = slice(start, start + length)
                start += length
                chunks = [_widened(x[cut], wide, i) for i, x in enumerate(sources)]
                if lends:
                    kernel(*chunks, target[cut], lent=_lent(target[start:stop], length, several))
                elif target.dtype == wide:
                    kernel(*chunks, target[cut])
                else:
                    result = _parallel.scratch("chunk", (length,), wide)
                    kernel(*chunks, result)
                    target[cut] = result

    _parallel.run(work, _parallel.pieces(target.size, _WORTH))
    return out


def _lent(rest: Array, length: int, several: int) -> list[Array]:
    """So many arrays of a length in memory that is not in use; the thread's own where it is too short."""
    if several * length <= rest.size:
        return [rest[i * length : (i + 1) * length] for i in range(several)]
    return [_parallel.scratch(str(i), (length,), rest.dtype) for i in range(several)]


def along(kernel: Callable[..., None], axis: int, *operands: Array, into: Array | None = None) -> Array:
    """Run ``kernel(*chunks, out)`` over all lines along ``axis``, floating-point warnings off.

    Args:
        kernel: takes chunks (a, n, b) of the operands, where axis 1 is ``axis``, and writes its result to
            ``out``; it may write ``out`` before it has read all. Chunks of 16-bit dtypes come as float32.
        axis: the axis, counted from 0.
        operands: of one dtype; of the shape of the first, or with size 1 along ``axis``.
        into: the result, of any strides, that overlaps no operand, of the shape of an operand, or None for one of
            the first operand's shape and layout.
    """
    first = operands[0]
    out = np.empty_like(first) if into is None else into
    if out.size == 0:
        return out
    wide = compute_dtype(first.dtype)
    small = first.nbytes <= _LINES and out.dtype == wide
    if small and all(x.flags.c_contiguous for x in (out, *operands)):
        with np.errstate(all="ignore"):
            kernel(*(_lines(x, axis) for x in operands), _lines(out, axis))
        return out
    # The operands are read in the memory order of the first; the result is written straight where it has the same.
    order = memory_order(first) or tuple(range(first.ndim))
    place = order.index(axis)
    sources = [_lines(x.transpose(order), place) for x in operands]
    ordered = out.transpose(order)
    direct = ordered.flags.c_contiguous
    target = _lines(ordered if direct else np.empty(ordered.shape, out.dtype), place)
    outer, length, inner = np.broadcast_shapes(*(x.shape for x in sources))
    least = max(1, _LINES // wide.itemsize // max(1, length))
    across = min(inner, max(64, least))
    down = max(1, least // across)

    def work(part: tuple[slice, slice]) -> None:
        outers, inners = part
        with np.errstate(all="ignore"):
            for i in range(outers.start, outers.stop, down):
                for j in range(inners.start, inners.stop, across):
                    cut = np.s_[i : min(i + down, outers.stop), :, j : min(j + across, inners.stop)]
                    chunks = [_widened(x[cut], wide, i) for i, x in enumerate(sources)]
                    place = target[cut]
                    if target.dtype == wide:
                        kernel(*chunks, place)
                    else:
                        result = _parallel.scratch("chunk", place.shape, wide)
                        kernel(*chunks, result)
                        place[...] = result

    worth = max(1, _WORTH // max(1, length))
    if outer >= inner:
        parts = [(part, slice(0, inner)) for part in _parallel.pieces(outer, -(-worth // inner))]
    else:
        parts = [(slice(0, outer), part) for part in _parallel.pieces(inner, -(-worth // outer))]
    _parallel.run(work, parts)
    if not direct:
        ordered[...] = target.reshape(ordered.shape)
    return out


def _lines(x: Array, axis: int) -> Array:
    """``x`` as (before, along, after) the axis, contiguous."""
    return np.ascontiguousarray(x).reshape(prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :]))
