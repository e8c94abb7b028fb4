"""Random numbers: known answers, streams that do not overlap, distributions, and the state of generators.

The statistical tests run on fixed seeds, so that each either holds or not; their bounds are those of a false alarm
in a million.
"""

from __future__ import annotations

import copy
import json
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from scipy import stats

import plugrad as pg
import plugrad.random as random
from plugrad.backend import resolve_device
from plugrad.dispatch.lowering import apply_body
from plugrad.dtypes import as_dtype
from plugrad.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from plugrad.random import Generator

ONES = 0xFFFFFFFF
ALARM = 1e-6

# Random123 (Salmon et al.), examples/kat_vectors, philox4x32 of 10 rounds: counter, key, block.
KNOWN = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


def words(values: Any, device: str) -> pg.Tensor:
    return pg.asarray(np.array(values, np.uint32), device=device)


def value(counter: pg.Tensor) -> int:
    return sum(int(w) << 32 * i for i, w in enumerate(counter.tolist()))


# -- words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("counter", "key", "block"), KNOWN.values(), ids=KNOWN)
def test_known_answers(counter: Any, key: Any, block: Any, device: str) -> None:
    args = words(key, device), words(counter, device)
    assert tuple(pg.random_bits(*args, shape=4).tolist()) == block
    assert tuple(apply_body(pg.random_bits, args, {"shape": (4,)}).tolist()) == block


@pytest.mark.parametrize("n", [0, 1, 6, 31, 50, 1000, 20_001])
@pytest.mark.parametrize("start", [0, 2**32 - 3, 2**64 - 2, 2**128 - 2])
def test_a_draw_is_a_part_of_the_stream(start: int, n: int, device: str) -> None:
    key = words([5, 6], device)
    counter = words([start >> 32 * i & ONES for i in range(4)], device)
    whole = pg.random_bits(key, counter, shape=n).numpy()
    assert whole.dtype == np.uint32
    np.testing.assert_array_equal(apply_body(pg.random_bits, [key, counter], {"shape": (n,)}).numpy(), whole)
    blocks = n // 8
    _, later = pg.advance_counter(counter, blocks=blocks)
    rest = pg.random_bits(key, later, shape=n - 4 * blocks).numpy()
    np.testing.assert_array_equal(rest, whole[4 * blocks :])


@pytest.mark.parametrize("blocks", [0, 1, 2**32 - 1, 2**32, 2**63 + 5])
@pytest.mark.parametrize("start", [0, 2**32 - 1, 2**96 - 1, 2**128 - 1])
def test_counters_carry(start: int, blocks: int, device: str) -> None:
    counter = words([start >> 32 * i & ONES for i in range(4)], device)
    for took, later in (
        pg.advance_counter(counter, blocks=blocks),
        apply_body(pg.advance_counter, [counter], {"blocks": blocks}),
    ):
        assert value(took) == start
        assert value(later) == (start + blocks) % 2**128
    assert value(counter) == start


# -- numbers ----------------------------------------------------------------------------------------------

DTYPES = ["float16", "bfloat16", "float32", "float64"]


