"""Kernels of several ufuncs, in the forms that dtypes and sizes call for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._blocks import BLOCK, in_blocks
from plugrad_numpy.kernels._precision import is_low, typed, widened
from plugrad_numpy.kernels._silent import again, run, silent
from plugrad_numpy.kernels._table import table

Array = Any
Function = Callable[..., Array]

_FRESH: Final = 1 << 16
"""Bytes below which new memory is cheap: it comes from what the process has freed before."""


def low(specs: Sequence[Any], attributes: Any) -> bool:
    """Whether the first operand is a 16-bit float."""
    del attributes
    return is_low(specs[0].dtype.numpy)


def large(specs: Sequence[Any], attributes: Any) -> bool:
    """Whether an operand is worth cutting into blocks."""
    del attributes
    return any(s is not None and s.size > BLOCK for s in specs)


def no_axes(specs: Sequence[Any], attributes: Any) -> bool:
    """Whether all operands have 0 axes; ufuncs then give scalars, which take no ``out``."""
    del attributes
    return all(s is None or not s.shape for s in specs)


def spare(slot: int, like: Array, dtype: Any = None) -> Array | None:
    """Where a function of `fused` puts what it makes on its way: the thread's own memory, or None for new memory.

    New memory of a block would be fetched from the system, page by page, at every call; a small piece costs less.

    Args:
        slot: a number for each piece that is in use at a time.
        like: an array of its shape.
        dtype: if it is not that of ``like``.
    """
    if like.nbytes < _FRESH or not like.flags.c_contiguous:
        return None
    return scratch(f"fused.{slot}", like.shape, like.dtype if dtype is None else dtype)


def fused(op: Any, *, inplace: Sequence[str] = ()) -> Callable[[Function], Function]:
    """Register a function of several ufuncs as the kernel of an elementwise op.

    The function takes the operands, then the array that the result goes to, or None, then attributes by keyword. It
    meets float32, float64 and integers of at least one axis: 16-bit floats come in float32, and big arrays in blocks.
    The first array among the operands has the dtype of the result, and where the array for the result is None, the
    first ufunc gives one of its shape.

    Args:
        op: the op.
        inplace: operands that the function has read before it writes over them.
    """

    def register(function: Function) -> Function:
        table(op, when=low)(in_float32(function))
        table(op, when=large, inplace=inplace, spreads=True)(blockwise(function))
        table(op, when=no_axes, inplace=inplace)(blockwise(function))
        table(op, inplace=inplace, bare=function)(_at_once(function, len(op.operands), bool(op.attributes)))
        return function

    return register


def _result(operands: Sequence[Any], into: Array | None) -> Array:
    """Where the result goes: ``into``, or a new array of the shape, dtype and layout that the operands give."""
    if into is not None:
        return into
    arrays = [a for a in operands if isinstance(a, (np.ndarray, np.generic))]
    shape = arrays[0].shape if len(arrays) == 1 else np.broadcast_shapes(*(a.shape for a in arrays))
    like = next((a for a in arrays if a.shape == shape), None)
    return (
        np.empty(shape, arrays[0].dtype)
        if like is None
        else np.empty_like(like, arrays[0].dtype, subok=False)
    )


def in_float32(function: Function) -> Function:
    """A kernel that computes by ``function`` in float32 and rounds once, in blocks over several threads."""

    def kernel(*operands: Any, into: Array | None = None, **attributes: Any) -> Array:
        result = _result(operands, into)
        dtype = result.dtype

        def block(*parts: Any) -> None:
            wide = [None if p is None else _wide(i, typed(p, dtype)) for i, p in enumerate(parts[:-1])]
            place = parts[-1]
            place[...] = function(*wide, scratch("wide", place.shape, np.dtype(np.float32)), **attributes)

        return in_blocks(block, operands, result)

    return kernel


def _wide(i: int, part: Any) -> Array:
    """A block of operand ``i`` in float32 where it is a 16-bit float."""
    if not isinstance(part, np.ndarray) or part.size == 1 or not is_low(part.dtype):
        return widened(np.asarray(part))
    wide = scratch(f"wide.{i}", part.shape, np.dtype(np.float32))
    np.copyto(wide, part, casting="unsafe")
    return wide


def blockwise(function: Function) -> Function:
    """A kernel that computes by ``function`` in blocks over several threads."""

    def kernel(*operands: Any, into: Array | None = None, **attributes: Any) -> Array:
        return in_blocks(partial(function, **attributes), operands, _result(operands, into))

    return kernel


def _at_once(function: Function, operands: int, attributes: bool) -> Function:
    """The function without warnings: with its operands spelled out, which is what a call of the core costs least."""

    def one(x: Array, *, into: Array | None = None) -> Array:
        try:
            return run(function, x, into)
        except RuntimeError as error:
            return again(error, function, x, into)

    def two(x: Array, y: Array, *, into: Array | None = None) -> Array:
        try:
            return run(function, x, y, into)
        except RuntimeError as error:
            return again(error, function, x, y, into)

    def three(x: Array, y: Array, z: Array, *, into: Array | None = None) -> Array:
        try:
            return run(function, x, y, z, into)
        except RuntimeError as error:
            return again(error, function, x, y, z, into)

    @silent
    def several(*arrays: Array, into: Array | None = None, **given: Any) -> Array:
        return function(*arrays, into, **given)

    spelled: dict[int, Function] = {1: one, 2: two, 3: three}
    return several if attributes else spelled.get(operands, several)
