"""The oracles of elementwise ops and of random numbers, against the `numpy` device, more bits, and published vectors."""

from __future__ import annotations

import inspect
import itertools
import operator
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.dispatch.conversion import promotion
from plugrad.dispatch.modes import Modes
from plugrad.dispatch.op import Kind, Op
from plugrad.dispatch.sample import Sample
from plugrad_conformance.oracles import ORACLES
from plugrad_conformance.oracles.high_precision import HIGH_PRECISION, evaluate
from support.samples import flat, normalized, operands, samples_of, stated_ops

BESIDES = {"astype", "dropout", "positive"}
OPS = [op for op in stated_ops() if op.kind in (Kind.ELEMENTWISE, Kind.RANDOM) or op.name in BESIDES]
UNSIGNED_TIES = {"maximum", "minimum", "clip", "relu"}
"""Ops that leave open which of 0 and -0 is the larger (array API standard, `maximum`)."""


def attributes_of(op: Op[..., Any], args: list[Any], given: dict[str, Any]) -> dict[str, Any]:
    """All static attributes, in normal form."""
    parameters = inspect.signature(op.__wrapped__).parameters  # type: ignore[attr-defined]
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    named = {k: v for k, v in {**defaults, **given}.items() if k in op.attributes}
    return dict(normalized(op, args, named))


def wanted(op: Op[..., Any], sample: Sample, args: list[Any]) -> list[np.ndarray]:
    """What the oracle gives for an application to ``args``."""
    names = [o.name for o in op.operands]
    padded = args + [sample.attributes.get(n) for n in names[len(args) :]]
    shown = [a.spec if isinstance(a, pg.Tensor) else a if a is None else type(a) for a in padded]
    targets = promotion(op, shown, Modes())
    arrays: list[np.ndarray | None] = []
    for value, target in zip(padded, targets, strict=True):
        if value is None:
            arrays.append(None)
            continue
        array = np.asarray(value.numpy() if isinstance(value, pg.Tensor) else value).astype(target.numpy)
        arrays.append(array.astype(np.float64) if target.is_floating else array)
    out = ORACLES[op.name](*arrays, **attributes_of(op, padded, sample.attributes))
    return list(out) if isinstance(out, tuple) else [out]


def test_every_op_has_an_oracle() -> None:
    assert {op.name for op in OPS} <= set(ORACLES)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_the_numpy_device_gives_what_the_oracle_does(op: Op[..., Any]) -> None:
    for sample in samples_of(op):
        args = operands(sample, "float64", "numpy")
        got = list(flat(sample.apply(op, args)))
        oracles = wanted(op, sample, args)
        assert len(got) == len(oracles)
        for g, w in zip(got, oracles, strict=True):
            assert isinstance(w, np.ndarray)
            assert w.shape == g.shape
            if not g.dtype.is_floating:
                assert w.dtype == g.dtype.numpy
                np.testing.assert_array_equal(g.numpy(), w, err_msg=f"{op.name} {sample}")
                continue
            assert w.dtype == np.float64
            # Random numbers and casts are of the dtype that the sample names.
            close = 1e-13 if g.dtype is pg.float64 else 1e-6
            np.testing.assert_allclose(g.numpy(), w, rtol=close, atol=close, err_msg=f"{op.name} {sample}")


# -- special values ---------------------------------------------------------------------------------------

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 20.0, -20.0, 100.0, -100.0, 1e4]
TAKES_FLOATS = [
    op for op in OPS if op.kind is Kind.ELEMENTWISE and not op.name.startswith(("bitwise", "logical"))
]


@pytest.mark.parametrize("op", TAKES_FLOATS, ids=lambda op: op.name)
def test_special_values_are_those_of_the_numpy_device(op: Op[..., Any]) -> None:
    names = [o.name for o in op.operands]
    hosts = [np.array(v) for v in zip(*itertools.product(SPECIAL, repeat=len(names)), strict=True)]
    hosts = [h > 0 if n in ("condition", "mask") else h for n, h in zip(names, hosts, strict=True)]
    attributes: list[dict[str, Any]] = [{}]
    if op.name == "masked_scale":
        attributes = [{"scale": 2.0}, {"scale": -1.5}]
    if op.name == "gelu":
        attributes = [{"approximate": "none"}, {"approximate": "tanh"}]
    tensors = [pg.asarray(h, device="numpy") for h in hosts]
    for given in attributes:
        got = op(*tensors, **given).numpy()
        want = ORACLES[op.name](*hosts, **given)
        # The op is stated by `erf` and `tanh`, which leave of a tail what is large beside 1.
        close = 1e-14 if op.name == "gelu" else 0.0
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=close)
        if got.dtype.kind == "f" and op.name not in UNSIGNED_TIES:
            zero = got == 0
            np.testing.assert_array_equal(np.signbit(got)[zero], np.signbit(want)[zero])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
