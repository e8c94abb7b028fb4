"""Losses of numbers against numbers: the operands are read once, in blocks, and nothing of their size is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy._chunks import memory_order
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._precision import given, is_low, widened
from plugrad_numpy.kernels._rows import contiguous, in_rows, slots
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any
Term = Callable[..., None]
"""Writes one value for each element of flat blocks to its keyword ``out``, which is none of them."""


class _Flat:
    """The operands of a loss, flat in the memory order of the first, in float32 where they are 16-bit floats."""

    def __init__(self, x: Array, *others: Array | None) -> None:
        self.shape = x.shape
        self.dtype = x.dtype
        self.wide = np.dtype(np.float32) if is_low(x.dtype) else x.dtype
        self.order = memory_order(x) or tuple(range(x.ndim))
        self.operands = [self.flat(o) for o in (x, *others)]

    def flat(self, x: Array | None) -> Array | None:
        """An array that broadcasts to the shape, as one axis; None for None."""
        if x is None:
            return None
        if x.shape != self.shape:
            x = np.broadcast_to(x, self.shape)
        if x.flags.c_contiguous and len(self.order) < 2:
            return x.reshape(-1)
        return np.ascontiguousarray(x.transpose(self.order)).reshape(-1)

    def _blocks(self, part: slice, *more: Array | None) -> list[Array | None]:
        return [None if o is None else widened(o[part]) for o in (*self.operands, *more)]

    def total(self, term: Term) -> float:
        """The sum of a term over all elements."""

        def work(part: slice, sums: Array) -> None:
            buffer = scratch("0", (part.stop - part.start,), self.wide)
            term(*self._blocks(part), out=buffer)
            sums[0] += np.add.reduce(buffer)

        found: Array = in_rows(work, self.operands[0].size, 1, self.wide.itemsize, ((1,), np.float64))  # type: ignore[union-attr]
        return float(found[0])

    def each(self, term: Term, scale: Array | None, into: Array | None) -> Array:
        """A term of each element, times ``scale``, one number or one for each, in the shape and layout of the first."""
        shape = tuple(self.shape[i] for i in self.order)
        place = None if into is None else into.transpose(self.order)
        ordered = contiguous(place, shape, self.dtype)
        target = ordered.reshape(-1)
        number = scale is not None and scale.ndim == 0
        factors = None if scale is None or number else self.flat(scale)
        low = self.dtype != self.wide

        def work(part: slice, _: Any) -> None:
            *blocks, factor = self._blocks(part, factors)
            buffer = scratch("0", (part.stop - part.start,), self.wide) if low else target[part]
            term(*blocks, out=buffer)
            if number:
                buffer *= scale
            elif factor is not None:
                buffer *= factor
            if low:
                target[part] = buffer

        in_rows(work, target.size, 1, self.wide.itemsize)
        if place is not None and ordered is place:
            return into
        back = [self.order.index(i) for i in range(len(shape))]
        return given(ordered.transpose(back), into)


def _forward(operands: _Flat, term: Term, reduction: str, into: Array | None) -> Array:
    if reduction == "none":
        return operands.each(term, None, into)
    total = operands.total(term)
    if reduction == "mean":
        count = operands.operands[0].size  # type: ignore[union-attr]
        total = total / count if count else np.nan
    return given(np.asarray(total, operands.dtype), into)


def _scale(ct: Array, operands: _Flat, reduction: str, factor: float = 1) -> Array:
    """The cotangent of the loss of each element, times ``factor``."""
    wide = widened(np.asarray(ct))
    if reduction == "mean":
        factor /= max(1, operands.operands[0].size)  # type: ignore[union-attr]
    return wide if factor == 1 else np.asarray(wide * wide.dtype.type(factor))


def _pair(op: Any, value: Term, slope: Term, factor: float = 1) -> None:
    """Register a loss of a difference: its value and, but for ``factor``, its slope by the first operand."""

    @table(op)
    @silent
    def _(
        input: Array, target: Array, *, reduction: str, into: Array | None = None, **attributes: Any
    ) -> Array:
        def term(x: Array, t: Array, *, out: Array) -> None:
            value(np.subtract(x, t, out=out), out, **attributes)

        return _forward(_Flat(np.asarray(input), np.asarray(target)), term, reduction, into)

    @table(op.vjp)
    @silent
    def _(
        ct: Array,
        input: Array,
        target: Array,
        *,
        reduction: str,
        wrt: tuple[str, ...],
        into: Any = None,
        **attributes: Any,
    ) -> tuple[Array, ...]:
        def term(x: Array, t: Array, *, out: Array) -> None:
            slope(np.subtract(x, t, out=out), out, **attributes)

        operands = _Flat(np.asarray(input), np.asarray(target))
        first = -factor if wrt[0] == "target" else factor
        where = slots(into, len(wrt))
        results = [operands.each(term, _scale(ct, operands, reduction, first), where[0])]
        if len(wrt) == 2:
            results.append(np.negative(results[0], out=where[1]))
        return tuple(results)


def _huber(d: Array, out: Array, *, delta: float) -> None:
    np.abs(d, out=out)
    near = np.minimum(out, out.dtype.type(delta), out=scratch("1", d.shape, d.dtype))
    twice = np.multiply(near, near.dtype.type(0.5), out=scratch("2", d.shape, d.dtype))
    out -= twice
    out *= near


def _clipped(d: Array, out: Array, *, delta: float) -> None:
    np.minimum(d, d.dtype.type(delta), out=out)
    np.maximum(out, d.dtype.type(-delta), out=out)


def _sign(d: Array, out: Array) -> None:
    """The sign. NumPy's own branches for each element, and is six times slower."""
    if not np.isfinite(np.add.reduce(d)):
        np.sign(d, out=out)
        return
    above, below = np.greater(d, 0), np.less(d, 0)
    np.copyto(out, np.subtract(above.view(np.int8), below.view(np.int8)))


