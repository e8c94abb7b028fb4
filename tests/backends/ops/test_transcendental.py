"""Powers, exponentials, logarithms, trigonometry: precision in units of the last place, and special cases.

The oracle of float32 is float64, that of float64 the processor's long double where it is wider.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import DTypeError
from support.oracles import FLOATING, assert_same, by_body, tensor, ulps

INF, NAN, PI = math.inf, math.nan, math.pi
NUMPY = {
    "acos": "arccos",
    "acosh": "arccosh",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
    "pow": "power",
}
UNITS = 8.0
"""Units in the last place that an op may be off."""


def reference(name: str) -> Callable[..., Any]:
    """NumPy's function, whatever the dtype of its operands."""
    if name == "rsqrt":
        return lambda x: 1 / np.sqrt(x)
    function: Callable[..., Any] = getattr(np, NUMPY.get(name, name))
    return function


def spread(low: float, high: float, *, both: bool = False) -> Callable[[np.random.Generator], np.ndarray]:
    """Positive values, or values of both signs, that spread evenly over the magnitudes from ``low`` to ``high``."""

    def make(rng: np.random.Generator) -> np.ndarray:
        values = np.exp(rng.uniform(math.log(low), math.log(high), 2000))
        return np.concatenate([values, -values]) if both else values

    return make


def near(centre: float, low: float, high: float) -> Callable[[np.random.Generator], np.ndarray]:
    """Values below ``centre`` by ``low`` to ``high``, or above it where these are negative."""
    return lambda rng: centre - math.copysign(1, low) * spread(abs(low), abs(high))(rng)


DOMAINS: dict[str, list[Callable[[np.random.Generator], np.ndarray]]] = {
    "acos": [spread(1e-5, 1, both=True), near(1, 1e-6, 0.1), near(-1, -1e-6, -0.1)],
    "acosh": [near(1, -1e-6, -1), spread(1, 1e18)],
    "asin": [spread(1e-5, 1, both=True), near(1, 1e-6, 0.1)],
    "asinh": [spread(1e-6, 1e18, both=True)],
    "atan": [spread(1e-5, 1e5, both=True)],
    "atanh": [spread(1e-6, 1, both=True), near(1, 1e-6, 0.1)],
    "cos": [spread(1e-5, 1e3, both=True)],
    "cosh": [spread(1e-5, 88, both=True)],
    "exp": [spread(1e-5, 80, both=True)],
    "expm1": [spread(1e-6, 80, both=True)],
    "log": [spread(1e-30, 1e30), near(1, 1e-5, 0.1), near(1, -1e-5, -0.1)],
    "log1p": [spread(1e-6, 1e10), near(0, 1e-6, 0.999)],
    "log2": [spread(1e-30, 1e30), near(1, 1e-5, 0.1)],
    "log10": [spread(1e-30, 1e30), near(1, 1e-5, 0.1)],
    "reciprocal": [spread(1e-30, 1e30, both=True)],
    "rsqrt": [spread(1e-30, 1e30)],
    "sin": [spread(1e-5, 1e3, both=True)],
    "sinh": [spread(1e-6, 88, both=True)],
    "sqrt": [spread(1e-30, 1e30)],
    "square": [spread(1e-15, 1e15, both=True)],
    "tan": [spread(1e-5, 1e3, both=True)],
    "tanh": [spread(1e-5, 30, both=True)],
}
WIDER = [("float32", np.float64), ("float64", np.longdouble)]


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize(("dtype", "wider"), WIDER)
def test_precision(name: str, dtype: str, wider: Any, device: str) -> None:
    op = getattr(pg, name)
    rng = np.random.default_rng(0)
    host = np.concatenate([domain(rng) for domain in DOMAINS[name]]).astype(dtype)
    expected = reference(name)(host.astype(wider))
    assert ulps(op(tensor(host, dtype, device)).numpy(), expected) <= UNITS
    if op.body is not None:
        assert ulps(by_body(op, tensor(host, dtype, device)).numpy(), expected) <= UNITS, "body"


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("times", [1, 20])
def test_precision_of_16_bits(name: str, dtype: str, times: int, device: str) -> None:
    """Computed in float32 and rounded once, whether an array is small or cut into blocks."""
    rng = np.random.default_rng(0)
    host = tensor(np.concatenate([domain(rng) for domain in DOMAINS[name]]), dtype, device).numpy()
    host = np.concatenate([host] * times)
    with np.errstate(all="ignore"):
        expected = reference(name)(host.astype(np.float64)).astype(host.dtype)
        op, x = getattr(pg, name), tensor(host, dtype, device)
        for got, steps in ((op(x), 1), *([(by_body(op, x), 2)] if op.body is not None else [])):
            step = np.abs(got.numpy().view(np.int16).astype(np.int64) - expected.view(np.int16))
            assert (step[~np.isnan(expected)] <= steps).all()
            assert (np.isnan(got.numpy()) == np.isnan(expected)).all()


