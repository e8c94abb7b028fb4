"""erf in units of the last place, and the activations and the softmax family against float64 references."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from scipy.special import erf as reference_erf
from scipy.special import erfc, expit, ndtr
from scipy.special import log_softmax as reference_log_softmax
from scipy.special import logsumexp as reference_logsumexp
from scipy.special import softmax as reference_softmax

from plugrad_numpy import _chunks, _parallel
from plugrad_numpy import _special as special

Array = np.ndarray[Any, Any]
Function = Callable[..., Array]


def test_erf_float32_is_within_4_ulp() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [np.linspace(-5, 5, 400_001), rng.standard_normal(100_000), 10 ** rng.uniform(-37, 38, 100_000)]
    ).astype(np.float32)
    wanted = reference_erf(x.astype(np.float64))
    ulp = np.abs(special.erf(x) - wanted) / np.spacing(np.abs(wanted).astype(np.float32))
    assert ulp.max() <= 4


def test_erf_float64_is_within_2_ulp_of_the_c_library() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            np.linspace(-7, 7, 40_001),
            rng.standard_normal(20_000),
            10 ** rng.uniform(-300, 300, 20_000),
            rng.uniform(0.99, 1.01, 5_000),
        ]
    )
    wanted = np.array([math.erf(v) for v in x])
    assert np.all(np.abs(special.erf(x) - wanted) <= 2 * np.spacing(np.abs(wanted)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_erf_special_values(dtype: Any) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3e4, -3e4], dtype)
    got = special.erf(x).astype(np.float64)
    np.testing.assert_array_equal(got, [0.0, 0.0, 1.0, -1.0, np.nan, 1.0, -1.0])
    assert np.signbit(got[1])
    tiny = np.array([np.finfo(np.float32).smallest_subnormal * 1000], np.float32)
    assert np.isclose(special.erf(tiny)[0], tiny[0] * 2 / math.sqrt(math.pi), rtol=1e-2)


def sigmoid_slope(x: Array) -> Array:
    return np.asarray(expit(x) * expit(-x))


def normal_density(x: Array) -> Array:
    return np.asarray(np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


def tanh_argument(x: Array) -> Array:
    return np.asarray(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def tanh_slope(x: Array) -> Array:
    u, du = tanh_argument(x), math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return np.asarray(expit(2 * u) + 2 * x * sigmoid_slope(2 * u) * du)


FORWARD: dict[str, tuple[Function, Function]] = {
    "gelu_exact": (special.gelu_exact, lambda x: x * ndtr(x)),
    "gelu_tanh": (special.gelu_tanh, lambda x: x * expit(2 * tanh_argument(x))),
}
SLOPE: dict[str, tuple[Function, Function]] = {
    "gelu_exact": (special.gelu_exact_vjp, lambda x: ndtr(x) + x * normal_density(x)),
    "gelu_tanh": (special.gelu_tanh_vjp, tanh_slope),
}
EPS = {np.float64: 2.3e-16, np.float32: 1.2e-7, np.float16: 9.8e-4, ml_dtypes.bfloat16: 7.9e-3}


@pytest.mark.parametrize("dtype", EPS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", FORWARD)
def test_activations(name: str, dtype: Any) -> None:
    x = np.concatenate([np.linspace(-8, 8, 4001), np.random.default_rng(0).standard_normal(1000)]).astype(
        dtype
    )
    wide = x.astype(np.float64)
    function, wanted = FORWARD[name]
    got = function(x)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_allclose(got.astype(np.float64), wanted(wide), rtol=4 * EPS[dtype], atol=4 * EPS[dtype])
    ct = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    function, wanted = SLOPE[name]
    got = function(ct, x)
    assert got.dtype == np.dtype(dtype)
    expected = ct.astype(np.float64) * wanted(wide)
    np.testing.assert_allclose(got.astype(np.float64), expected, rtol=4 * EPS[dtype], atol=16 * EPS[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_far_out(dtype: Any) -> None:
    # No warning, which pytest would raise, and no NaN, at either end.
    x = np.array([-1e30, -800, -100, 100, 800, 1e30, np.inf], dtype)
    ct = np.ones_like(x)
    right = x > 0
    for function in (special.gelu_exact, special.gelu_tanh):
        np.testing.assert_array_equal(np.where(right, function(x), 0), np.where(right, x, 0))
        np.testing.assert_allclose(function(x)[~right], 0, atol=1e-38)
    for slope in (special.gelu_exact_vjp, special.gelu_tanh_vjp):
        finite = np.abs(x) <= 800
        np.testing.assert_allclose(slope(ct, x)[finite], right[finite], atol=1e-29)
    np.testing.assert_allclose(special.gelu_tanh(-x[x == 800]), 0)


def test_gelu_in_the_tail_is_absolutely_accurate() -> None:
    x = np.linspace(-12, -2, 1001)
    wanted = x * 0.5 * erfc(-x / math.sqrt(2))
    np.testing.assert_allclose(special.gelu_exact(x), wanted, atol=1e-15)


SHAPES = [
    ((7, 5), 1),
    ((7, 5), 0),
    ((2, 3, 4, 5), 1),
    ((2, 3, 4, 5), 3),
    ((6,), 0),
    ((1, 9), 0),
    ((300, 700), 1),
]


@pytest.mark.parametrize("layout", ["row-major", "turned", "strided"])
@pytest.mark.parametrize("dtype", EPS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_softmax_family(shape: tuple[int, ...], axis: int, dtype: Any, layout: str) -> None:
    rng = np.random.default_rng(0)

    def draw() -> Array:
        values = (3 * rng.standard_normal(shape)).astype(dtype)
        if layout == "turned":
            return np.asarray(values.T.copy().T)
        return values.repeat(2, axis=-1)[..., ::2] if layout == "strided" else values

    x, ct = draw(), draw()
    wide, wide_ct = x.astype(np.float64), ct.astype(np.float64)
    # A sum along the axis, of terms of about 3, is subtracted.
    tolerance: Any = {"rtol": 16 * EPS[dtype], "atol": (64 + 2 * shape[axis]) * EPS[dtype]}

    def check(got: Array, wanted: Array) -> None:
        assert got.dtype == np.dtype(dtype)
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got.astype(np.float64), wanted, **tolerance)

    s = reference_softmax(wide, axis=axis)
    check(special.softmax(x, axis=axis), s)
    check(special.log_softmax(x, axis=axis), reference_log_softmax(wide, axis=axis))
    total = reference_logsumexp(wide, axis=axis, keepdims=True)
    check(special.logsumexp(x, axis=axis, keepdims=True), total)
    check(special.logsumexp(x, axis=axis), total.squeeze(axis))
    low = s.astype(dtype)
    wide_s = low.astype(np.float64)
    check(
        special.softmax_vjp(ct, low, axis=axis),
        wide_s * (wide_ct - (wide_ct * wide_s).sum(axis=axis, keepdims=True)),
    )
    logs = np.log(s).astype(dtype)
    wide_logs = np.exp(logs.astype(np.float64))
    check(
        special.log_softmax_vjp(ct, logs, axis=axis),
        wide_ct - wide_logs * wide_ct.sum(axis=axis, keepdims=True),
    )
    low_total = total.astype(dtype)
    ct_total = ct.take([0], axis=axis)
    wanted = ct_total.astype(np.float64) * np.exp(wide - low_total.astype(np.float64))
    check(special.logsumexp_vjp(ct_total, x, low_total, axis=axis, keepdims=True), wanted)
    got = special.logsumexp_vjp(ct_total.squeeze(axis), x, low_total.squeeze(axis), axis=axis)
    check(got, wanted)


def test_softmax_family_far_out() -> None:
    x = np.array([[1e38, -1e38, 0], [-1e30, -1e30, -1e30], [-np.inf, 0, 0]], np.float32)
    np.testing.assert_allclose(special.softmax(x, axis=1), [[1, 0, 0], [1 / 3] * 3, [0, 0.5, 0.5]], rtol=1e-6)
    logs = special.log_softmax(x, axis=1)
    assert not np.isnan(logs).any()
    none = np.full((1, 3), -np.inf, np.float32)
    assert special.logsumexp(none, axis=1)[0] == -np.inf
    assert special.logsumexp(np.array([[np.inf, 0]]), axis=1)[0] == np.inf
    assert np.isnan(special.logsumexp(np.array([[np.nan, 0]]), axis=1)[0])
    assert np.isnan(special.softmax(none, axis=1)).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_empty(shape: tuple[int, ...]) -> None:
    x = np.ones(shape, np.float32)
    axis = len(shape) - 1
    assert special.erf(x).shape == shape
    assert special.softmax(x, axis=axis).shape == shape
    assert special.log_softmax_vjp(x, x, axis=axis).shape == shape
    np.testing.assert_array_equal(special.logsumexp(x, axis=axis), np.full(shape[:-1], -np.inf, np.float32))
    assert (
        special.logsumexp_vjp(
            np.ones(shape[:-1], np.float32), x, np.ones(shape[:-1], np.float32), axis=axis
        ).shape
        == shape
    )


@pytest.mark.parametrize("layout", ["row-major", "turned", "strided"])
def test_into_any_layout_and_in_place(layout: str) -> None:
    x = np.random.default_rng(0).standard_normal((40, 50), dtype=np.float32)

    def place() -> Array:
        if layout == "turned":
            return np.zeros((50, 40), np.float32).T
        return (
            np.zeros((40, 100), np.float32)[:, ::2] if layout == "strided" else np.zeros((40, 50), np.float32)
        )

    for function in (special.erf, special.gelu_tanh):
        into = place()
        assert function(x, **{"out" if function is special.erf else "into": into}) is into
        np.testing.assert_array_equal(into, function(x))
    into = place()
    assert special.softmax(x, axis=1, into=into) is into
    np.testing.assert_array_equal(into, special.softmax(x, axis=1))
    for function, _ in FORWARD.values():
        into = place()
        into[...] = x
        function(into, into=into)
        np.testing.assert_array_equal(into, function(x))
    for function in (special.gelu_exact_vjp, special.gelu_tanh_vjp):
        into = place()
        into[...] = x
        function(into, x + 1, into=into)
        np.testing.assert_array_equal(into, function(x, x + 1))


def test_results_keep_the_layout() -> None:
    x = np.zeros((2, 4, 4, 3), np.float32).transpose(0, 3, 1, 2)
    for result in (special.gelu_tanh(x), special.softmax(x, axis=1), special.gelu_exact_vjp(x, x)):
        assert result.strides == x.strides


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_and_threads_do_not_change_results(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((300, 70), dtype=np.float32)
    wanted = [special.gelu_exact(x), special.softmax(x, axis=1), special.log_softmax(x, axis=0)]
    monkeypatch.setattr(_parallel._state, "size", threads)
    monkeypatch.setattr(_parallel._state, "workers", [])
    monkeypatch.setattr(_chunks, "_BYTES", 2048)
    monkeypatch.setattr(_chunks, "_WORTH", 100)
    got = [special.gelu_exact(x), special.softmax(x, axis=1), special.log_softmax(x, axis=0)]
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_run_covers_all_parts_raises_and_nests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parallel._state, "size", 4)
    monkeypatch.setattr(_parallel._state, "workers", [])
    seen: list[int] = []
    _parallel.run(seen.append, list(range(20)))
    assert sorted(seen) == list(range(20))
    parts = _parallel.pieces(10, 3)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(10))
    assert len(parts) == 3
    assert _parallel.pieces(0, 5) == [slice(0, 0)]

    def nested(part: int) -> None:
        name = threading.current_thread().name
        names: list[str] = []
        _parallel.run(lambda _: names.append(threading.current_thread().name), [1, 2, 3])
        assert names == [name] * 3
        if part == 2:
            raise ZeroDivisionError("part 2")

    with pytest.raises(ZeroDivisionError, match="part 2"):
        _parallel.run(nested, [0, 1, 2, 3])
    _parallel.run(seen.append, [20, 21])
    assert sorted(seen) == list(range(22))
    _parallel.limit(1)
    try:
        assert _parallel.thread_count() == 1
        with pytest.raises(ValueError, match="takes 1 or more"):
            _parallel.limit(0)
    finally:
        _parallel.limit(None)
