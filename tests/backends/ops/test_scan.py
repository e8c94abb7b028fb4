"""Scans against NumPy in float64, and their derivatives where elements are 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import DTypeError, ShapeError

TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 1e-6, "float64": 1e-14}


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_floats(dtype: str, axis: int, initial: bool, device: str) -> None:
    rng = np.random.default_rng(5)
    x = pg.asarray(rng.uniform(-1.5, 1.5, (3, 4, 5)), dtype=dtype, device=device)
    h = x.numpy().astype(np.float64)
    for op, oracle, first in (
        (pg.cumulative_sum, np.cumsum, 0.0),
        (pg.cumulative_prod, np.cumprod, 1.0),
    ):
        got = op(x, axis=axis, include_initial=initial)
        expected = oracle(h, axis=axis)
        if initial:
            expected = np.insert(expected, 0, first, axis=axis)
        assert got.dtype.name == dtype
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(
            got.numpy().astype(np.float64), expected, rtol=tolerance, atol=tolerance, err_msg=op.name
        )


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "int64", "uint8", "uint32", "uint64"])
def test_integers_widen(dtype: str, device: str) -> None:
    x = pg.asarray(np.array([[1, 0, 1], [1, 1, 1]], dtype) * np.array(100).astype(dtype), device=device)
    wide = "uint64" if dtype.startswith("u") else "int64"
    for op, oracle in ((pg.cumulative_sum, np.cumsum), (pg.cumulative_prod, np.cumprod)):
        got = op(x, axis=1)
        assert got.dtype.name == wide
        np.testing.assert_array_equal(got.numpy(), oracle(x.numpy(), axis=1, dtype=wide))
    assert pg.cumulative_sum(x, axis=1, dtype="float32").dtype.name == "float32"


def test_nan_and_infinity_go_on(device: str) -> None:
    x = pg.asarray([1.0, np.inf, 2.0, -np.inf, np.nan, 1.0], device=device)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(pg.cumulative_sum(x).numpy(), np.cumsum(x.numpy()))
        np.testing.assert_array_equal(pg.cumulative_prod(x).numpy(), np.cumprod(x.numpy()))


def test_long_sums_keep_float32_exact(device: str) -> None:
    n = 200_000
    x = np.random.default_rng(0).random(n).astype(np.float32)
    got = pg.cumulative_sum(pg.asarray(x, device=device)).numpy()
    np.testing.assert_allclose(got, np.cumsum(x.astype(np.float64)), rtol=2e-6)


def test_strided_operands(device: str) -> None:
    x = pg.asarray(np.arange(1.0, 13.0).reshape(3, 4), device=device)
    turned = pg.flip(pg.permute_dims(x, (1, 0)), axis=0)
    h = x.numpy().T[::-1]
    np.testing.assert_array_equal(pg.cumulative_sum(turned, axis=0).numpy(), np.cumsum(h, axis=0))
    spread = pg.broadcast_to(pg.asarray([1.0, 2.0], device=device), (3, 2))
    np.testing.assert_array_equal(pg.cumulative_sum(spread, axis=0).numpy(), [[1, 2], [2, 4], [3, 6]])
    np.testing.assert_array_equal(pg.cumulative_prod(spread, axis=1).numpy(), [[1, 2]] * 3)


def recurrence(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """h[i] = a[i] h[i - 1] + b[i] along the first axis."""
    h = np.zeros_like(b)
    for i in range(len(b)):
        h[i] = b[i] if i == 0 else a[i] * h[i - 1] + b[i]
    return h


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(7,), (6, 3), (5, 50), (1, 4), (0, 2)])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_recurrence(dtype: str, shape: tuple[int, ...], reverse: bool, device: str) -> None:
    rng = np.random.default_rng(6)
    a, b = (pg.asarray(rng.uniform(-1, 1, shape), dtype=dtype, device=device) for _ in range(2))
    step = -1 if reverse else 1
    expected = recurrence(*(t.numpy().astype(np.float64)[::step] for t in (a, b)))[::step]
    for axis, (x, y) in ((0, (a, b)), (-1, (pg.permute_dims(t, (*range(1, t.ndim), 0)) for t in (a, b)))):
        got = pg.linear_recurrence(x, y, axis=axis, reverse=reverse).numpy().astype(np.float64)
        np.testing.assert_allclose(
            np.moveaxis(got, axis, 0), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
        )


def test_the_first_factor_of_a_recurrence_is_not_used(device: str) -> None:
    b = pg.asarray([1.0, 2.0, 3.0], device=device)
    for factor in (np.nan, np.inf):
        a = pg.asarray([factor, 2.0, 2.0], device=device)
        np.testing.assert_array_equal(pg.linear_recurrence(a, b).numpy(), [1, 4, 11])


@pytest.mark.parametrize("zeros", [[], [0], [2], [1, 3], [0, 1, 4]])
def test_gradient_of_cumulative_prod_with_zeros(zeros: list[int], device: str) -> None:
    h = np.array([1.5, -2.0, 0.5, 3.0, -1.0])
    h[zeros] = 0
    weights = np.array([1.0, -2.0, 3.0, 0.5, 4.0])
    x = pg.asarray(h, device=device).requires_grad_()
    (pg.cumulative_prod(x) * pg.asarray(weights, device=device)).sum().backward(create_graph=True)
    grad = x.grad
    assert grad is not None

    def without(*gone: int) -> list[float]:
        """The products of the first elements but ``gone``, where those are among them."""
        return [float(np.prod(np.delete(h[: k + 1], gone))) if max(gone) <= k else 0.0 for k in range(5)]

    np.testing.assert_allclose(grad.numpy(), [weights @ without(i) for i in range(5)], rtol=1e-12)
    for i in range(5):
        x.grad = None
        (grad * pg.asarray(np.eye(5)[i], device=device)).sum().backward(retain_graph=True)
        expected = [0.0 if i == j else weights @ without(i, j) for j in range(5)]
        assert x.grad is not None
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12)


def test_errors(device: str) -> None:
    x = pg.zeros((2, 3), device=device)
    for op in (pg.cumulative_sum, pg.cumulative_prod):
        with pytest.raises(ShapeError, match=rf"{op.name}: got axis None for shape \(2, 3\), takes one of"):
            op(x)
        with pytest.raises(ShapeError, match=rf"{op.name}: takes at least one axis, got a 0-d tensor"):
            op(x.sum())
        with pytest.raises(ShapeError, match=rf"{op.name}: axis -3 is out of range for 2 axes"):
            op(x, axis=-3)
        with pytest.raises(DTypeError, match=rf"{op.name}: got dtype int64 for x of float32, takes a float"):
            op(x, axis=0, dtype="int64")
    with pytest.raises(ShapeError, match=r"linear_recurrence: got a of shape \(2, 3\) and b of shape \(3,\)"):
        pg.linear_recurrence(x, pg.zeros(3, device=device))
