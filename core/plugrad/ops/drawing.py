"""Random numbers as a function of a key and a counter: the same ones give the same bits on every device.

The source is Philox 4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random
numbers: as easy as 1, 2, 3" (SC 2011). An op keeps no state: whoever draws takes a key and a counter, and moves the
counter on (`advance_counter`); `plugrad.random` does both. Words of 128-bit counters are stored from the least
significant on.

How many words of 32 bits a draw takes is said by the function of its name with ``_words``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import ErrorSample, ErrorSampler, Sample, Sampler, errors
from plugrad.dtypes import FLOATING, DType, float64, iinfo, uint32, uint64
from plugrad.errors import ArgumentError, DTypeError, PlugradError, ShapeError
from plugrad.ops._rules import dtype_value, integer, shape_value, size, widened
from plugrad.ops.arithmetic import minimum
from plugrad.ops.comparison import bitwise_left_shift, bitwise_right_shift
from plugrad.ops.creation import count, full, iota
from plugrad.ops.movement import concat, reshape, select, stack
from plugrad.ops.scan import narrow
from plugrad.ops.sorting import argsort
from plugrad.ops.transcendental import log, sqrt
from plugrad.ops.trigonometry import cos, sin
from plugrad.spec import Shape, Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

_WORD: Final = 1 << 32
_LOW: Final = _WORD - 1
_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_ROUNDS: Final = 10

_STATE: Final = {"key": (uint32,), "counter": (uint32,)}


def _check_state(call: Any) -> None:
    for name, words in (("key", 2), ("counter", 4)):
        spec = getattr(call, name, None)
        if spec is not None and spec.shape != (words,):
            raise ShapeError(f"{call.op.name}: {name} takes shape ({words},), got {spec.shape}")


def _samples(*attributes: dict[str, Any], key: bool = True) -> Sampler:
    """A counter that a carry runs through, and one that is random, for each of the attributes."""

    def make(rng: np.random.Generator) -> list[Sample]:
        counters = [np.full(4, _LOW, np.uint32), rng.integers(0, _WORD, 4, np.uint32)]
        counters[0][2] = 7
        keys = [rng.integers(0, _WORD, 2, np.uint32) for _ in counters]
        return [
            Sample(*((k, c) if key else (c,)), **a)
            for k, c in zip(keys, counters, strict=True)
            for a in attributes
        ]

    return make


# -- words ------------------------------------------------------------------------------------------------


def _refused(*wrong: tuple[type[PlugradError], dict[str, Any]], **right: Any) -> ErrorSampler:
    """A key and a counter of wrong shapes with attributes that are right, then wrong attributes one by one."""
    key, counter = np.zeros(2, np.uint32), np.zeros(4, np.uint32)
    return errors(
        ErrorSample(ShapeError, counter, counter, **right),
        ErrorSample(ShapeError, key, key, **right),
        *(ErrorSample(error, key, counter, **{**right, **attributes}) for error, attributes in wrong),
    )


def _advanced(call: Any) -> tuple[Spec, Spec]:
    _check_state(call)
    return call.counter, call.counter


@op(
    kind=Kind.RANDOM,
    infer=_advanced,
    dtypes=_STATE,
    attributes={"blocks": count("blocks")},
    outputs=("start", "next"),
    differentiable=False,
    may_alias=True,
    samples=_samples({"blocks": 0}, {"blocks": 1}, {"blocks": 1 << 33}, key=False),
    errors=errors(
        ErrorSample(ShapeError, np.zeros(2, np.uint32), blocks=1),
        ErrorSample(ArgumentError, np.zeros(4, np.uint32), blocks=-1),
    ),
)
def advance_counter(counter: Tensor, /, *, blocks: int) -> tuple[Tensor, Tensor]:
    """Take ``blocks`` blocks from a counter.

    Args:
        counter: uint32 (4,), least significant word first.
        blocks: how many blocks of four words a draw needs, at least 0.

    Returns:
        The counter of the draw, which is ``counter``, and the one after it: their sum, modulo 2**128.

    Raises:
        ShapeError: if the counter has another shape.
        ArgumentError: if ``blocks`` is negative.
    """
    wide = counter.astype(uint64)
    words, carry = [], full((1,), 0, dtype=uint64, device=counter.spec.device)
    for i in range(4):
        total = narrow(wide, 0, i, i + 1) + (blocks >> 32 * i & _LOW) + carry
        words.append(total & _LOW)
        carry = bitwise_right_shift(total, 32)
    return counter, concat(words, axis=0).astype(uint32)


def _drawn_words(call: Any) -> Spec:
    _check_state(call)
    return Spec(call.shape, uint32, call.key.device)


@op(
    kind=Kind.RANDOM,
    infer=_drawn_words,
    dtypes=_STATE,
    attributes={"shape": shape_value},
    differentiable=False,
    samples=_samples({"shape": (3, 5)}, {"shape": ()}, {"shape": (0, 2)}, {"shape": (16,)}),
    errors=_refused((ShapeError, {"shape": (2, -1)}), shape=(3,)),
)
def random_bits(key: Tensor, counter: Tensor, /, *, shape: int | Shape) -> Tensor:
    """Random words of 32 bits: word i, in row-major order, is word i % 4 of block ``counter + i // 4``.

    Args:
        key: uint32 (2,), least significant word first.
        counter: uint32 (4,), least significant word first; the blocks that are drawn count up from it, modulo
            2**128.
        shape: of the result.

    Returns:
        uint32 of ``shape``.

    Raises:
        ShapeError: if the key or the counter has another shape.
    """
    assert isinstance(shape, tuple)
    n = size(shape)
    blocks = -(-n // 4)
    start, keys = counter.astype(uint64), key.astype(uint64)
    words = []
    carried = iota(blocks, dtype=uint64, device=counter.spec.device)
    for i in range(4):
        total = carried + select(start, i)
        words.append(total & _LOW)
        carried = bitwise_right_shift(total, 32)
    c0, c1, c2, c3 = words
    k0, k1 = select(keys, 0), select(keys, 1)
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = bitwise_right_shift(p1, 32) ^ c1 ^ k0, p1 & _LOW
        c2, c3 = bitwise_right_shift(p0, 32) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = k0 + _WEYL[0] & _LOW, k1 + _WEYL[1] & _LOW
    bits = reshape(stack([c0, c1, c2, c3], axis=1), (4 * blocks,)).astype(uint32)
    return reshape(narrow(bits, 0, None, n), shape)


# -- numbers ----------------------------------------------------------------------------------------------


def _floating_dtype(call: Any, value: Any) -> DType:
    dtype = dtype_value(call, value)
    if dtype not in FLOATING:
        raise DTypeError(f"{call.op.name}: takes a floating dtype, got {dtype}")
    return dtype


def _finite(name: str) -> Any:
    def normalize(call: Any, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ArgumentError(f"{call.op.name}: {name} takes a finite number, got {value!r}")
        return float(value)

    return normalize


def _drawn(call: Any) -> Spec:
    _check_state(call)
    return Spec(call.shape, call.dtype, call.key.device)


def _fraction(high: Tensor, low: Tensor | None) -> Tensor:
    """Words as a multiple of 2**-24 in [0, 1) in float32, or two of them each as one of 2**-53 in float64."""
    if low is None:
        return bitwise_right_shift(high, 8).astype("float32") * 2.0**-24
    upper, lower = (bitwise_right_shift(w, s).astype(float64) for w, s in ((high, 5), (low, 6)))
    return (upper * 2.0**26 + lower) * 2.0**-53


def uniform_words(n: int, dtype: DType) -> int:
    """How many words `random_uniform` takes for ``n`` numbers."""
    return n * (2 if dtype is float64 else 1)


def _uniform(call: Any) -> Spec:
    with np.errstate(over="ignore"):
        low, high = (float(call.dtype.numpy.type(v)) for v in (call.low, call.high))
    if not (low < high and math.isfinite(high - low)):
        raise ArgumentError(
            f"{call.op.name}: takes low < high, both and their difference finite in {call.dtype}, "
            f"got low {call.low}, high {call.high}"
        )
    return _drawn(call)


@op(
    kind=Kind.RANDOM,
    infer=_uniform,
    dtypes=_STATE,
    attributes={
        "shape": shape_value,
        "dtype": _floating_dtype,
        "low": _finite("low"),
        "high": _finite("high"),
    },
    differentiable=False,
    samples=_samples(
        {"shape": (3, 5)},
        {"shape": (), "dtype": "float64"},
        {"shape": 7, "dtype": "float64", "low": -2.0, "high": 5.0},
        {"shape": (0, 3)},
        {"shape": (4,), "low": 1.0, "high": 2.0},
    ),
    errors=_refused(
        (ArgumentError, {"low": 1.0}),
        (ArgumentError, {"high": math.nan}),
        (DTypeError, {"dtype": "int64"}),
        shape=(3,),
    ),
)
def random_uniform(
    key: Tensor,
    counter: Tensor,
    /,
    *,
    shape: int | Shape,
    dtype: DType | str = "float32",
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """Numbers that are uniform in [low, high), of `random_bits` with the same key and counter.

    Number i is ``u * (high - low) + low``, where ``u`` is made of the upper 24 bits of word i; in float64, of the
    upper 27 bits of word i and the upper 26 of word i + n, n being the number of elements. It is computed in float32,
    in float64 in float64: ``low`` and ``high - low``, which Python finds in double precision, are rounded to that, and
    so are the product and the sum. 16-bit floats are float32 ones rounded to nearest. What rounding brings to
    ``high`` becomes the largest number below it.

    Args:
        key: uint32 (2,).
        counter: uint32 (4,).
        shape: of the result.
        dtype: a floating dtype.
        low: the smallest number, rounded to the dtype.
        high: the limit, rounded to the dtype.

    Raises:
        ArgumentError: if ``low`` is not less than ``high`` in the dtype.
        ShapeError: if the key or the counter has another shape.
        DTypeError: if ``dtype`` is not floating.
    """
    assert isinstance(shape, tuple)
    assert isinstance(dtype, DType)
    if dtype is float64:
        bits = random_bits(key, counter, shape=(2, *shape))
        out = _fraction(select(bits, 0), select(bits, 1))
    else:
        out = _fraction(random_bits(key, counter, shape=shape), None)
    if (low, high) != (0.0, 1.0):
        out = out * (high - low) + low
    elif dtype is widened(dtype):
        return out
    limit = dtype.numpy.type(high)
    return minimum(out.astype(dtype), float(np.nextafter(limit, dtype.numpy.type(-np.inf))))


def normal_words(n: int, dtype: DType) -> int:
    """How many words `random_normal` takes for ``n`` numbers."""
    return -(-n // 2) * (4 if dtype is float64 else 2)


@op(
    kind=Kind.RANDOM,
    infer=_drawn,
    dtypes=_STATE,
    attributes={
        "shape": shape_value,
        "dtype": _floating_dtype,
        "mean": _finite("mean"),
        "std": _finite("std"),
    },
    differentiable=False,
    samples=_samples(
        {"shape": (3, 5)},
        {"shape": (), "dtype": "float64"},
        {"shape": 8, "dtype": "float64", "mean": -2.0, "std": 0.5},
        {"shape": (0, 3)},
    ),
    errors=_refused((ArgumentError, {"std": math.inf}), (DTypeError, {"dtype": "int64"}), shape=(3,)),
)
def random_normal(
    key: Tensor,
    counter: Tensor,
    /,
    *,
    shape: int | Shape,
    dtype: DType | str = "float32",
    mean: float = 0.0,
    std: float = 1.0,
) -> Tensor:
    """Numbers of the normal distribution, of `random_bits` with the same key and counter.

    By the transform of Box and Muller ("A note on the generation of random normal deviates", 1958): of n numbers,
    i and i + m, where ``m = ceil(n / 2)``, are ``r cos(t)`` and ``r sin(t)`` with ``r = sqrt(-2 log(u))``. In
    float32 ``u`` is word i, rounded to float32, plus a half, rounded again, over 2**32, and ``t / (2 pi)`` the upper
    24 bits of word i + m; in float64 both are 53 bits, of words i, i + m and of i + 2m, i + 3m, the upper 27 bits
    first, and ``u`` is that plus 2**-54, rounded. So no number is farther from the mean than 6.8 standard deviations,
    in float64 8.7. Every other step rounds as well, and is as exact as the device's functions are. 16-bit floats are
    float32 ones rounded.

    Args:
        key: uint32 (2,).
        counter: uint32 (4,).
        shape: of the result.
        dtype: a floating dtype.
        mean: the mean.
        std: the standard deviation.

    Raises:
        ShapeError: if the key or the counter has another shape.
        DTypeError: if ``dtype`` is not floating.
        ArgumentError: if ``mean`` or ``std`` is not finite.
    """
    assert isinstance(shape, tuple)
    assert isinstance(dtype, DType)
    n = size(shape)
    m = -(-n // 2)
    if dtype is float64:
        bits = random_bits(key, counter, shape=(4, m))
        w = [select(bits, i) for i in range(4)]
        open_, turn = _fraction(w[0], w[1]) + 2.0**-54, _fraction(w[2], w[3])
    else:
        bits = random_bits(key, counter, shape=(2, m))
        open_ = (select(bits, 0).astype("float32") + 0.5) * 2.0**-32
        turn = _fraction(select(bits, 1), None)
    radius, angle = sqrt(log(open_) * -2.0), turn * math.tau
    out = narrow(concat([radius * cos(angle), radius * sin(angle)], axis=0), 0, None, n)
    if (mean, std) != (0.0, 1.0):
        out = out * std + mean
    return reshape(out.astype(dtype), shape)


def _probability(call: Any, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ArgumentError(f"{call.op.name}: p takes a number from 0 to 1, got {value!r}")
    return float(value)


def _decided(call: Any) -> Spec:
    _check_state(call)
    return Spec(call.shape, dtypes.bool, call.key.device)


def bernoulli_words(n: int) -> int:
    """How many words `random_bernoulli` takes for ``n`` decisions."""
    return n


@op(
    kind=Kind.RANDOM,
    infer=_decided,
    dtypes=_STATE,
    attributes={"shape": shape_value, "p": _probability},
    differentiable=False,
    samples=_samples({"shape": (3, 5), "p": 0.3}, {"shape": (), "p": 1.0}, {"shape": (7,), "p": 0.0}),
    errors=_refused((ArgumentError, {"p": 1.5}), (ArgumentError, {"p": math.nan}), shape=(3,)),
)
def random_bernoulli(key: Tensor, counter: Tensor, /, *, shape: int | Shape, p: float = 0.5) -> Tensor:
    """Whether each of ``shape`` events of probability ``p`` happens, by `random_bits` with the same key and counter.

    Args:
        key: uint32 (2,).
        counter: uint32 (4,).
        shape: of the result.
        p: the probability of True, from 0 to 1; it is rounded to a multiple of 2**-32.

    Returns:
        bool of ``shape``: whether word i is less than ``p * 2**32``.

    Raises:
        ArgumentError: if ``p`` is no probability.
        ShapeError: if the key or the counter has another shape.
    """
    assert isinstance(shape, tuple)
    threshold = round(p * _WORD)
    if threshold == _WORD:
        return full(shape, True, device=key.spec.device)
    return random_bits(key, counter, shape=shape) < threshold


def _permuted(call: Any) -> Spec:
    _check_state(call)
    return Spec((call.n,), dtypes.int64, call.key.device)


def permutation_words(n: int) -> int:
    """How many words `random_permutation` takes for ``n`` numbers."""
    return 2 * n


@op(
    kind=Kind.RANDOM,
    infer=_permuted,
    dtypes=_STATE,
    attributes={"n": count("n")},
    differentiable=False,
    samples=_samples({"n": 9}, {"n": 1}, {"n": 0}),
    errors=_refused((ArgumentError, {"n": -1}), n=3),
)
def random_permutation(key: Tensor, counter: Tensor, /, *, n: int) -> Tensor:
    """The numbers 0 to n - 1 in random order: that of n words of 64 bits, ties by number.

    The upper half of key i is word i of `random_bits`, the lower half word i + n. Two keys tie with a probability
    below ``n**2 / 2**65``, which bounds how far the orders are from being equally likely.

    Args:
        key: uint32 (2,).
        counter: uint32 (4,).
        n: how many numbers.

    Returns:
        int64 (n,).

    Raises:
        ShapeError: if the key or the counter has another shape.
        ArgumentError: if ``n`` is negative.
    """
    bits = random_bits(key, counter, shape=(2, n)).astype(uint64)
    return argsort(bitwise_left_shift(select(bits, 0), 32) | select(bits, 1))


def _integer_dtype(call: Any, value: Any) -> DType:
    dtype = dtype_value(call, value)
    if not dtype.is_integer:
        raise DTypeError(f"{call.op.name}: takes an integer dtype, got {dtype}")
    return dtype


def _ranged(call: Any) -> Spec:
    info = iinfo(call.dtype)
    if not info.min <= call.low < call.high <= info.max + 1:
        raise ArgumentError(
            f"{call.op.name}: takes low < high, with all from low to high - 1 values of {call.dtype}, "
            f"{info.min} to {info.max}; got low {call.low}, high {call.high}"
        )
    return _drawn(call)


def integers_words(n: int, low: int, high: int) -> int:
    """How many words `random_integers` takes for ``n`` numbers."""
    return n * (2 if high - low <= _WORD else 3)


@op(
    kind=Kind.RANDOM,
    infer=_ranged,
    dtypes=_STATE,
    attributes={
        "shape": shape_value,
        "dtype": _integer_dtype,
        "low": lambda call, value: integer(call, "low", value),
        "high": lambda call, value: integer(call, "high", value),
    },
    differentiable=False,
    samples=_samples(
        {"shape": (3, 5), "low": 0, "high": 10},
        {"shape": (), "low": -3, "high": 4, "dtype": "int32"},
        {"shape": (7,), "low": 0, "high": 1 << 32},
        {"shape": (7,), "low": -(1 << 63), "high": 1 << 63},
        {"shape": (7,), "low": 5, "high": 1 << 64, "dtype": "uint64"},
        {"shape": (0, 2), "low": 0, "high": 2, "dtype": "uint8"},
    ),
    errors=_refused(
        (ArgumentError, {"low": 5}),
        (ArgumentError, {"high": 257, "dtype": "uint8"}),
        (DTypeError, {"dtype": "float32"}),
        shape=(3,),
        low=0,
        high=5,
    ),
)
def random_integers(
    key: Tensor,
    counter: Tensor,
    /,
    *,
    shape: int | Shape,
    low: int,
    high: int,
    dtype: DType | str = "int64",
) -> Tensor:
    """Integers of [low, high), nearly equally likely, of `random_bits` with the same key and counter.

    Number i is ``low + floor(f * (high - low))``, exactly, for a fraction ``f`` of 64 bits, words i and i + n from
    the most significant on, or of 96 bits, words i, i + n and i + 2n, where the range is larger than 2**32; n is
    the number of elements. So the probability of each integer is that of a fair draw within a factor of 1 - 2**-32
    to 1 + 2**-32 (Lemire, "Fast random integer generation in an interval", 2019, without the rejection).

    Args:
        key: uint32 (2,).
        counter: uint32 (4,).
        shape: of the result.
        low: the smallest integer.
        high: the limit.
        dtype: an integer dtype, which holds all from ``low`` to ``high - 1``.

    Raises:
        ArgumentError: if ``low`` is not less than ``high``, or the dtype does not hold them.
        ShapeError: if the key or the counter has another shape.
        DTypeError: if ``dtype`` is no integer dtype.
    """
    assert isinstance(shape, tuple)
    assert isinstance(dtype, DType)
    span = high - low
    if span <= _WORD:
        bits = random_bits(key, counter, shape=(2, *shape)).astype(uint64)
        found = _upper(_upper(select(bits, 1) * span) + select(bits, 0) * span)
    else:
        bits = random_bits(key, counter, shape=(3, *shape)).astype(uint64)
        found = _product_above_96(select(bits, 2), select(bits, 1), select(bits, 0), span)
    # Arithmetic modulo 2**64 is that of the two's complement.
    return (found + low % (1 << 64)).astype(dtype)


def _upper(x: Tensor) -> Tensor:
    return bitwise_right_shift(x, 32)


def _product_above_96(w0: Tensor, w1: Tensor, w2: Tensor, span: int) -> Tensor:
    """The product of a number of three words, the first the least significant, and ``span``, over 2**96."""
    s0, s1 = span & _LOW, span >> 32
    # Schoolbook multiplication; each sum of a product, a carry and a word fits 64 bits.
    first = w1 * s0 + _upper(w0 * s0)
    second = w0 * s1 + (first & _LOW)
    third = w2 * s0 + _upper(first)
    fourth = w1 * s1 + (third & _LOW) + _upper(second)
    return w2 * s1 + _upper(third) + _upper(fourth)


__all__ = [
    "advance_counter",
    "random_bernoulli",
    "random_bits",
    "random_integers",
    "random_normal",
    "random_permutation",
    "random_uniform",
]