@pytest.mark.parametrize("name", ["atan2", "hypot", "pow"])
@pytest.mark.parametrize(("dtype", "wider"), WIDER)
def test_precision_of_two_operands(name: str, dtype: str, wider: Any, device: str) -> None:
    op = getattr(pg, name)
    rng = np.random.default_rng(0)
    a, b = spread(1e-3, 1e3, both=True)(rng), rng.permutation(spread(1e-3, 1e3, both=True)(rng))
    if name == "pow":
        a, b = np.abs(a), b % 5
    a, b = a.astype(dtype), b.astype(dtype)
    expected = reference(name)(a.astype(wider), b.astype(wider))
    x, y = tensor(a, dtype, device), tensor(b, dtype, device)
    units = 16 if name == "pow" else UNITS
    assert ulps(op(x, y).numpy(), expected) <= units
    if op.body is not None:
        assert ulps(by_body(op, x, y).numpy(), expected) <= units, "body"


UNARY: list[tuple[str, list[float], list[float]]] = [
    ("acos", [1, 1.5, -1.5, NAN], [0.0, NAN, NAN, NAN]),
    ("acosh", [1, 0.5, -2, -INF, INF, NAN], [0.0, NAN, NAN, NAN, INF, NAN]),
    ("asin", [0.0, -0.0, 1.5, -1.5, NAN], [0.0, -0.0, NAN, NAN, NAN]),
    ("asinh", [0.0, -0.0, INF, -INF, NAN], [0.0, -0.0, INF, -INF, NAN]),
    ("atan", [0.0, -0.0, NAN], [0.0, -0.0, NAN]),
    ("atanh", [0.0, -0.0, 1, -1, 1.5, -2, INF, NAN], [0.0, -0.0, INF, -INF, NAN, NAN, NAN, NAN]),
    ("cos", [0.0, -0.0, INF, -INF, NAN], [1, 1, NAN, NAN, NAN]),
    ("cosh", [0.0, -0.0, INF, -INF, NAN], [1, 1, INF, INF, NAN]),
    ("exp", [0.0, -0.0, INF, -INF, NAN], [1, 1, INF, 0.0, NAN]),
    ("expm1", [0.0, -0.0, INF, -INF, NAN], [0.0, -0.0, INF, -1, NAN]),
    ("log", [1, 0.0, -0.0, -1, INF, NAN], [0.0, -INF, -INF, NAN, INF, NAN]),
    ("log1p", [0.0, -0.0, -1, -2, INF, NAN], [0.0, -0.0, -INF, NAN, INF, NAN]),
    ("log2", [1, 0.0, -0.0, -1, INF, NAN], [0.0, -INF, -INF, NAN, INF, NAN]),
    ("log10", [1, 0.0, -0.0, -1, INF, NAN], [0.0, -INF, -INF, NAN, INF, NAN]),
    ("rsqrt", [0.0, INF, -1, NAN, 4], [INF, 0.0, NAN, NAN, 0.5]),
    ("sin", [0.0, -0.0, INF, -INF, NAN], [0.0, -0.0, NAN, NAN, NAN]),
    ("sinh", [0.0, -0.0, INF, -INF, NAN], [0.0, -0.0, INF, -INF, NAN]),
    ("sqrt", [0.0, -0.0, -1, INF, NAN, 9], [0.0, -0.0, NAN, INF, NAN, 3]),
    ("tan", [0.0, -0.0, INF, -INF, NAN], [0.0, -0.0, NAN, NAN, NAN]),
    ("tanh", [0.0, -0.0, INF, -INF, NAN], [0.0, -0.0, 1, -1, NAN]),
]


@pytest.mark.parametrize(("name", "x", "expected"), UNARY, ids=[c[0] for c in UNARY])
@pytest.mark.parametrize("dtype", FLOATING)
def test_special_values(name: str, x: Any, expected: Any, dtype: str, device: str) -> None:
    op = getattr(pg, name)
    assert_same(op(tensor(x, dtype, device)), expected, name)
    for v, e in zip(x, expected, strict=True):
        assert_same(op(tensor(v, dtype, device)), e, f"{name} of 0 axes")
    if op.body is not None:
        assert_same(by_body(op, tensor(x, dtype, device)), expected, f"body of {name}")