def drawn(op: Any, device: str, **attributes: Any) -> np.ndarray[Any, Any]:
    """A large draw by the kernel, its first elements held against the body."""
    key, counter = words([11, 12], device), words([1, 2, 3, 4], device)
    got = op(key, counter, **attributes)
    return got.numpy().astype(np.float64) if got.dtype.is_floating else got.numpy()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 2.0), (-3.0, 5.0), (0.1, 0.7)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform(dtype: str, low: float, high: float, device: str) -> None:
    n = 40_000
    x = drawn(pg.random_uniform, device, shape=(n // 4, 4), dtype=dtype, low=low, high=high)
    assert x.shape == (n // 4, 4)
    bounds = pg.asarray([low, high], dtype=dtype).numpy().astype(np.float64)
    assert bounds[0] <= x.min() < x.max() < bounds[1]
    unit = (x.ravel() - low) / (high - low)
    if dtype in ("float32", "float64"):
        assert stats.kstest(unit, "uniform").pvalue > ALARM
    # The mean of n numbers has a deviation of 1 / sqrt(12 n); 16-bit floats are off by half a step of rounding.
    step = (
        {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 0.0) * max(abs(low), abs(high)) / (high - low)
    )
    assert abs(unit.mean() - 0.5) < 5 / math.sqrt(12 * n) + step
    assert abs(unit.var() - 1 / 12) < 5 / math.sqrt(180 * n) + step


@pytest.mark.parametrize(
    ("dtype", "low", "high", "below"),
    [
        ("float16", 0, 1, 1 - 2.0**-11),
        ("float16", 1, 2, 2 - 2.0**-10),
        ("bfloat16", 0, 1, 1 - 2.0**-8),
        ("bfloat16", -2, -1, -1 - 2.0**-7),
    ],
)
def test_uniform_never_reaches_the_limit(
    dtype: str, low: float, high: float, below: float, device: str
) -> None:
    # One word in 4096 (float16) or 512 (bfloat16) would be rounded to the limit.
    args = words([1, 2], device), words([3, 0, 0, 0], device)
    attributes = {"shape": (100_000,), "dtype": dtype, "low": low, "high": high}
    assert float(pg.random_uniform(*args, **attributes).max().item()) == below
    body = apply_body(pg.random_uniform, args, {**attributes, "dtype": as_dtype(dtype)})
    np.testing.assert_array_equal(body.numpy(), pg.random_uniform(*args, **attributes).numpy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal(dtype: str, device: str) -> None:
    n = 40_001
    z = drawn(pg.random_normal, device, shape=n, dtype=dtype)
    assert z.shape == (n,)
    if dtype in ("float32", "float64"):
        assert stats.kstest(z, "norm").pvalue > ALARM
        # The two halves, which share radii, are not correlated.
        half = n // 2
        assert abs(stats.pearsonr(z[:half], z[half + 1 :]).statistic) < 5 / math.sqrt(half)
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs(stats.kurtosis(z)) < 5 * math.sqrt(24 / n)
    assert np.isfinite(z).all()
    assert 3.5 < abs(z).max() < 8.7
    shifted = drawn(pg.random_normal, device, shape=n, dtype=dtype, mean=2.0, std=0.5)
    np.testing.assert_allclose(shifted, z * 0.5 + 2, rtol=1e-2, atol=1e-2)


def test_normal_agrees_with_box_and_muller_in_float64(device: str) -> None:
    key, counter = words([3, 4], device), words([0, 0, 0, 0], device)
    n, m = 999, 500
    bits = pg.random_bits(key, counter, shape=(2, m)).numpy().astype(np.float64)
    radius = np.sqrt(-2 * np.log((bits[0] + 0.5) / 2**32))
    angle = 2 * np.pi * np.floor(bits[1] / 256) / 2**24
    expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]
    got = pg.random_normal(key, counter, shape=n).numpy()
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)
    bits = pg.random_bits(key, counter, shape=(4, m)).numpy()
    fractions = [((bits[i] >> 5) * 2.0**26 + (bits[i + 1] >> 6)) / 2**53 for i in (0, 2)]
    radius = np.sqrt(-2 * np.log(fractions[0] + 2.0**-54))
    angle = 2 * np.pi * fractions[1]
    expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]
    got = pg.random_normal(key, counter, shape=n, dtype="float64").numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("p", [0.0, 2.0**-33, 0.1, 0.5, 0.9, 1.0])
def test_bernoulli(p: float, device: str) -> None:
    n = 40_000
    x = drawn(pg.random_bernoulli, device, shape=(n,), p=p)
    assert x.dtype == np.bool_
    assert abs(x.mean() - p) <= 5 * math.sqrt(p * (1 - p) / n) + 1e-9
    key, counter = words([11, 12], device), words([1, 2, 3, 4], device)
    bits = pg.random_bits(key, counter, shape=n).numpy()
    np.testing.assert_array_equal(x, bits < p * 2.0**32 if p > 2.0**-33 else np.zeros(n, bool))


@pytest.mark.parametrize("n", [0, 1, 2, 5, 1000])
def test_permutation(n: int, device: str) -> None:
    x = drawn(pg.random_permutation, device, n=n)
    assert x.dtype == np.int64
    np.testing.assert_array_equal(np.sort(x), np.arange(n))


def test_every_permutation_is_as_likely(device: str) -> None:
    generator = Generator(5, device)
    found = [tuple(random.permutation(4, generator=generator).tolist()) for _ in range(2400)]
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > ALARM


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 10, "int64"), (-7, 6, "int8"), (0, 256, "uint8"), (3, 4, "int32"), (-100, 155, "int16")],
)
def test_integers(low: int, high: int, dtype: str, device: str) -> None:
    x = drawn(pg.random_integers, device, shape=20_000, low=low, high=high, dtype=dtype)
    assert x.dtype == np.dtype(dtype)
    counts = np.bincount(x.astype(np.int64) - low, minlength=high - low)
    assert len(counts) == high - low
    if high - low > 1:
        assert stats.chisquare(counts).pvalue > ALARM


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 2**32, "int64"),
        (0, 2**32 + 1, "int64"),
        (-5, 2**40, "int64"),
        (-(2**63), 2**63, "int64"),
        (-(2**63), 2**63 - 1, "int64"),
        (0, 2**64, "uint64"),
        (17, 3 * 2**62, "uint64"),
        (-(2**31), 2**31, "int32"),
    ],
)
def test_integers_are_the_exact_multiples_of_the_fraction(
    low: int, high: int, dtype: str, device: str
) -> None:
    key, counter = words([8, 9], device), words([0, 0, 0, 0], device)
    n = 200
    planes = 2 if high - low <= 2**32 else 3
    bits = pg.random_bits(key, counter, shape=(planes, n)).numpy().astype(object)
    fraction = sum(bits[i] << 32 * (planes - 1 - i) for i in range(planes))
    expected = [low + (int(f) * (high - low) >> 32 * planes) for f in fraction]
    got = pg.random_integers(key, counter, shape=n, low=low, high=high, dtype=dtype)
    assert got.tolist() == expected
    assert got.dtype.name == dtype