_pair(ops.mse_loss, lambda d, out: np.multiply(d, d, out=out), lambda _d, _out: None, 2)
_pair(ops.l1_loss, lambda d, out: np.abs(d, out=out), _sign)
_pair(ops.huber_loss, _huber, _clipped)


def _tail(x: Array, out: Array) -> Array:
    """``log(1 + exp(-abs(x)))``."""
    np.abs(x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    return np.log1p(out, out=out)


def _logistic(x: Array, t: Array, weight: Array | None, pos_weight: Array | None, *, out: Array) -> None:
    one, zero = x.dtype.type(1), x.dtype.type(0)
    spare = scratch("1", x.shape, x.dtype)
    _tail(x, out)
    if pos_weight is None:
        out += np.maximum(x, zero, out=spare)
        out -= np.multiply(x, t, out=spare)
    else:
        out -= np.minimum(x, zero, out=spare)
        np.subtract(pos_weight, one, out=spare)
        spare *= t
        spare += one
        out *= spare
        np.subtract(one, t, out=spare)
        spare *= x
        out += spare
    if weight is not None:
        out *= weight


def _logistic_slope(
    x: Array, t: Array, weight: Array | None, pos_weight: Array | None, *, out: Array
) -> None:
    one = x.dtype.type(1)
    if pos_weight is None:
        # sigmoid(x) - t
        np.negative(x, out=out)
        np.exp(out, out=out)
        out += one
        np.reciprocal(out, out=out)
        out -= t
    else:
        # 1 - t - (1 + (pos_weight - 1) t) sigmoid(-x)
        spare = scratch("1", x.shape, x.dtype)
        np.exp(x, out=out)
        out += one
        np.subtract(one, pos_weight, out=spare)
        spare *= t
        spare -= one
        np.divide(spare, out, out=out)
        out -= t
        out += one
    if weight is not None:
        out *= weight


@table(ops.binary_cross_entropy_with_logits)
@silent
def _(
    input: Array,
    target: Array,
    weight: Array | None,
    pos_weight: Array | None,
    *,
    reduction: str,
    into: Array | None = None,
) -> Array:
    operands = _Flat(np.asarray(input), np.asarray(target), weight, pos_weight)
    return _forward(operands, _logistic, reduction, into)


@table(ops.binary_cross_entropy_with_logits.vjp_for("input"))
@silent
def _(
    ct: Array,
    input: Array,
    target: Array,
    weight: Array | None,
    pos_weight: Array | None,
    *,
    reduction: str,
    into: Array | None = None,
) -> Array:
    operands = _Flat(np.asarray(input), np.asarray(target), weight, pos_weight)
    return operands.each(_logistic_slope, _scale(ct, operands, reduction), into)