@pytest.mark.parametrize("dtype", FLOATING)
def test_values_at_multiples_of_pi(dtype: str, device: str) -> None:
    ends = tensor([INF, -INF], dtype, device)
    ones = tensor([1, -1], dtype, device)
    eps = pg.dtypes.finfo(dtype).eps
    for got, expected in (
        (pg.atan(ends), [PI / 2, -PI / 2]),
        (pg.asin(ones), [PI / 2, -PI / 2]),
        (pg.acos(ones), [0, PI]),
    ):
        np.testing.assert_allclose(got.numpy().astype(np.float64), expected, rtol=eps)


ATAN2: list[tuple[float, float, float]] = [
    (NAN, 1, NAN),
    (1, NAN, NAN),
    (1, 0.0, PI / 2),
    (1, -0.0, PI / 2),
    (0.0, 1, 0.0),
    (0.0, 0.0, 0.0),
    (0.0, -0.0, PI),
    (0.0, -1, PI),
    (-0.0, 1, -0.0),
    (-0.0, 0.0, -0.0),
    (-0.0, -0.0, -PI),
    (-0.0, -1, -PI),
    (-1, 0.0, -PI / 2),
    (1, INF, 0.0),
    (1, -INF, PI),
    (-1, INF, -0.0),
    (-1, -INF, -PI),
    (INF, 1, PI / 2),
    (-INF, 1, -PI / 2),
    (INF, INF, PI / 4),
    (INF, -INF, 3 * PI / 4),
    (-INF, INF, -PI / 4),
    (-INF, -INF, -3 * PI / 4),
]


@pytest.mark.parametrize("dtype", FLOATING)
def test_atan2_of_special_values(dtype: str, device: str) -> None:
    x1, x2, expected = np.array(ATAN2).T
    got = pg.atan2(tensor(x1, dtype, device), tensor(x2, dtype, device)).numpy().astype(np.float64)
    np.testing.assert_allclose(got, expected, rtol=pg.dtypes.finfo(dtype).eps)
    np.testing.assert_array_equal(np.signbit(got)[expected == 0], np.signbit(expected)[expected == 0])


POWERS: list[tuple[float, float, float]] = [
    (1, NAN, 1),
    (NAN, 0.0, 1),
    (NAN, -0.0, 1),
    (NAN, 2, NAN),
    (2, NAN, NAN),
    (2, INF, INF),
    (-2, -INF, 0.0),
    (1, INF, 1),
    (-1, INF, 1),
    (-1, -INF, 1),
    (0.5, INF, 0.0),
    (0.5, -INF, INF),
    (INF, 2, INF),
    (INF, -1, 0.0),
    (-INF, 3, -INF),
    (-INF, 2, INF),
    (-INF, 0.5, INF),
    (-INF, -1, -0.0),
    (-INF, -2, 0.0),
    (0.0, 2, 0.0),
    (0.0, -1, INF),
    (-0.0, 3, -0.0),
    (-0.0, 2, 0.0),
    (-0.0, 0.5, 0.0),
    (-0.0, -1, -INF),
    (-0.0, -2, INF),
    (-8, 0.5, NAN),
    (-2, 3, -8),
]


@pytest.mark.parametrize("dtype", FLOATING)
def test_powers_of_special_values(dtype: str, device: str) -> None:
    x1, x2, expected = np.array(POWERS).T
    assert_same(pg.pow(tensor(x1, dtype, device), tensor(x2, dtype, device)), expected)
    for base, exponent, power in POWERS:
        assert_same(pg.pow(tensor(base, dtype, device), exponent), power, f"{base} ** {exponent}")
        assert_same(pg.pow(base, tensor(exponent, dtype, device)), power, f"{base} ** {exponent}")


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
def test_powers_of_integers(dtype: str, device: str) -> None:
    info = np.iinfo(dtype)
    bases, exponents = [0, 1, 2, 3, 7], [0, 1, 2, 5, 40]
    x, n = tensor(np.reshape(bases, (-1, 1)), dtype, device), tensor(exponents, dtype, device)
    wrap = 2**info.bits
    expected = np.array([[b**e % wrap for e in exponents] for b in bases], object)
    expected = np.where(expected > info.max, expected - wrap, expected).astype(dtype)
    assert_same(pg.pow(x, n), expected)
    assert_same(pg.pow(x, 5), expected[:, 3:4])
    assert_same(pg.pow(2, n), expected[2])
    assert pg.pow(x, 2).dtype is x.dtype


