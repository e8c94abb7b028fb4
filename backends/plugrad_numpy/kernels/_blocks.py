"""Big arrays in blocks that stay in the cache, over several threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from plugrad_numpy import _parallel
from plugrad_numpy._chunks import memory_order
from plugrad_numpy.kernels._silent import quietly

Array = Any

BLOCK: Final = 1 << 16
"""Elements from which an array is cut: with a few operands in float32 so many fit the second-level cache of a core."""

STEP: Final = 1 << 17
"""Elements of a block. In smaller ones threads wait for each other, as they take the interpreter lock more often."""

PIECE: Final = 1 << 16
"""Elements that are worth a thread."""


def in_blocks(function: Callable[..., Any], operands: Sequence[Any], result: Array) -> Array:
    """Fill ``result`` by ``function(*operands, result)``, called on one block after the other, without warnings.

    Args:
        function: elementwise. Its last argument is the block of the result, which it writes.
        operands: arrays that broadcast to ``result``; what is no array is passed on as it is.
        result: the array to fill. Of 0 axes, it is handed over as an array of 1.
    """
    shape = result.shape
    if not shape:
        arrays = (np.ndarray, np.generic)
        quietly(
            function, *[a.reshape(1) if isinstance(a, arrays) else a for a in operands], result.reshape(1)
        )
        return result
    target = result
    order = None if result.flags.c_contiguous else memory_order(result)
    if order is not None:
        target = result.transpose(order)
    flat = target.flags.c_contiguous
    views: list[Any] = []
    cut: list[bool] = []
    for a in operands:
        cut.append(isinstance(a, np.ndarray) and a.size != 1)
        if cut[-1]:
            a = np.broadcast_to(a, shape) if a.shape != shape else a
            a = a if order is None else a.transpose(order)
            flat = flat and a.flags.c_contiguous
        elif isinstance(a, np.ndarray):
            a = a.reshape(1)
        views.append(a)
    if flat:
        target = target.reshape(-1)
        views = [v.reshape(-1) if c else v for v, c in zip(views, cut, strict=True)]
    length = len(target)
    width = max(1, target.size // max(1, length))
    step = max(1, STEP // width)

    def fill(piece: slice) -> None:
        for start in range(piece.start, piece.stop, step):
            part = slice(start, min(start + step, piece.stop))
            function(*[v[part] if c else v for v, c in zip(views, cut, strict=True)], target[part])

    _parallel.run(lambda piece: quietly(fill, piece), _parallel.pieces(length, max(1, PIECE // width)))
    return result
