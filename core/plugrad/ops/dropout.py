"""Dropout: a mask of random bits, and what it leaves (Srivastava et al., "Dropout", 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import BOOLEAN, FLOATING, uint32
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops._rules import broadcast, shape_value, size
from plugrad.ops.casting import widen
from plugrad.ops.comparison import bitwise_right_shift, greater_equal, where
from plugrad.ops.creation import full, number
from plugrad.ops.drawing import random_bits
from plugrad.ops.movement import reshape, stack
from plugrad.ops.scan import narrow
from plugrad.spec import Shape, Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

LEVELS: Final = 1 << 16
"""Probabilities are multiples of one over this: two decisions are made of one random word."""

_STATE: Final = {"key": (uint32,), "counter": (uint32,)}


def _probability(call: Any, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ArgumentError(f"{call.op.name}: p takes a number from 0 to 1, got {value!r}")
    return float(value)


def _check_state(call: Any) -> None:
    for name, words in (("key", 2), ("counter", 4)):
        shape = getattr(call, name).shape
        if shape != (words,):
            raise ShapeError(f"{call.op.name}: {name} takes shape ({words},), got {shape}")


def _mask(call: Any) -> Spec:
    _check_state(call)
    return Spec(call.shape, dtypes.bool, call.key.device)


def _state(rng: np.random.Generator) -> list[Any]:
    return [rng.integers(0, 1 << 32, n).astype("uint32") for n in (2, 4)]


_KEY: Final = np.zeros(2, np.uint32)
_COUNTER: Final = np.zeros(4, np.uint32)


def dropout_words(n: int) -> int:
    """How many words of 32 bits `dropout` takes for ``n`` elements."""
    return -(-n // 2)


@op(
    kind=Kind.RANDOM,
    infer=_mask,
    dtypes=_STATE,
    attributes={"shape": shape_value, "p": _probability},
    differentiable=False,
    samples=lambda rng: [
        Sample(*_state(rng), shape=shape, p=p)
        for shape, p in (((3, 5), 0.3), ((), 0.5), ((0, 2), 0.5), ((8,), 0.0), ((7,), 1.0))
    ],
    errors=errors(
        ErrorSample(ShapeError, _COUNTER, _COUNTER, shape=(3,)),
        ErrorSample(ShapeError, _KEY, _KEY, shape=(3,)),
        ErrorSample(ArgumentError, _KEY, _COUNTER, shape=(3,), p=1.5),
        ErrorSample(ArgumentError, _KEY, _COUNTER, shape=(3,), p=-0.5),
    ),
)
def dropout_mask(key: Tensor, counter: Tensor, /, *, shape: int | Shape, p: float = 0.5) -> Tensor:
    """Which elements `dropout` keeps: those of `random_bits`, with the same key and counter, that are large enough.

    Element i is half i % 2, the lower half first, of word i // 2; it is kept where that is at least ``p * 2**16``,
    rounded.

    Args:
        key: uint32 (2,).
        counter: uint32 (4,): the first block of random bits that is used.
        shape: of the result.
        p: the probability of False, from 0 to 1; it is rounded to a multiple of 2**-16.

    Returns:
        bool of ``shape``.

    Raises:
        ArgumentError: if ``p`` is no probability.
        ShapeError: if the key or the counter has another shape.
    """
    assert isinstance(shape, tuple)
    threshold, n = round(p * LEVELS), size(shape)
    if threshold in (0, LEVELS):
        return full(shape, threshold == 0, device=key.spec.device)
    words = random_bits(key, counter, shape=dropout_words(n))
    halves = stack([words & LEVELS - 1, bitwise_right_shift(words, 16)], axis=1)
    return greater_equal(reshape(narrow(reshape(halves, (-1,)), 0, None, n), shape), threshold)


@op(
    kind=Kind.ELEMENTWISE,
    infer=broadcast(),
    dtypes={"x": FLOATING, "mask": BOOLEAN},
    promote=("x",),
    attributes={"scale": lambda call, value: float(number(call, "scale", value))},
    samples=lambda rng: [
        Sample(rng.standard_normal((3, 4)), rng.random((3, 4)) < 0.5, scale=2.0),
        Sample(rng.standard_normal((3, 4)), rng.random(4) < 0.5, scale=0.5),
        Sample(rng.standard_normal(4), rng.random((3, 1)) < 0.5, scale=-1.5),
        Sample(rng.standard_normal(()), rng.random(()) < 0.5, scale=1.0),
        Sample(rng.standard_normal((0, 2)), rng.random((0, 2)) < 0.5, scale=1.0),
    ],
    errors=errors(ErrorSample(ArgumentError, np.zeros(3), np.zeros(3, np.bool_), scale="half")),
)
def masked_scale(x: Tensor, mask: Tensor, /, *, scale: float) -> Tensor:
    """``x * scale`` where ``mask`` holds, else 0, also for NaN and infinities.

    Args:
        x: floating.
        mask: bool; the two broadcast together.
        scale: a factor, a Python number.

    Raises:
        ArgumentError: if ``scale`` is no real number.
    """
    return where(mask, widen(x) * scale, 0.0).astype(x.spec.dtype)


@masked_scale.defvjp("x")
def _(ct: Tensor, mask: Tensor, *, scale: float) -> Tensor:
    return masked_scale(ct, mask, scale=scale)


def _dropped(call: Any) -> Spec:
    _check_state(call)
    spec: Spec = call.x
    return spec


@op(
    infer=_dropped,
    dtypes={"x": FLOATING, **_STATE},
    attributes={"p": _probability},
    samples=lambda rng: [
        Sample(rng.standard_normal(shape), *_state(rng), p=p)
        for shape, p in (((3, 4), 0.5), ((5,), 0.0), ((2, 3), 1.0), ((), 0.2), ((0, 2), 0.3))
    ],
    errors=errors(
        ErrorSample(ShapeError, np.zeros(3), _COUNTER, _COUNTER),
        ErrorSample(ShapeError, np.zeros(3), _KEY, _KEY),
        ErrorSample(ArgumentError, np.zeros(3), _KEY, _COUNTER, p=1.5),
        ErrorSample(ArgumentError, np.zeros(3), _KEY, _COUNTER, p=-0.5),
    ),
)
def dropout(x: Tensor, key: Tensor, counter: Tensor, *, p: float = 0.5) -> Tensor:
    """Each element 0 with probability ``p``, else divided by ``1 - p``, so that its expectation stays.

    The same key and counter give the same mask on every device, that of `dropout_mask`; backward uses it again.
    `plugrad.nn.Dropout` takes them from the random numbers of the device.

    Args:
        x: floating, of any shape.
        key: uint32 (2,).
        counter: uint32 (4,): the first block of random bits that is used; `dropout_words` says how many words are.
        p: from 0 to 1; it is rounded to a multiple of 2**-16, and so is what the others are divided by.

    Returns:
        As ``x``.

    Raises:
        ArgumentError: if ``p`` is no probability.
        ShapeError: if the key or the counter has another shape.
    """
    threshold = round(p * LEVELS)
    mask = dropout_mask(key, counter, shape=x.spec.shape, p=p)
    return masked_scale(x, mask, scale=LEVELS / (LEVELS - threshold) if threshold != LEVELS else 0.0)


__all__ = ["dropout", "dropout_mask", "masked_scale"]
