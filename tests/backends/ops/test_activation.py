"""Activation functions against SciPy and their definitions in float64, and their special values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError
from support.oracles import FLOATING, assert_same, by_body, tensor, ulps

INF, NAN = math.inf, math.nan
Function = Callable[[np.ndarray], np.ndarray]


def density(x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    # (1 + tanh(u)) / 2, where it does not cancel.
    return x * special.expit(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def gelu_tanh_slope(x: np.ndarray) -> np.ndarray:
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)


# The op, its attributes, the function, its derivative.
ORACLES: list[tuple[str, dict[str, Any], Function, Function]] = [
    ("relu", {}, lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    ("leaky_relu", {}, lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    (
        "leaky_relu",
        {"negative_slope": 3},
        lambda x: np.where(x > 0, x, 3 * x),
        lambda x: np.where(x > 0, 1, 3),
    ),
    ("elu", {}, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x: np.exp(np.minimum(x, 0))),
    (
        "elu",
        {"alpha": 0.5},
        lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1, 0.5 * np.exp(np.minimum(x, 0))),
    ),
    ("sigmoid", {}, special.expit, lambda x: special.expit(x) * special.expit(-x)),
    (
        "silu",
        {},
        lambda x: x * special.expit(x),
        lambda x: special.expit(x) * (1 + x * special.expit(-x)),
    ),
    (
        "softplus",
        {},
        lambda x: np.where(x > 20, x, np.logaddexp(0, x)),
        lambda x: np.where(x > 20, 1, special.expit(x)),
    ),
    (
        "softplus",
        {"beta": 2, "threshold": 4},
        lambda x: np.where(2 * x > 4, x, np.logaddexp(0, 2 * x) / 2),
        lambda x: np.where(2 * x > 4, 1, special.expit(2 * x)),
    ),
    ("erf", {}, special.erf, lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x)),
    ("gelu", {}, lambda x: x * special.ndtr(x), lambda x: special.ndtr(x) + x * density(x)),
    ("gelu", {"approximate": "tanh"}, gelu_tanh, gelu_tanh_slope),
]
IDS = [f"{name}-{attributes}" for name, attributes, _, _ in ORACLES]
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-6, "float64": 1e-14}


@pytest.mark.parametrize(("name", "attributes", "function", "slope"), ORACLES, ids=IDS)
@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("shape", [(), (401,), (2, 40_001)])
def test_values_and_slopes(
    name: str, attributes: Any, function: Function, slope: Function, dtype: str, shape: Any, device: str
) -> None:
    op, tolerance = getattr(pg, name), TOLERANCE[dtype]
    values = np.linspace(-25, 25, math.prod(shape)).reshape(shape) if shape else np.array(-1.25)
    x = tensor(values, dtype, device).requires_grad_()
    host = x.detach().numpy().astype(np.float64)
    out = op(x, **attributes)
    assert out.dtype is x.dtype
    ct = tensor(np.cos(host), dtype, device)
    out.backward(ct)
    assert x.grad is not None
    expected = slope(host) * ct.numpy().astype(np.float64)
    np.testing.assert_allclose(out.numpy().astype(np.float64), function(host), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(x.grad.numpy().astype(np.float64), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "units"), [("float32", 4), ("float64", 4)])
def test_precision_of_erf(dtype: str, units: float, device: str) -> None:
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(math.log(1e-6), math.log(7), 5000)) * rng.choice([-1, 1], 5000)
    host = x.astype(dtype)
    assert ulps(pg.erf(tensor(host, dtype, device)).numpy(), special.erf(host.astype(np.float64))) <= units


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_of_far_negative_values_keeps_its_digits(dtype: str, device: str) -> None:
    x = np.linspace(-85, 0, 500).astype(dtype)
    for run in (pg.sigmoid, lambda t: by_body(pg.sigmoid, t)):
        got = run(tensor(x, dtype, device)).numpy()
        np.testing.assert_allclose(
            got, special.expit(x.astype(np.float64)), rtol=1e-5 if dtype == "float32" else 1e-13
        )


# The op, its attributes, the function, and how many units in the last place its body may be off in 16 bits.
IN_16_BITS: list[tuple[str, dict[str, Any], Function, float]] = [
    ("elu", {"alpha": 0.3}, lambda x: np.where(x > 0, x, 0.3 * np.expm1(np.minimum(x, 0))), 2),
    ("sigmoid", {}, special.expit, 2),
    ("silu", {}, lambda x: x * special.expit(x), 0.51),
    ("softplus", {"beta": 1.0, "threshold": 20.0}, lambda x: np.logaddexp(0, x), 0.51),
    ("softplus", {"beta": 2.5, "threshold": 60.0}, lambda x: np.logaddexp(0, 2.5 * x) / 2.5, 0.51),
    ("gelu", {"approximate": "tanh"}, gelu_tanh, 0.51),
]


@pytest.mark.parametrize(("name", "attributes", "function", "units"), IN_16_BITS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_precision_of_bodies_in_16_bits(
    name: str, attributes: Any, function: Function, units: float, dtype: str, device: str
) -> None:
    x = tensor(np.linspace(-20, 20, 4001), dtype, device)
    got, expected = (
        by_body(getattr(pg, name), x, **attributes).numpy(),
        function(x.numpy().astype(np.float64)),
    )
    # Below that float32 has fewer digits itself.
    whole = np.abs(expected) > 1e-36
    assert ulps(got[whole], expected[whole]) <= units


@pytest.mark.parametrize("dtype", FLOATING)
def test_gelu_by_body(dtype: str, device: str) -> None:
    """In units in the last place of the operand: what the docstring grants."""
    x = tensor(np.linspace(-20, 20, 4001), dtype, device)
    host = x.numpy().astype(np.float64)
    unit = np.spacing(np.abs(x.numpy())).astype(np.float64)
    for approximate, function in (("none", lambda x: x * special.ndtr(x)), ("tanh", gelu_tanh)):
        got = by_body(pg.gelu, x, approximate=approximate).numpy().astype(np.float64)
        assert (np.abs(got - function(host)) <= 4 * unit).all(), approximate


def test_gelu_by_tanh_keeps_its_digits_in_the_tail(device: str) -> None:
    x = np.linspace(-8, 0, 500)
    got = by_body(pg.gelu, tensor(x, "float64", device), approximate="tanh").numpy()
    np.testing.assert_allclose(got, gelu_tanh(x), rtol=1e-13)


@pytest.mark.parametrize("dtype", FLOATING)
def test_slope_of_gelu_by_tanh_far_out(dtype: str, device: str) -> None:
    """By the rule's body: the cube of what is large is infinite, and the slope is 0 or 1."""
    far = float(pg.dtypes.finfo(dtype).max)
    x = tensor([-far, -1e4, 1e4, far], dtype, device)
    assert_same(
        by_body(pg.gelu.vjp_for("x"), pg.ones_like(x), x, approximate="tanh").astype(dtype), [0, 0, 1, 1]
    )


