"""Arithmetic against NumPy and the special cases of the array API standard."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from support.oracles import FLOATING, assert_same, by_body, tensor

INF, NAN = math.inf, math.nan
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "maximum", "minimum"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap_around(name: str, dtype: str, device: str) -> None:
    info = np.iinfo(dtype)
    a = np.array([info.max, info.min, info.max, 3], dtype)
    b = np.array([1, 1, info.max, 2], dtype)
    got = getattr(pg, name)(tensor(a, dtype, device), tensor(b, dtype, device))
    with np.errstate(all="ignore"):
        assert_same(got, getattr(np, name)(a, b))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_signs_of_integers(dtype: str, device: str) -> None:
    a = np.array([np.iinfo(dtype).min, 0, 5], dtype)
    x = tensor(a, dtype, device)
    assert_same(pg.negative(x), np.negative(a))
    assert_same(pg.abs(x), np.abs(a))
    assert_same(pg.sign(x), np.sign(a))
    assert_same(pg.square(x), np.square(a))
    assert_same(pg.positive(x), a)


CASES: list[tuple[str, list[float], list[float], list[float]]] = [
    (
        "add",
        [INF, -INF, INF, -0.0, -0.0, NAN],
        [-INF, -INF, 1, -0.0, 0.0, 1],
        [NAN, -INF, INF, -0.0, 0.0, NAN],
    ),
    ("subtract", [INF, -0.0, 0.0, -INF], [INF, 0.0, 0.0, INF], [NAN, -0.0, 0.0, -INF]),
    ("multiply", [INF, INF, -0.0, 0.0, NAN], [0.0, -2, 3, -3, 0], [NAN, -INF, -0.0, -0.0, NAN]),
    ("divide", [1, -1, 0.0, INF, 1, 1], [0.0, 0.0, 0.0, INF, -INF, -0.0], [INF, -INF, NAN, NAN, -0.0, -INF]),
    ("maximum", [NAN, 1, INF, -INF], [1, NAN, 2, -5], [NAN, NAN, INF, -5]),
    ("minimum", [NAN, 1, INF, -INF], [1, NAN, 2, -5], [NAN, NAN, 2, -INF]),
    ("copysign", [1, -1, 0.0, INF, -2], [-0.0, 0.0, -3, -1, -INF], [-1, 1, -0.0, -INF, -2]),
]


@pytest.mark.parametrize(("name", "x1", "x2", "expected"), CASES, ids=[c[0] for c in CASES])
@pytest.mark.parametrize("dtype", FLOATING)
def test_special_cases(name: str, x1: Any, x2: Any, expected: Any, dtype: str, device: str) -> None:
    op = getattr(pg, name)
    a, b = tensor(x1, dtype, device), tensor(x2, dtype, device)
    assert_same(op(a, b), expected, name)
    for i in range(len(x1)):
        assert_same(op(tensor(x1[i], dtype, device), b).numpy()[i], expected[i], f"{name}: 0-d operand {i}")
        assert_same(op(float(x1[i]), b).numpy()[i], expected[i], f"{name}: a Python number {i}")
    if op.body is not None:
        assert_same(by_body(op, a, b), expected, f"body of {name}")


UNARY: list[tuple[str, list[float], list[float]]] = [
    ("abs", [-0.0, -INF, NAN, -2], [0.0, INF, NAN, 2]),
    ("negative", [0.0, -0.0, INF, NAN], [-0.0, 0.0, -INF, NAN]),
    ("positive", [0.0, -0.0, INF, NAN], [0.0, -0.0, INF, NAN]),
    ("sign", [0.0, -5, INF, -INF, NAN], [0.0, -1, 1, -1, NAN]),
    ("reciprocal", [0.0, -0.0, INF, -INF, NAN, 4], [INF, -INF, 0.0, -0.0, NAN, 0.25]),
    ("square", [-0.0, -INF, NAN, -3], [0.0, INF, NAN, 9]),
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
def test_overflow_is_silent(dtype: str, device: str) -> None:
    big = float(np.float64(pg.dtypes.finfo(dtype).max))
    x = tensor([big, -big], dtype, device)
    assert_same(x + x, [INF, -INF])
    assert_same(x * x, [INF, INF])
    assert_same(pg.square(x), [INF, INF])
    assert_same(x / 0.0, [INF, -INF])
    assert_same(x - x * 2.0, [-INF, INF])


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("size", [5, 100_000])
def test_arrays_of_any_strides(dtype: str, size: int, device: str) -> None:
    """What is cut into blocks and what is not give the same, for reversed, stretched and transposed operands."""
    rng = np.random.default_rng(0)
    host = rng.uniform(0.5, 2, (2, size)).astype(pg.dtypes.as_dtype(dtype).numpy)
    x = tensor(host, dtype, device)
    wide = host.astype(np.float64)
    for t, h in (
        (x, wide),
        (pg.flip(x, axis=1), wide[:, ::-1]),
        (pg.permute_dims(x, (1, 0)), wide.T),
        (pg.broadcast_to(tensor(host[:1], dtype, device), (3, size)), np.broadcast_to(wide[:1], (3, size))),
    ):
        y = t.detach().requires_grad_()
        out = pg.exp(y) * y + pg.tanh(y) / pg.square(y) - pg.sqrt(y)
        expected = np.exp(h) * h + np.tanh(h) / h**2 - np.sqrt(h)
        slope = np.exp(h) * (h + 1) + (1 - np.tanh(h) ** 2) / h**2 - 2 * np.tanh(h) / h**3 - 0.5 / np.sqrt(h)
        # The cotangent of a sum is one number stretched over the whole shape.
        pg.sum(out).backward()
        tolerance = {"float16": 2e-2, "bfloat16": 2e-1, "float32": 1e-5, "float64": 1e-13}[dtype]
        np.testing.assert_allclose(out.numpy().astype(np.float64), expected, rtol=tolerance, atol=tolerance)
        assert y.grad is not None
        np.testing.assert_allclose(y.grad.numpy().astype(np.float64), slope, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_share_the_derivative(name: str, device: str) -> None:
    a = tensor([1.0, 2.0, 3.0], "float64", device).requires_grad_()
    b = tensor([1.0, 3.0, 2.0], "float64", device).requires_grad_()
    getattr(pg, name)(a, b).backward(tensor([1.0, 1.0, 1.0], "float64", device))
    won = [0.5, 0.0, 1.0] if name == "maximum" else [0.5, 1.0, 0.0]
    assert_same(a.grad, won)
    assert_same(b.grad, [1 - w for w in won])


def test_derivatives_at_kinks(device: str) -> None:
    x = tensor([0.0, -0.0, -2.0], "float32", device).requires_grad_()
    pg.sum(pg.abs(x)).backward()
    assert_same(pg.abs(x.grad), [0.0, 0.0, 1.0])
    y = tensor([0.0, 3.0], "float32", device).requires_grad_()
    pg.sum(pg.sign(y)).backward()
    assert_same(y.grad, [0.0, 0.0])


@pytest.mark.parametrize("dtype", [*FLOATING, "int8", "int64", "uint16"])
def test_clip(dtype: str, device: str) -> None:
    x = tensor([1, 2, 3, 4, 5], dtype, device)
    assert_same(pg.clip(x, 2, 4), [2, 2, 3, 4, 4])
    assert_same(pg.clip(x, 2), [2, 2, 3, 4, 5])
    assert_same(pg.clip(x, max=3), [1, 2, 3, 3, 3])
    assert_same(pg.clip(x), [1, 2, 3, 4, 5])
    assert_same(pg.clip(x, 4, 2), [2, 2, 2, 2, 2])
    bounds = tensor([[1], [3]], dtype, device)
    assert_same(pg.clip(x, bounds, 4), [[1, 2, 3, 4, 4], [3, 3, 3, 4, 4]])
    assert pg.clip(x, 2, 4).dtype is x.dtype


@pytest.mark.parametrize("dtype", FLOATING)
def test_clip_of_special_values(dtype: str, device: str) -> None:
    x = tensor([NAN, INF, -INF, 0.5], dtype, device)
    assert_same(pg.clip(x, -1, 1), [NAN, 1, -1, 0.5])
    assert_same(pg.clip(x, tensor([0, 0, NAN, 0], dtype, device), INF), [NAN, INF, NAN, 0.5])


def test_derivative_of_clip(device: str) -> None:
    x = tensor([-2.0, -1.0, 0.0, 1.0, 2.0], "float64", device).requires_grad_()
    low = tensor(-1.0, "float64", device).requires_grad_()
    high = tensor(1.0, "float64", device).requires_grad_()
    pg.sum(pg.clip(x, low, high)).backward()
    assert_same(x.grad, [0, 1, 1, 1, 0])
    assert_same(low.grad, 1)
    assert_same(high.grad, 1)


def test_derivative_of_clip_whose_bounds_cross(device: str) -> None:
    x = tensor([-2.0, 0.0, 2.0], "float64", device).requires_grad_()
    low = tensor(1.0, "float64", device).requires_grad_()
    high = tensor(-1.0, "float64", device).requires_grad_()
    pg.sum(pg.clip(x, low, high)).backward()
    assert_same(x.grad, [0, 0, 0])
    assert_same(low.grad, 0)
    assert_same(high.grad, 3)


def test_positive_is_a_tensor_of_its_own(device: str) -> None:
    x = tensor([1.0], "float32", device)
    y = pg.positive(x)
    x += 1.0
    assert_same(y, [1.0])


def test_errors_name_the_op_and_what_it_takes(device: str) -> None:
    i, f = tensor([1, 2], "int32", device), tensor([1.0, 2.0, 3.0], "float32", device)
    with pytest.raises(DTypeError, match=r"divide: x1 is int32; takes float16.*astype"):
        pg.divide(i, i)
    with pytest.raises(ShapeError, match=r"add: shapes \(2,\) and \(3,\) do not broadcast"):
        pg.add(i, f)
    with pytest.raises(DTypeError, match=r"add: x1 is bool; takes"):
        pg.add(tensor([True], "bool", device), tensor([True], "bool", device))
    with pytest.raises(DTypeError, match=r"multiply: x2 takes a tensor or a Python number, got list"):
        pg.multiply(f, [1.0])
    with pytest.raises(ArgumentError, match=r"add: 300 is outside the range of uint8, 0 to 255"):
        pg.add(tensor([1], "uint8", device), 300)
    with pytest.raises(DTypeError, match=r"add: at least one operand must be a tensor"):
        pg.add(1, 2)
    with pytest.raises(ShapeError, match=r"clip: shapes .* do not broadcast"):
        pg.clip(f, tensor([1.0, 2.0], "float32", device))
    with pytest.raises(DTypeError, match=r"uint64 and int64 do not promote"):
        pg.add(tensor([1], "uint64", device), tensor([1], "int64", device))