def test_integers_to_negative_powers(device: str) -> None:
    x = tensor([-2, -1, 0, 1, 2], "int32", device)
    assert_same(pg.pow(x, -1), [0, -1, 0, 1, 0])
    assert_same(pg.pow(x, tensor([-2, -2, -2, -3, 3], "int32", device)), [0, 1, 0, 1, 8])
    assert_same(x**-3, [0, -1, 0, 1, 0])


def test_derivative_of_powers_at_zero(device: str) -> None:
    x = tensor([0.0, 2.0, 0.0, NAN], "float64", device).requires_grad_()
    n = tensor([0.0, 0.0, 3.0, 0.0], "float64", device).requires_grad_()
    pg.sum(pg.pow(x, n)).backward()
    assert_same(x.grad, [0, 0, 0, 0])
    assert_same(n.grad, [0, math.log(2), 0, NAN])
    for exponent, slope in (
        (0, [0, 0]),
        (1, [1, 1]),
        (2, [0, 6]),
        (3, [0, 27]),
        (4, [0, 108]),
        (0.5, [INF, 0.5 / 3**0.5]),
    ):
        y = tensor([0.0, 3.0], "float64", device).requires_grad_()
        pg.sum(y**exponent).backward()
        assert y.grad is not None
        np.testing.assert_allclose(y.grad.numpy(), slope, rtol=1e-15, err_msg=f"{exponent}")


HYPOT: list[tuple[float, float, float]] = [
    (INF, NAN, INF),
    (NAN, -INF, INF),
    (NAN, 1, NAN),
    (3, -4, 5),
    (0.0, -0.0, 0.0),
    (-2, 0.0, 2),
    (INF, 1, INF),
]


@pytest.mark.parametrize("dtype", FLOATING)
def test_hypot_of_special_values(dtype: str, device: str) -> None:
    x1, x2, expected = np.array(HYPOT).T
    a, b = tensor(x1, dtype, device), tensor(x2, dtype, device)
    assert_same(pg.hypot(a, b), expected)
    assert_same(by_body(pg.hypot, a, b), expected)


@pytest.mark.parametrize("dtype", FLOATING)
def test_no_overflow_on_the_way(dtype: str, device: str) -> None:
    half = pg.dtypes.finfo(dtype).max / 2
    for run in (pg.hypot, lambda *xs: by_body(pg.hypot, *xs)):
        got = run(tensor(half, dtype, device), tensor(half, dtype, device)).item()
        assert math.isclose(got, half * 2**0.5, rel_tol=4 * pg.dtypes.finfo(dtype).eps)
    top = math.log(pg.dtypes.finfo(dtype).max) + 0.5
    for op in (pg.sinh, pg.cosh):
        for run in (op, lambda x, op=op: by_body(op, x)):
            assert math.isfinite(run(tensor(top, dtype, device)).item()), op.name
    for op in (pg.asinh, pg.acosh):
        for run in (op, lambda x, op=op: by_body(op, x)):
            got = run(tensor(2 * half, dtype, device)).item()
            assert math.isclose(got, op(tensor(2 * half, "float64", device)).item(), rel_tol=0.01), op.name


def test_derivatives_at_the_origin(device: str) -> None:
    for op in (pg.hypot, pg.atan2):
        x, y = (tensor(0.0, "float64", device).requires_grad_() for _ in range(2))
        op(x, y).backward()
        assert_same(pg.abs(x.grad), 0.0)
        assert_same(pg.abs(y.grad), 0.0)


def test_derivatives_do_not_overflow(device: str) -> None:
    x, y = (tensor(v, "float32", device).requires_grad_() for v in (1e30, 2e30))
    pg.atan2(x, y).backward()
    assert x.grad is not None
    assert math.isclose(x.grad.item(), 4e-31, rel_tol=1e-6)


def test_errors_name_the_op_and_what_it_takes(device: str) -> None:
    with pytest.raises(
        DTypeError, match=r"exp: x is int64; takes float16, bfloat16, float32, float64; cast it"
    ):
        pg.exp(tensor([1], "int64", device))
    with pytest.raises(DTypeError, match=r"atan2: x1 is int32; takes float16"):
        pg.atan2(tensor([1], "int32", device), tensor([1], "int32", device))
    with pytest.raises(DTypeError, match=r"pow: x1 is bool; takes int8"):
        pg.pow(tensor([True], "bool", device), tensor([True], "bool", device))
