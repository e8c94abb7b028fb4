"""Tests over axes and differences against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError, ShapeError

ALL = ["bool", "int8", "int64", "uint16", "float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("axis", [None, 0, (0, 2), -1, ()])
@pytest.mark.parametrize("dtype", ALL)
def test_all_and_any(dtype: str, axis: Any, device: str) -> None:
    h = np.random.default_rng(1).integers(0, 2, (3, 2, 2))
    h[0], h[1] = 0, 1
    x = pg.asarray(h, dtype=dtype, device=device)
    for op, oracle in ((pg.all, np.all), (pg.any, np.any)):
        for keepdims in (False, True):
            got = op(x, axis=axis, keepdims=keepdims)
            assert got.dtype.name == "bool"
            np.testing.assert_array_equal(got.numpy(), oracle(h, axis=axis, keepdims=keepdims))


def test_special_cases_of_all_and_any(device: str) -> None:
    nothing = pg.zeros((0, 2), device=device)
    assert pg.all(nothing).item() is True
    assert pg.any(nothing).item() is False
    nan = pg.asarray([np.nan, -0.0], device=device)
    assert pg.any(nan).item() is True
    assert pg.all(nan).item() is False
    assert pg.all(nan, axis=()).tolist() == [True, False]


@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_diff(axis: int, n: int, device: str) -> None:
    h = np.random.default_rng(2).standard_normal((4, 3))
    x = pg.asarray(h, device=device)
    np.testing.assert_allclose(pg.diff(x, axis=axis, n=n).numpy(), np.diff(h, n, axis=axis))
    ends = np.ones((1, 3)) if axis == 0 else np.ones((4, 1))
    got = pg.diff(x, axis=axis, n=n, prepend=pg.asarray(ends, device=device))
    np.testing.assert_allclose(got.numpy(), np.diff(h, n, axis=axis, prepend=ends))
    got = pg.diff(x, axis=axis, n=n, append=pg.asarray(ends, device=device))
    np.testing.assert_allclose(got.numpy(), np.diff(h, n, axis=axis, append=ends))


def test_diff_of_integers_wraps_around_and_promotes(device: str) -> None:
    x = pg.asarray(np.array([1, 0], np.uint8), device=device)
    assert pg.diff(x).tolist() == [255]
    both = pg.diff(x, append=pg.asarray(np.array([3], np.int16), device=device))
    assert both.dtype.name == "int16"
    assert both.tolist() == [-1, 3]


def test_errors(device: str) -> None:
    x = pg.zeros((2, 3), device=device)
    with pytest.raises(ShapeError, match="all: axis 2 is out of range for 2 axes"):
        pg.all(x, axis=2)
    with pytest.raises(ShapeError, match="diff: axis 0 is out of range for 0 axes"):
        pg.diff(x.sum(), axis=0)
    with pytest.raises(ArgumentError, match="diff: n takes an integer of at least 0, got -1"):
        pg.diff(x, n=-1)
    with pytest.raises(ArgumentError, match=r"diff: n takes an integer, got 1\.5"):
        pg.diff(x, n=1.5)  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="diff: x is bool; takes"):
        pg.diff(pg.asarray([True, False], device=device))
