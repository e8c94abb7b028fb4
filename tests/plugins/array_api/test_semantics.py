"""What the standard leaves open to libraries, and the ops do not."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import special

import plugrad as pg
from plugrad.errors import ArgumentError, IndexRangeError

NAN, INF = math.nan, math.inf
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -3.0, 7.5, 1e300, 5e-324, -5e-324, INF, -INF, NAN]


def same(op: Any, device: str, *hosts: np.ndarray, **attributes: Any) -> None:
    """The op gives on ``device`` what it gives on the NumPy backend, to the sign of a zero."""
    got, wanted = (
        op(*(pg.asarray(h, device=d) for h in hosts), **attributes).numpy() for d in (device, "numpy")
    )
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)
    if got.dtype.kind == "f":
        kept = ~np.isnan(wanted)
        np.testing.assert_array_equal(np.signbit(got[kept]), np.signbit(wanted[kept]), "the sign of zero")


def pairs(values: list[Any], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    left, right = zip(*itertools.product(values, values), strict=True)
    with np.errstate(over="ignore"):
        return np.array(left, dtype), np.array(right, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", [pg.floor_divide, pg.remainder, pg.pow, pg.nextafter], ids=lambda o: o.name)
def test_special_values_of_pairs(op: Any, dtype: str, device: str) -> None:
    if op is pg.pow:
        # NumPy and C differ by an ulp at ordinary values.
        exact = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 4.0, -4.0, INF, -INF, NAN]
        same(op, device, *pairs(exact, dtype))
    else:
        same(op, device, *pairs(FLOATS, dtype))


@pytest.mark.parametrize("op", [pg.floor_divide, pg.remainder], ids=lambda o: o.name)
def test_division_of_floats_is_pythons(op: Any, device: str) -> None:
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.standard_normal(500) * 10.0 ** rng.integers(-9, 9, 500), np.arange(-20, 20) / 10])
    b = rng.permutation(a)
    python = {"floor_divide": lambda x, y: x // y, "remainder": lambda x, y: x % y}[op.name]
    b[b == 0] = 0.1
    got = op(pg.asarray(a, device=device), pg.asarray(b, device=device)).numpy()
    assert got.tolist() == [python(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "uint64"])
@pytest.mark.parametrize(
    "op",
    [pg.floor_divide, pg.remainder, pg.pow, pg.bitwise_left_shift, pg.bitwise_right_shift],
    ids=lambda o: o.name,
)
def test_integers_out_of_range(op: Any, dtype: str, device: str) -> None:
    limits = np.iinfo(dtype)
    values = [0, 1, 2, 3, 7, 8, 63, 64, 100, limits.max, limits.min]
    if limits.min < 0:
        values += [-1, -2, -3]
    left, right = pairs(values, dtype)
    if "shift" in op.name:
        left, right = left[right >= 0], right[right >= 0]
    same(op, device, left, right)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erf(dtype: str, device: str) -> None:
    ends = np.array([0.0, -0.0, INF, -INF, NAN, 1.0, -1.0, 1e-300, -6.0, 6.0])
    x = np.concatenate([ends, np.linspace(-7, 7, 20_001)]).astype(dtype)
    got = pg.erf(pg.asarray(x, device=device)).numpy()
    wanted = special.erf(x.astype(np.float64))
    finite = ~np.isnan(wanted)
    error = np.abs(got[finite] - wanted[finite]) / np.spacing(np.abs(wanted[finite]).astype(dtype))
    assert error.max() <= 4
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(wanted[finite]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nextafter_at_random_bits(dtype: str, device: str) -> None:
    bits = np.random.default_rng(1).integers(0, 256, (2, 16_000), np.uint8)
    x1, x2 = bits.view(dtype)
    limits = np.finfo(dtype)
    edges = [limits.max, limits.smallest_normal, limits.smallest_subnormal, 2 * limits.smallest_normal, 1, 2]
    x1[: len(edges)], x2[:3], x2[3:6] = edges, INF, -INF
    same(pg.nextafter, device, x1, x2)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_order_of_nan_and_zeros(axis: int, descending: bool, device: str) -> None:
    x = np.random.default_rng(2).choice([0.0, -0.0, NAN, 1.0, INF, -INF, -1.0], (6, 7, 5))
    same(pg.argsort, device, x, axis=axis, descending=descending)
    same(pg.sort, device, x, axis=axis, descending=descending)
    same(pg.argmax, device, x, axis=axis)
    same(pg.argmin, device, np.abs(x), axis=axis, keepdims=True)
    same(pg.argmax, device, x)


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(side: str, device: str) -> None:
    line = np.array([-INF, -1.0, -0.0, 0.0, 0.0, 2.0, INF, NAN, NAN])
    at = np.array([NAN, 0.0, -0.0, -INF, INF, 1.0, 3.0, -5.0])
    same(pg.searchsorted, device, line, at, side=side)


def test_sums_of_rows_keep_their_order_and_their_infinities(device: str) -> None:
    rng = np.random.default_rng(4)
    x = (rng.standard_normal((400, 3)) * 10.0 ** rng.integers(-6, 7, (400, 1))).astype(np.float32)
    at = rng.integers(-9, 9, 400)
    x[5, 0], x[6, 1] = INF, NAN
    wanted = np.zeros((9, 3), np.float32)
    for i, row in zip(at, x, strict=True):
        wanted[i] += row
    got = pg.scatter_nd(pg.asarray(x, device=device), [pg.asarray(at, device=device)], shape=(9, 3))
    np.testing.assert_array_equal(got.numpy(), wanted)
    one = pg.scatter_nd(pg.asarray([-0.0], device=device), [pg.asarray([1], device=device)], shape=(3,))
    assert not np.signbit(one.numpy()).any()


def test_an_index_out_of_range_names_the_op(device: str) -> None:
    x = pg.asarray(np.ones((2, 3)), device=device)
    i, wrong = (pg.asarray(v, device=device) for v in ([0], [3]))
    for call, message in [
        (lambda: pg.take(x, wrong, axis=0), "take: index 3 is out of range for axis 0 of size 2"),
        (lambda: pg.gather_nd(x, [i, wrong]), "gather_nd: index 3 is out of range for axis 1 of size 3"),
        (lambda: pg.scatter_nd(x[0, :1], [-wrong], shape=(2,)), "scatter_nd: index -3 is out of range"),
        (lambda: pg.take_along_axis(x, pg.reshape(wrong, (1, 1))), "take_along_axis: index 3"),
        (lambda: pg.scatter_add(x[0], wrong, x[0, :1]), "scatter_add: index 3"),
        (lambda: pg.update_nd(x, [wrong], x[0]), "update_nd: index 3"),
        (lambda: pg.one_hot(wrong, 3), "one_hot: 3 is out of range for 3 classes, 0 to 2"),
        (lambda: pg.embedding(-wrong, x), "embedding: -3 is out of range for 2 rows of weight"),
    ]:
        with pytest.raises(IndexRangeError) as error:
            call()
        assert str(error.value).startswith(message)
    with pytest.raises(IndexRangeError, match="searchsorted: index 3 is out of range for axis 0 of size 3"):
        pg.searchsorted(x[0], x[0], pg.asarray([0, 3, 1], device=device))


def test_update_keeps_the_last_of_several(device: str) -> None:
    x = pg.zeros((4, 2), dtype="float64", device=device)
    at = pg.asarray([1, -1, 1, 3], device=device)
    value = pg.asarray(np.arange(8.0).reshape(4, 2), device=device)
    wanted = [[0, 0], [4, 5], [0, 0], [6, 7]]
    assert pg.update_nd(x, [at], value).numpy().tolist() == wanted


def test_no_result_is_a_view_of_integers(device: str) -> None:
    x = pg.asarray([1, 2, 3], device=device)
    for op in (pg.floor, pg.ceil, pg.trunc, pg.round):
        assert not np.shares_memory(op(x).numpy(), x.numpy())
    for op in (pg.sum, pg.max, pg.prod):
        y = pg.asarray(np.ones((2, 2)), device=device)
        assert not np.shares_memory(op(y, axis=()).numpy(), y.numpy())


def test_a_reshape_without_a_copy(device: str) -> None:
    x = pg.asarray(np.ones((2, 3)), device=device)
    assert pg.reshape(x, (6,), copy=False).shape == (6,)
    assert pg.reshape(x[:0], (3, 0), copy=False).shape == (3, 0)
    with pytest.raises(ArgumentError, match="reshape: copy=False"):
        pg.reshape(pg.permute_dims(x, (1, 0)), (6,), copy=False)


def test_arithmetic_raises_no_warnings(device: str) -> None:
    big = pg.asarray([1e308, 0.0, -1.0], device=device)
    zero = pg.zeros_like(big)
    for result in (big * big, big / zero, pg.log(big), pg.exp(big), pg.sqrt(big), big // zero, big % zero):
        assert result.shape == (3,)
    assert pg.mean(zero[:0]).numpy() != 0


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32", "float64", "uint64"])
def test_counting(dtype: str, device: str) -> None:
    got, wanted = (pg.iota(300, dtype=dtype, device=d).numpy() for d in (device, "numpy"))
    np.testing.assert_array_equal(got, wanted)