@pytest.mark.parametrize(
    "name",
    [
        "add", "subtract", "multiply", "pow", "floor_divide", "remainder", "maximum", "minimum", "less",
        "negative", "abs", "sign", "square", "relu", "floor", "round", "isnan", "isfinite",
        "bitwise_invert", "bitwise_and", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift",
    ],
)  # fmt: skip
def test_integers_wrap_around_on_both(name: str, dtype: str) -> None:
    info = np.iinfo(dtype)
    edges = np.array([info.min, info.min + 1, 0, 1, 2, 7, 13, 64, info.max - 1, info.max], dtype)
    if info.min < 0:
        edges = np.concatenate([edges, np.array([-1, -2, -7], dtype)])
    op = getattr(pg, name)
    hosts = [edges] if len(op.operands) == 1 else list(np.meshgrid(edges, edges))
    if "shift" in name:
        hosts[1] = np.abs(hosts[1] % 70)
    got = op(*(pg.asarray(h, device="numpy") for h in hosts)).numpy()
    want = ORACLES[name](*hosts)
    assert want.dtype == got.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("function", [operator.floordiv, operator.mod], ids=["floor_divide", "remainder"])
def test_integer_division_is_python_s_and_by_zero_gives_zero(function: Callable[..., Any]) -> None:
    name = {"floordiv": "floor_divide", "mod": "remainder"}[function.__name__]
    a, b = np.meshgrid(np.arange(-128, 128, dtype=np.int8), np.arange(-128, 128, dtype=np.int8))
    got = ORACLES[name](a, b)
    assert got.dtype == np.int8
    for x, y, z in zip(a.flat, b.flat, got.flat, strict=True):
        exact = function(int(x), int(y)) if y else 0
        assert z == (exact if exact < 128 else -128)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_next_value_is_that_of_the_dtype_under_test(dtype: str) -> None:
    floating = pg.dtypes.as_dtype(dtype)
    low, high = pg.finfo(floating).smallest_normal, pg.finfo(floating).max
    values = [0.0, -0.0, 1.0, -1.0, 1.5, low, -low, high, -high, np.inf, -np.inf, np.nan]
    a, b = (x.astype(floating.numpy) for x in np.meshgrid(values, values))
    got = ORACLES["nextafter"](a.astype(np.float64), b.astype(np.float64), floating=floating)
    with np.errstate(all="ignore"):
        want = np.nextafter(a, b).astype(np.float64)
    np.testing.assert_array_equal(got, want)
    # NumPy's function for float16 does not give the second of two zeros; the op says it does.
    np.testing.assert_array_equal(np.signbit(got[a == b]), np.signbit(b[a == b]))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "uint64"])
def test_casts_truncate_and_wrap_around(dtype: str) -> None:
    target = pg.dtypes.as_dtype(dtype)
    cast = ORACLES["astype"]
    floats = cast(np.array([2.9, 0.5, 0.0]), dtype=target)
    np.testing.assert_array_equal(floats, [True, True, False] if dtype == "bool" else [2, 0, 0])
    assert floats.dtype == target.numpy
    wide = cast(np.array([256 + 7, 0]), dtype=target)
    narrow = 7 if target.itemsize == 1 else 263
    np.testing.assert_array_equal(wide, [True, False] if dtype == "bool" else [narrow, 0])
    assert cast(np.array([np.nan]), dtype=pg.dtypes.bool)[0]


# -- more bits --------------------------------------------------------------------------------------------

