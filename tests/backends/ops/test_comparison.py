"""Comparison, logic, bits and selection against NumPy and the special cases of the array API standard."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError
from support.oracles import FLOATING, assert_same, by_body, tensor

INF, NAN = math.inf, math.nan
SIGNED = ["int8", "int16", "int32", "int64"]
INTEGERS = [*SIGNED, "uint8", "uint16", "uint32", "uint64"]
VALUES = [NAN, INF, -INF, 0.0, -0.0, 1.5, -2.0]


@pytest.mark.parametrize("name", ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"])
@pytest.mark.parametrize("dtype", [*FLOATING, "int16", "uint64"])
def test_comparison(name: str, dtype: str, device: str) -> None:
    values: Any = VALUES if dtype in FLOATING else [0, 1, 5, 9]
    op = getattr(pg, name)
    a = tensor(np.reshape(values, (-1, 1)), dtype, device)
    b = tensor(values, dtype, device)
    host = np.asarray(values, np.float64)
    expected = getattr(np, name)(host[:, None], host)
    assert op(a, b).dtype is pg.dtypes.bool
    assert_same(op(a, b), expected)
    assert_same(op(tensor(values[0], dtype, device), b), expected[0])
    assert_same(op(b, values[3]), getattr(np, name)(host, host[3]))
    assert_same(op(values[3], b), getattr(np, name)(host[3], host))
    if op.body is not None:
        assert_same(by_body(op, a, b), expected)


def test_a_python_number_takes_the_dtype_of_the_tensor(device: str) -> None:
    for dtype in FLOATING:
        x = tensor([0.1], dtype, device)
        assert pg.equal(x, 0.1).item()
        assert (x == 0.1).item()


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite"])
@pytest.mark.parametrize("dtype", [*FLOATING, *INTEGERS])
def test_tests_of_one_value(name: str, dtype: str, device: str) -> None:
    values: Any = VALUES if dtype in FLOATING else [0, 1, 99]
    op = getattr(pg, name)
    expected = getattr(np, name)(np.asarray(values, np.float64))
    assert op(tensor(values, dtype, device)).dtype is pg.dtypes.bool
    assert_same(op(tensor(values, dtype, device)), expected)
    assert_same(op(tensor(values[1], dtype, device)), expected[1])
    assert_same(by_body(op, tensor(values, dtype, device)), expected)


@pytest.mark.parametrize("dtype", FLOATING)
def test_signbit(dtype: str, device: str) -> None:
    values = np.array([0.0, -0.0, INF, -INF, 1.0, -1.0, NAN, np.copysign(NAN, -1)])
    assert_same(pg.signbit(tensor(values, dtype, device)), np.signbit(values))


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
def test_bits(name: str, dtype: str, device: str) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2 if dtype == "bool" else 120, (3, 4)).astype(dtype)
    b = rng.integers(0, 2 if dtype == "bool" else 120, (4,)).astype(dtype)
    assert_same(
        getattr(pg, name)(tensor(a, dtype, device), tensor(b, dtype, device)), getattr(np, name)(a, b)
    )
    assert_same(pg.bitwise_invert(tensor(a, dtype, device)), np.invert(a))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_shifts(dtype: str, device: str) -> None:
    bits = np.iinfo(dtype).bits
    values = [0, 1, 77] + ([-1, -77] if dtype in SIGNED else [])
    for places in (0, 1, bits - 1, bits, bits + 3):
        x = tensor(values, dtype, device)
        by = tensor(places, dtype, device)
        wrapped = np.array([(v << places) & (2**bits - 1) for v in values], np.uint64)
        left = [int(w) for w in wrapped]
        if dtype in SIGNED:
            left = [w - 2**bits if w >= 2 ** (bits - 1) else w for w in left]
        assert_same(pg.bitwise_left_shift(x, by), np.array(left, dtype), f"{places}")
        assert_same(
            pg.bitwise_right_shift(x, by), np.array([v >> places for v in values], dtype), f"{places}"
        )
        assert_same(pg.bitwise_left_shift(x, places), np.array(left, dtype))


def test_logic(device: str) -> None:
    a, b = np.array([[True], [False]]), np.array([True, False])
    x, y = tensor(a, "bool", device), tensor(b, "bool", device)
    for name in ("logical_and", "logical_or", "logical_xor"):
        op = getattr(pg, name)
        assert_same(op(x, y), getattr(np, name)(a, b))
        assert_same(by_body(op, x, y), getattr(np, name)(a, b))
        assert_same(op(x, True), getattr(np, name)(a, True))
    assert_same(pg.logical_not(x), ~a)
    assert_same(by_body(pg.logical_not, x), ~a)


@pytest.mark.parametrize("dtype", [*FLOATING, *INTEGERS, "bool"])
@pytest.mark.parametrize("size", [3, 50_000])
def test_where(dtype: str, size: int, device: str) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((2, size)) < 0.5
    a = rng.integers(0, 2, (2, size)).astype(np.float64)
    b = rng.integers(0, 2, (size,)).astype(np.float64)
    if dtype in FLOATING:
        a[0, 0], b[0], a[1, 1], b[1] = NAN, INF, -0.0, NAN
    c, x, y = tensor(mask, "bool", device), tensor(a, dtype, device), tensor(b, dtype, device)
    assert_same(pg.where(c, x, y), np.where(mask, a, b))
    one = True if dtype == "bool" else 1
    assert_same(pg.where(c, x, one), np.where(mask, a, 1))
    assert_same(pg.where(c, one, y), np.where(mask, 1, b))
    assert_same(
        pg.where(tensor(mask[0, 0], "bool", device), x, y), a if mask[0, 0] else np.broadcast_to(b, a.shape)
    )
    assert pg.where(c, x, y).dtype is x.dtype


def test_where_of_python_numbers(device: str) -> None:
    c = tensor([True, False], "bool", device)
    assert pg.where(c, 1.0, 0.0).dtype is pg.dtypes.float32
    assert pg.where(c, 1, 0).dtype is pg.dtypes.int64
    assert pg.where(c, 1.5, 0).dtype is pg.dtypes.float32
    assert_same(pg.where(c, 1.5, 0), [1.5, 0.0])
    x = tensor([1, 2], "int32", device)
    assert pg.where(c, x, 0.5).dtype is pg.dtypes.float32
    assert pg.where(c, tensor([1.0, 2.0], "bfloat16", device), 0.0).dtype is pg.dtypes.bfloat16


def test_a_gradient_passes_where_alone_it_was_taken(device: str) -> None:
    """NaN and infinities of the side that was not taken stay out."""
    c = tensor([True, False], "bool", device)
    x = tensor([1.0, 2.0], "float32", device).requires_grad_()
    y = tensor([1.0, 2.0], "float32", device).requires_grad_()
    pg.where(c, x, y).backward(tensor([INF, NAN], "float32", device))
    assert_same(x.grad, [INF, 0.0])
    assert_same(y.grad, [0.0, NAN])


def test_errors_name_the_op_and_what_it_takes(device: str) -> None:
    f, i = tensor([1.0], "float32", device), tensor([1], "int32", device)
    with pytest.raises(DTypeError, match=r"logical_and: x1 is int32; takes bool; cast it with astype"):
        pg.logical_and(i, i)
    with pytest.raises(DTypeError, match=r"bitwise_and: x1 is float32; takes bool, int8"):
        pg.bitwise_and(f, f)
    with pytest.raises(DTypeError, match=r"where: condition is int32; takes bool"):
        pg.where(i, f, f)
    with pytest.raises(DTypeError, match=r"signbit: x is int32; takes float16"):
        pg.signbit(i)
    with pytest.raises(ArgumentError, match=r"less: 128 is outside the range of int8, -128 to 127"):
        pg.less(tensor([1], "int8", device), 128)
    with pytest.raises(DTypeError, match=r"less: x1 is bool; takes int8"):
        pg.less(tensor([True], "bool", device), tensor([True], "bool", device))