SPECIAL: list[tuple[str, dict[str, Any], list[float], list[float]]] = [
    ("relu", {}, [NAN, INF, -INF, 0.0], [NAN, INF, 0.0, 0.0]),
    ("leaky_relu", {}, [NAN, INF, -INF], [NAN, INF, -INF]),
    ("leaky_relu", {"negative_slope": 0.0}, [NAN, INF, 2], [NAN, INF, 2]),
    ("elu", {}, [NAN, INF, -INF], [NAN, INF, -1]),
    ("sigmoid", {}, [NAN, INF, -INF, 0.0], [NAN, 1, 0.0, 0.5]),
    ("silu", {}, [NAN, INF, -INF], [NAN, INF, NAN]),
    ("softplus", {}, [NAN, INF, -INF, 1000], [NAN, INF, 0.0, 1000]),
    ("erf", {}, [NAN, INF, -INF, 0.0, -0.0], [NAN, 1, -1, 0.0, -0.0]),
    ("gelu", {}, [NAN, INF, -INF], [NAN, INF, NAN]),
    ("gelu", {"approximate": "tanh"}, [NAN, INF, -INF], [NAN, INF, NAN]),
]


@pytest.mark.parametrize(("name", "attributes", "x", "expected"), SPECIAL)
@pytest.mark.parametrize("dtype", FLOATING)
def test_special_values(name: str, attributes: Any, x: Any, expected: Any, dtype: str, device: str) -> None:
    op = getattr(pg, name)
    assert_same(op(tensor(x, dtype, device), **attributes), expected)
    for v, e in zip(x, expected, strict=True):
        assert_same(op(tensor(v, dtype, device), **attributes), e)


@pytest.mark.parametrize(
    ("name", "attributes", "slope"),
    [("relu", {}, 0.0), ("leaky_relu", {"negative_slope": 0.25}, 0.25), ("elu", {"alpha": 2.0}, 2.0)],
)
def test_derivative_at_zero(name: str, attributes: Any, slope: float, device: str) -> None:
    for zero in (0.0, -0.0):
        x = tensor([zero], "float64", device).requires_grad_()
        pg.sum(getattr(pg, name)(x, **attributes)).backward()
        assert_same(x.grad, [slope])


def test_a_gradient_of_relu_passes_only_where_it_is_positive(device: str) -> None:
    x = tensor([-1.0, 2.0, NAN], "float32", device).requires_grad_()
    pg.relu(x).backward(tensor([NAN, INF, 1.0], "float32", device))
    assert_same(x.grad, [0.0, INF, 0.0])


def test_relu_of_integers(device: str) -> None:
    x = tensor([-3, 0, 5], "int32", device)
    assert pg.relu(x).dtype is pg.dtypes.int32
    assert_same(pg.relu(x), [0, 0, 5])


def test_errors_name_the_op_and_what_it_takes(device: str) -> None:
    x = tensor([1.0], "float32", device)
    with pytest.raises(ArgumentError, match=r"gelu: approximate takes 'none' or 'tanh', got 'fast'"):
        pg.gelu(x, approximate="fast")
    with pytest.raises(ArgumentError, match=r"leaky_relu: negative_slope takes a number, got 'steep'"):
        pg.leaky_relu(x, "steep")
    with pytest.raises(ArgumentError, match=r"softplus: beta takes a positive number, got 0"):
        pg.softplus(x, beta=0)
    with pytest.raises(ArgumentError, match=r"softplus: threshold takes a number, got None"):
        pg.softplus(x, threshold=None)
    with pytest.raises(DTypeError, match=r"sigmoid: x is int32; takes float16.*cast it with astype"):
        pg.sigmoid(tensor([1], "int32", device))