PAIRS = {"pow", "hypot", "atan2", "logaddexp"}
ATTRIBUTES: dict[str, list[dict[str, Any]]] = {
    "elu": [{"alpha": 1.0}, {"alpha": 0.7}],
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
    "softplus": [{"beta": 1.0, "threshold": 20.0}, {"beta": 2.5, "threshold": 3.0}],
}
SWEEPS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "subnormal": lambda rng: rng.choice([-1, 1], 300) * 10 ** rng.uniform(-323, -300, 300),
    "all": lambda rng: rng.choice([-1, 1], 300) * 10 ** rng.uniform(-300, 308, 300),
    "middle": lambda rng: rng.choice([-1, 1], 600) * 10 ** rng.uniform(-3, 3, 600),
    "unit": lambda rng: rng.uniform(-1.2, 1.2, 300),
    "special": lambda rng: rng.permutation(SPECIAL),
}


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("name", HIGH_PRECISION)
def test_oracles_are_right_to_four_units_of_the_last_place(name: str, sweep: str) -> None:
    rng = np.random.default_rng(7)
    x = [SWEEPS[sweep](rng) for _ in range(2 if name in PAIRS else 1)]
    for attributes in ATTRIBUTES.get(name, [{}]):
        head, tail = evaluate(name, x, attributes)
        oracle = ORACLES[name](*x, **attributes)
        finite = np.isfinite(head)
        np.testing.assert_array_equal(oracle[~finite], head[~finite])
        h, got = head[finite], oracle[finite]
        unit = np.spacing(np.abs(h))
        if name == "logaddexp":
            # Where the result is small beside the operands, what float64 leaves of their difference is not.
            largest = np.max(np.where(np.isfinite(x), np.abs(x), 0.0), axis=0)[finite]
            unit = np.spacing(np.maximum(np.abs(h), largest))
        if name in ("silu", "gelu"):
            # A factor that underflows multiplies what it leaves.
            unit = np.maximum(unit, np.abs(x[0][finite]) * 2.0**-1074)
        assert np.all(np.abs((got - h) - tail[finite]) <= 4 * unit)
        assert np.all(np.abs(tail[finite]) <= 0.5 * np.spacing(np.abs(h)))
        zero = h == 0
        np.testing.assert_array_equal(np.signbit(h)[zero], np.signbit(got)[zero])


def test_head_and_tail_hold_more_than_float64() -> None:
    # Published constants, to 33 digits or more.
    known = [
        ("exp", [1.0], "2.718281828459045235360287471352662"),
        ("atan", [1.0], "0.7853981633974483096156608458198757"),
        ("log", [2.0], "0.6931471805599453094172321214581766"),
        ("atan2", [-0.0, -1.0], "-3.141592653589793238462643383279503"),
        ("pow", [-2.0, 3.0], "-8"),
        ("erf", [0.5], "0.5204998778130465376827466538919645"),
    ]
    with localcontext() as context:
        context.prec = 50
        for name, x, digits in known:
            head, tail = evaluate(name, [np.array(v) for v in x], {})
            exact = Decimal(float(head)) + Decimal(float(tail))
            assert abs(exact - Decimal(digits)) < Decimal("1e-31"), name


# -- random numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers_of_its_authors(counter: str, key: str, words: str) -> None:
    def parse(text: str) -> np.ndarray:
        return np.array([int(word, 16) for word in text.split()], np.uint32)

    got = ORACLES["random_bits"](parse(key), parse(counter), shape=(4,))
    np.testing.assert_array_equal(got, parse(words))


def test_blocks_count_up_through_every_word() -> None:
    key = np.array([3, 4], np.uint32)
    last = np.full(4, 0xFFFFFFFF, np.uint32)
    start, following = ORACLES["advance_counter"](last, blocks=1)
    np.testing.assert_array_equal(start, last)
    np.testing.assert_array_equal(following, np.zeros(4, np.uint32))
    both = ORACLES["random_bits"](key, last, shape=(8,))
    np.testing.assert_array_equal(both[4:], ORACLES["random_bits"](key, following, shape=(4,)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_random_numbers_are_those_of_the_numpy_device_in_every_dtype(dtype: str) -> None:
    floating = pg.dtypes.as_dtype(dtype)
    key, counter = np.array([5, 6], np.uint32), np.array([0xFFFFFFF0, 2, 3, 4], np.uint32)
    state = [pg.asarray(a, device="numpy") for a in (key, counter)]
    close = float(pg.finfo(floating).eps)
    shape = (301,)
    for low, high in ((0.0, 1.0), (-3.0, 0.1)):
        want = ORACLES["random_uniform"](key, counter, shape=shape, dtype=floating, low=low, high=high)
        assert float(floating.numpy.type(low)) <= want.min()
        assert want.max() < float(floating.numpy.type(high))
        got = pg.ops.random_uniform(*state, shape=shape, dtype=dtype, low=low, high=high)
        np.testing.assert_allclose(got.numpy().astype(np.float64), want, rtol=close, atol=4 * close)
    want = ORACLES["random_normal"](key, counter, shape=shape, dtype=floating, mean=1.0, std=3.0)
    got = pg.ops.random_normal(*state, shape=shape, dtype=dtype, mean=1.0, std=3.0)
    absolute = 1e-13 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(got.numpy().astype(np.float64), want, rtol=4 * close, atol=absolute)
