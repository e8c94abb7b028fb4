"""Rounding and the division that rounds, against Python's and the special cases of the array API standard."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import DTypeError
from support.oracles import FLOATING, assert_same, by_body, tensor

INF, NAN = math.inf, math.nan
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]

VALUES = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -1.5, -2.5, 0.25, -0.25, 2.75, -2.75, 100.0, -100.0, INF, -INF, NAN]


@pytest.mark.parametrize(
    ("name", "rounded"), [("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc), ("round", np.rint)]
)
@pytest.mark.parametrize("dtype", FLOATING)
def test_rounding(name: str, rounded: Any, dtype: str, device: str) -> None:
    op = getattr(pg, name)
    info = pg.dtypes.finfo(dtype)
    # Where the spacing is a half, and where it is 1: there every value is an integer.
    big = 0.5 / info.eps
    values = [*VALUES, big + 0.5, big + 1.5, -big - 0.5, 2 * big + 1, 2 * big + 3, info.max]
    x = tensor(values, dtype, device)
    host = x.numpy().astype(np.float64)
    assert_same(op(x), rounded(host))
    if op.body is not None:
        assert_same(by_body(op, x), rounded(host), "body")
    for v in VALUES:
        assert_same(op(tensor(v, dtype, device)), rounded(v))


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_stay(name: str, dtype: str, device: str) -> None:
    op, info = getattr(pg, name), np.iinfo(dtype)
    x = tensor([info.min, info.max, 7], dtype, device)
    assert op(x).dtype is x.dtype
    assert_same(op(x), x.numpy())
    if op.body is not None:
        assert_same(by_body(op, x), x.numpy())


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round"])
def test_the_derivative_is_zero(name: str, device: str) -> None:
    x = tensor([0.5, 1.0, INF, NAN], "float32", device).requires_grad_()
    getattr(pg, name)(x).backward(tensor([1.0, INF, NAN, 1.0], "float32", device))
    assert_same(x.grad, [0, 0, 0, 0])


QUOTIENTS: list[tuple[float, float, float, float]] = [
    # x1, x2, floor_divide, remainder
    (7.5, 2, 3, 1.5),
    (-7.5, 2, -4, 0.5),
    (7.5, -2, -4, -0.5),
    (-7.5, -2, 3, -1.5),
    (6, 2, 3, 0.0),
    (-6, 2, -3, 0.0),
    (6, -2, -3, -0.0),
    (0.0, 3, 0.0, 0.0),
    (-0.0, 3, -0.0, 0.0),
    (0.0, -3, -0.0, -0.0),
    (-0.0, -3, 0.0, -0.0),
    (0.0, 0.0, NAN, NAN),
    (-0.0, 0.0, NAN, NAN),
    (2, 0.0, INF, NAN),
    (2, -0.0, -INF, NAN),
    (-2, 0.0, -INF, NAN),
    (-2, -0.0, INF, NAN),
    (2, INF, 0.0, 2),
    (2, -INF, -1, -INF),
    (-2, INF, -1, INF),
    (-2, -INF, 0.0, -2),
    (INF, INF, NAN, NAN),
    (INF, 2, NAN, NAN),
    (-INF, 2, NAN, NAN),
    (NAN, 1, NAN, NAN),
    (1, NAN, NAN, NAN),
]


@pytest.mark.parametrize("dtype", FLOATING)
def test_division_of_floats(dtype: str, device: str) -> None:
    x1, x2, quotient, rest = np.array(QUOTIENTS).T
    a, b = tensor(x1, dtype, device), tensor(x2, dtype, device)
    assert_same(pg.floor_divide(a, b), quotient)
    assert_same(pg.remainder(a, b), rest)
    for p, q, d, r in QUOTIENTS:
        assert_same(pg.floor_divide(tensor(p, dtype, device), q), d, f"{p} // {q}")
        assert_same(pg.remainder(p, tensor(q, dtype, device)), r, f"{p} % {q}")


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("size", [50, 80_000])
def test_division_of_floats_is_that_of_python(dtype: str, size: int, device: str) -> None:
    rng = np.random.default_rng(0)
    a = tensor(rng.uniform(-90, 90, size), dtype, device)
    b = tensor(rng.uniform(0.5, 9, size) * rng.choice([-1, 1], size), dtype, device)
    p, q = a.numpy().astype(np.float64), b.numpy().astype(np.float64)
    assert_same(pg.floor_divide(a, b), np.floor_divide(p, q))
    # The remainder of two values is exact; where the signs differ it is rounded once.
    unit = pg.dtypes.finfo(dtype).eps * np.abs(q)
    assert (np.abs(pg.remainder(a, b).numpy().astype(np.float64) - np.remainder(p, q)) <= unit).all()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_division_of_integers(dtype: str, device: str) -> None:
    info = np.iinfo(dtype)
    a = [7, 8, 0, info.max, info.min, 5]
    b = [2, 3, 4, 2, 3, 0]
    if info.min:
        a += [-7, 7, -7, info.min, -5]
        b += [2, -2, -2, -1, 0]
    x, y = tensor(a, dtype, device), tensor(b, dtype, device)
    wrap = 2**info.bits
    quotients = [p // q if q else 0 for p, q in zip(a, b, strict=True)]
    quotients = [v - wrap if v > info.max else v for v in quotients]
    rests = [p % q if q else 0 for p, q in zip(a, b, strict=True)]
    assert_same(pg.floor_divide(x, y), quotients)
    assert_same(pg.remainder(x, y), rests)
    assert pg.remainder(x, 3).dtype is x.dtype
    assert_same(pg.remainder(x, 3), [p % 3 for p in a])


@pytest.mark.parametrize("dtype", FLOATING)
def test_nextafter(dtype: str, device: str) -> None:
    eps = pg.dtypes.finfo(dtype).eps
    x = tensor([1, 1, 1, 0.0, -0.0, NAN, 1, INF], dtype, device)
    towards = tensor([2, 0, 1, 0.0, 0.0, 1, NAN, INF], dtype, device)
    assert_same(pg.nextafter(x, towards), [1 + eps, 1 - eps / 2, 1, 0.0, 0.0, NAN, NAN, INF])
    up = pg.nextafter(tensor(0.0, dtype, device), 1.0).numpy()
    assert 0 < up <= pg.dtypes.finfo(dtype).smallest_normal


def test_errors_name_the_op_and_what_it_takes(device: str) -> None:
    with pytest.raises(DTypeError, match=r"floor: x is bool; takes int8"):
        pg.floor(tensor([True], "bool", device))
    with pytest.raises(DTypeError, match=r"nextafter: x1 is int32; takes float16"):
        pg.nextafter(tensor([1], "int32", device), tensor([1], "int32", device))