def test_errors_of_the_ops(device: str) -> None:
    key, counter = words([1, 2], device), words([0, 0, 0, 0], device)
    with pytest.raises(ShapeError, match=r"random_bits: key takes shape \(2,\), got \(4,\)"):
        pg.random_bits(counter, counter, shape=3)
    with pytest.raises(DTypeError, match="random_bits: counter is int64; takes uint32"):
        pg.random_bits(key, counter.astype("int64"), shape=3)
    with pytest.raises(ShapeError, match=r"random_uniform: shape \(-1,\) has a negative size"):
        pg.random_uniform(key, counter, shape=-1)
    for low, high in ((1, 1), (2, 1), (0, 1e-60), (0, 1e10)):
        with pytest.raises(ArgumentError, match=r"random_uniform: takes low < high, .* in float16, got low"):
            pg.random_uniform(key, counter, shape=3, low=low, high=high, dtype="float16")
    with pytest.raises(ArgumentError, match="random_uniform: high takes a finite number, got inf"):
        pg.random_uniform(key, counter, shape=3, high=math.inf)
    with pytest.raises(DTypeError, match="random_normal: takes a floating dtype, got int64"):
        pg.random_normal(key, counter, shape=3, dtype="int64")
    for p in (-0.1, 1.1, math.nan, "p"):
        with pytest.raises(ArgumentError, match="random_bernoulli: p takes a number from 0 to 1, got"):
            pg.random_bernoulli(key, counter, shape=3, p=p)
    with pytest.raises(ArgumentError, match=r"random_integers: takes low < high, .* got low 3, high 3"):
        pg.random_integers(key, counter, shape=3, low=3, high=3)
    with pytest.raises(
        ArgumentError, match=r"random_integers: .* values of uint8, 0 to 255; got low 0, high 257"
    ):
        pg.random_integers(key, counter, shape=3, low=0, high=257, dtype="uint8")
    with pytest.raises(DTypeError, match="random_integers: takes an integer dtype, got float32"):
        pg.random_integers(key, counter, shape=3, low=0, high=3, dtype="float32")
    with pytest.raises(ArgumentError, match="random_permutation: n takes an integer of at least 0, got -1"):
        pg.random_permutation(key, counter, n=-1)


