"""Statistics over axes against NumPy in float64, with the special cases of the array API standard."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError, ShapeError

FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
EPS = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-6, "float64": 1e-14}
AXES = [None, 0, -1, (0, 2), (1,), ()]


def host(x: pg.Tensor) -> np.ndarray[Any, Any]:
    return x.numpy().astype(np.float64) if x.dtype.is_floating else x.numpy()


def values(shape: tuple[int, ...], dtype: str, device: str) -> pg.Tensor:
    rng = np.random.default_rng(3)
    if dtype in FLOATS:
        return pg.asarray(
            rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape), dtype=dtype, device=device
        )
    return pg.asarray(rng.integers(1, 5, shape), dtype=dtype, device=device)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_floats(dtype: str, axis: Any, keepdims: bool, device: str) -> None:
    x = values((3, 4, 5), dtype, device)
    h = host(x)
    for name in ("max", "min", "prod", "mean", "sum"):
        got = getattr(pg, name)(x, axis=axis, keepdims=keepdims)
        expected = getattr(np, name)(h, axis=axis, keepdims=keepdims)
        assert got.dtype.name == dtype
        assert got.shape == expected.shape
        np.testing.assert_allclose(
            host(got), expected, rtol=4 * EPS[dtype], atol=4 * EPS[dtype], err_msg=name
        )
    for correction in (0, 1, 0.5):
        for name in ("var", "std"):
            got = getattr(pg, name)(x, axis=axis, keepdims=keepdims, correction=correction)
            n = x.size / got.size
            if n - correction <= 0:
                assert np.isnan(host(got)).all()
                continue
            expected = getattr(np, name)(h, axis=axis, keepdims=keepdims, ddof=correction)
            assert got.dtype.name == dtype
            np.testing.assert_allclose(host(got), expected, rtol=4 * EPS[dtype], atol=EPS[dtype])


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: str, axis: Any, device: str) -> None:
    x = values((2, 2, 5), dtype, device)
    wide = "uint64" if dtype.startswith("u") else "int64"
    product = pg.prod(x, axis=axis)
    assert product.dtype.name == wide
    np.testing.assert_array_equal(product.numpy(), np.prod(x.numpy(), axis=axis, dtype=wide))
    for name in ("max", "min"):
        got = getattr(pg, name)(x, axis=axis)
        assert got.dtype.name == dtype
        np.testing.assert_array_equal(got.numpy(), getattr(np, name)(x.numpy(), axis=axis))


def test_extrema_of_integers_at_the_ends_of_the_range(device: str) -> None:
    for dtype in INTEGERS:
        info = pg.iinfo(pg.asarray(0, dtype=dtype))
        x = pg.asarray(np.array([info.min, info.max, 1], dtype), device=device)
        assert (pg.max(x).item(), pg.min(x).item()) == (info.max, info.min)
        assert (pg.argmax(x).item(), pg.argmin(x).item()) == (1, 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_goes_through_every_statistic(dtype: str, device: str) -> None:
    x = pg.asarray([[1.0, math.nan, math.inf], [1.0, 2.0, 3.0]], dtype=dtype, device=device)
    for name in ("max", "min", "prod", "mean", "var", "std", "sum"):
        got = host(getattr(pg, name)(x, axis=1))
        assert np.isnan(got[0]), name
        assert np.isfinite(got[1]), name


def test_infinities(device: str) -> None:
    x = pg.asarray([[1.0, math.inf], [-math.inf, 3.0], [math.inf, -math.inf]], device=device)
    np.testing.assert_array_equal(pg.max(x, axis=1).numpy(), [np.inf, 3, np.inf])
    np.testing.assert_array_equal(pg.min(x, axis=1).numpy(), [1, -np.inf, -np.inf])
    np.testing.assert_array_equal(pg.mean(x, axis=1).numpy(), [np.inf, -np.inf, np.nan])
    assert np.isnan(pg.var(x, axis=1).numpy()).all()


def test_nothing_to_reduce(device: str) -> None:
    x = pg.zeros((0, 3), device=device)
    np.testing.assert_array_equal(pg.prod(x, axis=0).numpy(), np.ones(3))
    assert pg.prod(x).item() == 1
    for name in ("mean", "var", "std"):
        assert np.isnan(getattr(pg, name)(x, axis=0).numpy()).all()
        assert getattr(pg, name)(x, axis=1).shape == (0,)
        assert math.isnan(getattr(pg, name)(x).item())
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ShapeError, match=rf"{name}: axis 0 of shape \(0, 3\) is empty"):
            getattr(pg, name)(x, axis=0)
        assert getattr(pg, name)(x, axis=1).shape == (0,)


def test_too_few_elements_for_the_correction(device: str) -> None:
    x = pg.asarray([1.0, 2.0], device=device)
    assert math.isnan(pg.var(x, correction=2).item())
    assert math.isnan(pg.std(x, correction=3).item())
    assert pg.var(x, correction=1).item() == 0.5


def test_prod_takes_a_dtype_and_wraps_around(device: str) -> None:
    x = pg.asarray([100, 100], dtype="int8", device=device)
    assert pg.prod(x).item() == 10000
    assert pg.prod(x, dtype="int8").item() == np.int8(100 * 100 % 256)
    assert pg.prod(x, dtype="float32").dtype.name == "float32"
    assert pg.prod(pg.asarray([True, True, False], device=device)).item() == 0


def test_16_bits_accumulate_in_float32(device: str) -> None:
    x = pg.asarray(np.full(70_000, 3.0), dtype="float16", device=device)
    assert pg.mean(x).item() == 3.0
    assert pg.var(x).item() == 0.0
    ones = pg.asarray(np.ones(1000), dtype="bfloat16", device=device)
    assert pg.mean(ones).item() == 1.0


def gradient(f: Any, x: pg.Tensor) -> np.ndarray[Any, Any]:
    x = x.detach().requires_grad_()
    f(x).sum().backward()
    assert x.grad is not None
    return x.grad.numpy().astype(np.float64)


@pytest.mark.parametrize("dtype", FLOATS)
def test_ties_share_the_derivative(dtype: str, device: str) -> None:
    x = pg.asarray([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], dtype=dtype, device=device)
    third = np.full(3, 1 / 3)
    np.testing.assert_allclose(
        gradient(lambda t: pg.max(t, axis=1), x), [[0, 0.5, 0.5], third], rtol=EPS[dtype]
    )
    np.testing.assert_allclose(gradient(lambda t: pg.min(t, axis=1), x), [[1, 0, 0], third], rtol=EPS[dtype])


def test_many_ties_of_16_bits_are_counted_exactly(device: str) -> None:
    x = pg.asarray(np.zeros(100_000), dtype="float16", device=device)
    np.testing.assert_allclose(gradient(pg.max, x), np.full(100_000, 1e-5), rtol=1e-2)


@pytest.mark.parametrize("zeros", [[], [1], [0, 2], [0, 1, 3]])
def test_gradient_and_hessian_of_prod_with_zeros(zeros: list[int], device: str) -> None:
    h = np.array([1.5, -2.0, 0.5, 3.0])
    h[zeros] = 0
    x = pg.asarray(h, device=device).requires_grad_()
    pg.prod(x).backward(create_graph=True)
    grad = x.grad
    assert grad is not None
    np.testing.assert_allclose(grad.numpy(), [np.prod(np.delete(h, i)) for i in range(4)])
    hessian = [[0.0 if i == j else np.prod(np.delete(h, [i, j])) for j in range(4)] for i in range(4)]
    for i in range(4):
        row = pg.asarray(np.eye(4)[i], device=device)
        x.grad = None
        (grad * row).sum().backward(retain_graph=True)
        assert x.grad is not None
        np.testing.assert_allclose(x.grad.numpy(), hessian[i])


def test_derivative_of_std_is_0_where_all_are_equal(device: str) -> None:
    x = pg.asarray([[2.0, 2.0], [1.0, 3.0]], dtype="float64", device=device)
    np.testing.assert_allclose(gradient(lambda t: pg.std(t, axis=1), x), [[0, 0], [-0.5, 0.5]])


def test_strided_operands(device: str) -> None:
    x = pg.asarray(np.arange(24.0).reshape(2, 3, 4), device=device)
    turned = pg.flip(pg.permute_dims(x, (2, 0, 1)), axis=0)
    h = x.numpy().transpose(2, 0, 1)[::-1]
    for name in ("max", "min", "prod", "mean", "var"):
        got = getattr(pg, name)(turned, axis=(0, 2)).numpy()
        np.testing.assert_allclose(got, getattr(np, name)(h, axis=(0, 2)), rtol=1e-5)
    spread = pg.broadcast_to(pg.asarray([1.0, 2.0], device=device), (3, 2))
    np.testing.assert_array_equal(pg.max(spread, axis=1).numpy(), [2, 2, 2])


def test_errors(device: str) -> None:
    x = pg.zeros((2, 3), device=device)
    with pytest.raises(ShapeError, match="max: axis 2 is out of range for 2 axes"):
        pg.max(x, axis=2)
    with pytest.raises(ShapeError, match=r"mean: axis .* names an axis twice"):
        pg.mean(x, axis=(0, -2))
    with pytest.raises(ArgumentError, match="var: correction takes a finite number, got 'n'"):
        pg.var(x, correction="n")  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match=r"mean: x is int64; takes float16, .*; cast it with astype"):
        pg.mean(pg.asarray([1, 2], device=device))
    with pytest.raises(DTypeError, match="max: x is bool"):
        pg.max(pg.asarray([True], device=device))
    with pytest.raises(DTypeError, match="prod: got dtype int32 for x of float32, takes a floating dtype"):
        pg.prod(x, dtype="int32")
    with pytest.raises(DTypeError, match="prod: got dtype bool for x of int64, takes a numeric dtype"):
        pg.prod(pg.asarray([1], device=device), dtype="bool")
