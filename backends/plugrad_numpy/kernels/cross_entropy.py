"""Cross-entropy: scores are read once forward and once backward, in blocks, and nothing of their size is kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.errors import IndexRangeError
from plugrad_numpy._chunks import memory_order
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._precision import given, is_low, widened
from plugrad_numpy.kernels._rows import BYTES, in_rows, ones, slots
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any
Block = tuple[slice, slice]


class _Scores:
    """Scores viewed as (a, classes, b), where a * b rows are independent: b is 1 where classes are last in memory."""

    def __init__(self, x: Array) -> None:
        self.shape = x.shape
        self.dtype = x.dtype
        self.wide = np.dtype(np.float32) if is_low(x.dtype) else x.dtype
        axis = 0 if x.ndim == 1 else 1
        self.classes = x.shape[axis]
        self.rows = (*x.shape[:axis], *x.shape[axis + 1 :])
        last = (*(i for i in range(x.ndim) if i != axis), axis)
        order = memory_order(x)
        # Rows of labels keep their order in both views.
        self.order = last if order == last else tuple(range(x.ndim))
        inner = 1 if self.order == last else math.prod(x.shape[axis + 1 :])
        self.view_shape = (math.prod(self.rows) // max(1, inner), self.classes, inner)

    def view(self, x: Array) -> Array:
        """Scores, or what has their shape, as (a, classes, b)."""
        return np.ascontiguousarray(x.transpose(self.order)).reshape(self.view_shape)

    def flat(self, x: Array) -> Array:
        """One value per row, as (a, b)."""
        return np.ascontiguousarray(x).reshape(self.view_shape[0], self.view_shape[2])

    def blocks(self, work: Callable[[Block, Array], None], sums: int = 0) -> Array:
        """Call ``work(block, sums)`` on blocks of rows; return the sums over all of them."""
        outer, classes, inner = self.view_shape
        size = self.wide.itemsize
        spec = ((sums,), np.float64) if sums else None
        if classes * inner * size <= BYTES:

            def several(part: slice, total: Array) -> None:
                work((part, slice(0, inner)), total)

            return in_rows(several, outer, classes * inner, size, spec)
        width = max(64, BYTES // (classes * size))
        cuts = [
            (slice(a, a + 1), slice(b, min(b + width, inner)))
            for a in range(outer)
            for b in range(0, inner, width)
        ]

        def one(part: slice, total: Array) -> None:
            for cut in cuts[part]:
                work(cut, total)

        return in_rows(one, len(cuts), BYTES // size, size, spec)

    def part(self, view: Array, block: Block) -> Array:
        """A block of a view, to compute with."""
        return widened(view[block[0], :, block[1]])

    def summed(self, values: Array, weight: Array | None = None) -> Array:
        """The sums of a block over the classes, each times its weight: (a, b)."""
        vector = ones(self.classes, self.wide) if weight is None else weight
        if values.shape[2] == 1:
            return values[:, :, 0] @ vector[:, None]
        return np.matmul(vector, values)


class _Labels:
    """Labels of the rows of scores.

    Raises:
        IndexRangeError: if a label is neither a class nor ignored.
    """

    def __init__(
        self, scores: _Scores, target: Array, weight: Array | None, smoothing: float, ignore_index: int
    ) -> None:
        self.scores, self.weight = scores, weight
        self.hit, self.even = (scores.wide.type(v) for v in (1 - smoothing, smoothing / scores.classes))
        self.smooth = smoothing != 0
        labels = scores.flat(target)
        self.ignored: Array | None = None
        low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if low <= ignore_index <= high:
            self.ignored = labels == ignore_index
            labels = np.where(self.ignored, 0, labels)
            low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= scores.classes:
            raise IndexRangeError(
                f"cross_entropy: label {low if low < 0 else high} is out of range for {scores.classes} classes, "
                f"0 to {scores.classes - 1}; ignore_index is {ignore_index}"
            )
        self.places = labels
        self.own: Array | None = None if weight is None else weight[labels]
        if self.own is not None and self.ignored is not None:
            self.own[self.ignored] = 0

    def count(self) -> float:
        """The sum of the weights of the labels that count."""
        if self.own is not None:
            return float(np.add.reduce(self.own, axis=None, dtype=np.float64))
        return float(self.places.size - (0 if self.ignored is None else np.count_nonzero(self.ignored)))

    def _at(self, block: Block) -> tuple[Array, Array, Array]:
        labels = self.places[block]
        a, b = labels.shape
        return np.arange(a)[:, None], labels, np.arange(b)

    def _clear(self, values: Array, block: Block) -> None:
        """Set what does not count to 0, NaN and infinities included."""
        if self.ignored is not None:
            np.copyto(
                values, 0, where=self.ignored[block] if values.ndim == 2 else self.ignored[block][:, None]
            )

    def loss(self, block: Block, values: Array, normalizer: Array, buffer: Array) -> Array:
        """The losses of a block of rows."""
        loss = normalizer - values[self._at(block)]
        if self.own is not None:
            loss *= self.own[block]
        if self.smooth:
            # Large scores cancel before they are summed.
            np.subtract(normalizer[:, None], values, out=buffer)
            loss *= self.hit
            loss += self.scores.summed(buffer, self.weight) * self.even
        self._clear(loss, block)
        return loss

    def slope(self, block: Block, shares: Array, each: Array) -> None:
        """Turn the softmax of a block, in place, to the cotangent of its scores."""
        hit = each * self.hit if self.own is None else each * self.hit * self.own[block]
        if self.smooth:
            even = each * self.even
            total = self.scores.classes if self.weight is None else self.weight.sum()
            shares *= (hit + even * shares.dtype.type(total))[:, None]
            shares -= even[:, None] if self.weight is None else even[:, None] * self.weight[:, None]
        else:
            shares *= hit[:, None]
        shares[self._at(block)] -= hit
        self._clear(shares, block)


class _Probabilities:
    """A distribution for each row of scores."""

    def __init__(self, scores: _Scores, target: Array, weight: Array | None, smoothing: float) -> None:
        self.scores, self.weight = scores, weight
        self.hit, self.even = (scores.wide.type(v) for v in (1 - smoothing, smoothing / scores.classes))
        self.view = scores.view(target)

    def count(self) -> float:
        """How many distributions there are."""
        return float(math.prod(self.scores.rows))

    def _wanted(self, block: Block, out: Array) -> Array:
        np.multiply(self.scores.part(self.view, block), self.hit, out=out)
        if self.even:
            out += self.even
        if self.weight is not None:
            out *= self.weight[:, None]
        return out

    def loss(self, block: Block, values: Array, normalizer: Array, buffer: Array) -> Array:
        """The losses of a block of rows."""
        wanted = self._wanted(block, scratch("1", values.shape, self.scores.wide))
        np.subtract(normalizer[:, None], values, out=buffer)
        buffer *= wanted
        return self.scores.summed(buffer)

    def slope(self, block: Block, shares: Array, each: Array) -> None:
        """Turn the softmax of a block, in place, to the cotangent of its scores."""
        wanted = self._wanted(block, scratch("1", shares.shape, self.scores.wide))
        shares *= self.scores.summed(wanted)[:, None]
        shares -= wanted
        shares *= each[:, None]


def _target(
    scores: _Scores, target: Array, weight: Array | None, smoothing: float, ignore_index: int
) -> _Labels | _Probabilities:
    if weight is not None:
        weight = np.ascontiguousarray(weight).astype(scores.wide, copy=False)
    if target.dtype.kind == "i":
        return _Labels(scores, target, weight, smoothing, ignore_index)
    return _Probabilities(scores, target, weight, smoothing)


_FEW: Final = 32768
"""Scores that are worth no blocks: what finds these costs more than the arithmetic."""

_LOW: Final = -40.0
"""The logarithm of a sum of exponentials down to which those that count are no subnormal numbers."""


def _few_labels(specs: Any, attributes: Any) -> bool:
    """Whether the call is the plain one: rows of few scores, a label each, all of one weight."""
    x, target, weight = specs[:3] if len(specs) == 3 else specs[1:4]
    return (
        weight is None
        and len(x.shape) == 2
        and 0 < math.prod(x.shape) <= _FEW
        and x.dtype.itemsize >= 4
        and target.dtype.name == "int64"
        and not attributes.label_smoothing
        and attributes.reduction != "none"
        and not 0 <= attributes.ignore_index < x.shape[1]
    )


@functools.cache
def _numbers(n: int, step: int = 1) -> Array:
    return np.arange(0, n * step, step)


def _are_classes(target: Array, classes: int) -> bool:
    """Whether every label is a class: as unsigned numbers, negative ones are large."""
    return bool(np.maximum.reduce(target.view(np.uint64)) < classes)


def _few_loss(
    input: Array,
    target: Array,
    weight: Array | None,
    into: Any = None,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    residuals: bool,
) -> Any:
    rows, classes = input.shape
    where = slots(into, 2)
    total = np.nan
    if _are_classes(target, classes):
        normalizer = np.exp(input).dot(ones(classes, input.dtype))
        np.log(normalizer, normalizer)
        # Sums of exponentials that have neither overflowed nor come near to underflow need no maximum subtracted.
        if np.minimum.reduce(normalizer) > _LOW:
            total = np.add.reduce(np.subtract(normalizer, input[_numbers(rows), target]), dtype=np.float64)
    if not math.isfinite(total):
        # Large scores, infinities, NaN, or labels that are none: all of that is looked at there.
        return _any_loss(
            input,
            target,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            residuals=residuals,
            into=into,
        )
    out = np.empty((), input.dtype) if where[0] is None else where[0]
    out.fill(total / rows if reduction == "mean" else total)
    return (out, given(normalizer, where[1])) if residuals else out


table(ops.cross_entropy, when=_few_labels, bare=_few_loss)(silent(_few_loss))


@table(ops.cross_entropy)
@silent
def _any_loss(
    input: Array,
    target: Array,
    weight: Array | None,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    residuals: bool,
    into: Any = None,
) -> Any:
    scores = _Scores(input)
    view = scores.view(input)
    goal = _target(scores, np.asarray(target), weight, label_smoothing, ignore_index)
    outer, _, inner = scores.view_shape
    normalizers = np.empty((outer, inner), scores.wide)
    losses = np.empty((outer, inner), scores.wide)

    def work(block: Block, sums: Array) -> None:
        values = scores.part(view, block)
        buffer = scratch("0", values.shape, scores.wide)
        top = np.maximum.reduce(values, axis=1, keepdims=True)
        # A row of minus infinity must not subtract it from itself.
        np.copyto(top, 0, where=~np.isfinite(top))
        np.subtract(values, top, out=buffer)
        np.exp(buffer, out=buffer)
        normalizer = np.log(scores.summed(buffer))
        normalizer += top[:, 0]
        normalizers[block] = normalizer
        loss = goal.loss(block, values, normalizer, buffer)
        losses[block] = loss
        sums[0] += np.add.reduce(loss, axis=None)

    (total,) = scores.blocks(work, 1)
    where = slots(into, 2)
    if reduction == "none":
        out = losses.reshape(scores.rows)
    else:
        counted = goal.count() if reduction == "mean" else 1
        out = np.asarray(total / counted if counted else np.nan)
    out = given(out.astype(scores.dtype, copy=False), where[0])
    return (out, given(normalizers.reshape(scores.rows), where[1])) if residuals else out


def _few_slope(
    ct: Array,
    input: Array,
    target: Array,
    weight: Array | None,
    normalizer: Array,
    into: Array | None = None,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Array:
    rows, classes = input.shape
    if not _are_classes(target, classes):
        return _any_slope(
            ct,
            input,
            target,
            weight,
            normalizer,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            into=into,
        )
    each = input.dtype.type(float(ct) / rows if reduction == "mean" else ct)
    shares = np.subtract(input, normalizer[:, None], into)
    np.exp(shares, shares)
    np.multiply(shares, each, shares)
    if shares.flags.c_contiguous:
        flat, own = shares.reshape(-1), np.add(_numbers(rows, classes), target)
        flat.put(own, np.subtract(flat.take(own), each))
    else:
        shares[_numbers(rows), target] -= each
    return shares


table(ops.cross_entropy.vjp_for("input"), when=_few_labels, bare=_few_slope)(silent(_few_slope))


@table(ops.cross_entropy.vjp_for("input"))
@silent
def _any_slope(
    ct: Array,
    input: Array,
    target: Array,
    weight: Array | None,
    normalizer: Array,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    into: Array | None = None,
) -> Array:
    scores = _Scores(input)
    view, normalizers = scores.view(input), scores.flat(normalizer)
    goal = _target(scores, np.asarray(target), weight, label_smoothing, ignore_index)
    each = widened(np.asarray(ct))
    if reduction == "none":
        each = scores.flat(each)
    else:
        counted = goal.count() if reduction == "mean" else 1
        each = (each / each.dtype.type(counted) if counted else np.zeros_like(each)).reshape(1, 1)

    place: Any = None if into is None else into.transpose(scores.order)
    direct = place is not None and place.flags.c_contiguous and place.dtype == scores.dtype
    ordered = place if direct else np.empty([scores.shape[i] for i in scores.order], scores.dtype)
    result = ordered.reshape(scores.view_shape)
    low = scores.wide != scores.dtype

    def work(block: Block, _: Array) -> None:
        values = scores.part(view, block)
        cut = (block[0], slice(None), block[1])
        buffer = scratch("0", values.shape, scores.wide) if low else result[cut]
        np.subtract(values, normalizers[block][:, None], out=buffer)
        np.exp(buffer, out=buffer)
        goal.slope(block, buffer, each[block] if reduction == "none" else each)
        if low:
            result[cut] = buffer

    scores.blocks(work)
    if direct:
        return into
    back = [scores.order.index(i) for i in range(len(scores.shape))]
    return given(ordered.transpose(back), into)