# -- generators -------------------------------------------------------------------------------------------


def some(generator: Generator, device: str) -> list[list[Any]]:
    """One draw of each kind."""
    where = {"device": device, "generator": generator}
    return [
        random.uniform(5, **where).tolist(),
        random.uniform((2, 3), -1, 1, dtype="float64", **where).tolist(),
        random.normal((3,), 1, 2, **where).tolist(),
        random.bernoulli((2, 2), 0.3, **where).tolist(),
        random.integers(4, 0, 100, **where).tolist(),
        random.permutation(6, **where).tolist(),
    ]


def test_the_same_seed_gives_the_same_numbers(device: str) -> None:
    assert some(Generator(1), device) == some(Generator(1), device)
    assert some(Generator(1), device) != some(Generator(2), device)
    random.manual_seed(3)
    first = random.uniform(5, device=device).tolist()
    random.manual_seed(3)
    assert random.uniform(5, device=device).tolist() == first
    assert first == random.uniform(5, device=device, generator=Generator(3)).tolist()
    assert random.uniform(5, device=device).tolist() != first


def test_unseeded_generators_differ() -> None:
    assert Generator().seed != Generator().seed


def test_draws_follow_one_another_in_the_stream(device: str) -> None:
    generator = Generator(4, device)
    key, _ = generator.draw(0)
    expected = pg.random_bits(key, words([0, 0, 0, 0], device), shape=400).tolist()
    found: list[int] = []
    for n in (1, 4, 5, 0, 9, 100):
        _, counter = generator.draw(n)
        block = len(found) // 4
        assert value(counter) == block
        found += pg.random_bits(key, counter, shape=-(-n // 4) * 4).tolist()
    assert found == expected[: len(found)]


@pytest.mark.parametrize(
    ("draw", "count"),
    [
        (lambda g: random.uniform(10, generator=g), 10),
        (lambda g: random.uniform(10, dtype="float64", generator=g), 20),
        (lambda g: random.normal(5, generator=g), 6),
        (lambda g: random.normal(5, dtype="float64", generator=g), 12),
        (lambda g: random.bernoulli(9, generator=g), 9),
        (lambda g: random.permutation(9, generator=g), 18),
        (lambda g: random.integers(9, 0, 5, generator=g), 18),
        (lambda g: random.integers(9, 0, 2**40, generator=g), 27),
    ],
)
def test_a_draw_takes_the_blocks_it_needs(draw: Any, count: int, device: str) -> None:
    generator = Generator(4, device)
    draw(generator)
    assert generator.state_dict()["counters"] == {device: [-(-count // 4), 0, 0, 0]}


def test_state_goes_through_json(device: str) -> None:
    generator = Generator(7)
    some(generator, device)
    state = json.loads(json.dumps(generator.state_dict()))
    expected = some(generator, device)
    for fresh in (Generator(0), Generator(7), generator):
        fresh.load_state_dict(state)
        assert fresh.state_dict() == state
        assert some(fresh, device) == expected
    for copied in (pickle.loads(pickle.dumps(generator)), copy.deepcopy(generator)):
        state = generator.state_dict()
        assert copied.state_dict() == state
        assert some(copied, device) == some(generator, device)
        generator.load_state_dict(state)


def test_state_of_a_device_that_is_not_here() -> None:
    state = {"seed": 1, "device": None, "counters": {"elsewhere:3": [1, 2, 3, 4]}}
    generator = Generator(0)
    generator.load_state_dict(state)
    assert generator.state_dict() == state


def test_a_state_from_before_the_first_draw(device: str) -> None:
    generator = Generator(9)
    state = generator.state_dict()
    first = some(generator, device)
    generator.load_state_dict(state)
    assert some(generator, device) == first


def test_replayed(device: str) -> None:
    random.manual_seed(1)
    state = random.get_state()
    first = random.uniform(5, device=device).tolist()
    after = random.get_state()
    with random.replayed(state):
        assert random.uniform(5, device=device).tolist() == first
        random.manual_seed(99)
    assert random.get_state() == after
    random.set_state(state)
    assert random.uniform(5, device=device).tolist() == first


def test_replay_is_of_one_thread(device: str) -> None:
    random.manual_seed(1)
    with random.replayed(random.get_state()), ThreadPoolExecutor(1) as pool:
        pool.submit(random.uniform, 5, device=device).result()
    assert random.get_state()["counters"][device] == [2, 0, 0, 0]


def test_split(device: str) -> None:
    generator = Generator(2, device)
    first, second = generator.split(2)
    assert first.device is generator.device
    draws = [some(g, device) for g in (generator, first, second)]
    assert draws[0] != draws[1] != draws[2] != draws[0]
    again = Generator(2, device).split(2)
    assert [some(g, device) for g in again] == draws[1:]
    assert generator.split(0) == []


def test_threads_never_draw_the_same_block(device: str) -> None:
    generator = Generator(3, device)

    def work(i: int) -> list[int]:
        return [value(generator.draw(1 + (i + j) % 9)[1]) for j in range(100)]

    with ThreadPoolExecutor(8) as pool:
        starts = [s for part in pool.map(work, range(8)) for s in part]
    assert len(set(starts)) == 800
    expected = sum(-(-(1 + (i + j) % 9) // 4) for i in range(8) for j in range(100))
    assert value(generator.draw(1)[1]) == expected


def test_the_device_index_changes_the_stream(device: str) -> None:
    where = resolve_device(device)
    keys = {tuple(random._key(seed, index, where).tolist()) for seed in range(4) for index in range(4)}
    assert len(keys) == 16


def test_checkpoint_repeats_the_draws(device: str) -> None:
    from plugrad.autograd import checkpoint

    random.manual_seed(2)
    x = pg.asarray(np.ones(50), device=device).requires_grad_()
    masks: list[Any] = []

    def dropped(x: pg.Tensor) -> pg.Tensor:
        mask = random.bernoulli(50, device=device).astype("float64")
        masks.append(mask.tolist())
        return x * mask

    y = checkpoint(dropped, x)
    later = random.uniform(3, device=device).tolist()
    state = random.get_state()
    y.sum().backward()
    assert masks[0] == masks[1]
    assert x.grad is not None
    assert x.grad.tolist() == masks[0]
    assert random.get_state() == state
    random.manual_seed(2)
    random.bernoulli(50, device=device)
    assert random.uniform(3, device=device).tolist() == later


def test_errors_of_generators(device: str) -> None:
    for seed in (-1, 2**64, 1.5, True, "0"):
        with pytest.raises(ArgumentError, match=r"Generator: seed takes an int from 0 to 2\*\*64 - 1, got"):
            Generator(seed)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="manual_seed: seed takes an int"):
        random.manual_seed(-1)
    with pytest.raises(DeviceError, match=r"random: the generator is of null:0, numbers on .* are asked for"):
        Generator(0, "null").draw(1, device)
    with pytest.raises(ArgumentError, match="split: takes an int of at least 0, got -1"):
        Generator(0, device).split(-1)
    generator = Generator(6)
    some(generator, device)
    before = generator.state_dict()
    for state in (
        {},
        None,
        {**before, "seed": -1},
        {**before, "counters": {device: [1, 2, 3]}},
        {**before, "counters": {device: [1, 2, 3, 2**32]}},
        {**before, "counters": [1]},
        {**before, "device": 3},
    ):
        with pytest.raises(ArgumentError, match="random state: "):
            generator.load_state_dict(state)  # type: ignore[arg-type]
        assert generator.state_dict() == before
    with pytest.raises(ArgumentError, match="it is of a generator of null:0, this one is of any device"):
        generator.load_state_dict({**before, "device": "null:0"})
