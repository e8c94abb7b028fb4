"""Pooling functions of the NumPy backend, against a loop over windows in Python."""

from __future__ import annotations

from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from plugrad_numpy._pool import avg_pool, avg_pool_vjp, max_pool, max_pool_vjp

Array = np.ndarray[Any, Any]

# x shape, kernel, stride, padding, dilation
CASES = {
    "2x2": ((2, 3, 6, 8), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    "2x2 with a rest": ((2, 3, 7, 9), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    "3x3 overlapping, padded": ((2, 3, 7, 8), (3, 3), (2, 1), ((1, 1), (1, 1)), (1, 1)),
    "asymmetric": ((2, 3, 7, 8), (3, 4), (2, 3), ((0, 1), (2, 0)), (1, 1)),
    "dilated": ((2, 3, 9, 8), (3, 2), (1, 2), ((1, 1), (0, 1)), (2, 3)),
    "stride beyond kernel": ((2, 3, 9, 8), (2, 1), (3, 2), ((0, 0), (0, 0)), (1, 1)),
    "global": ((2, 3, 4, 5), (4, 5), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "1x1": ((2, 3, 4, 5), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "1d": ((3, 2, 11), (3,), (2,), ((1, 0),), (1,)),
    "3d": ((2, 2, 4, 5, 6), (2, 3, 2), (2, 1, 2), ((0, 0), (1, 1), (0, 1)), (1, 1, 1)),
    "many blocks": ((5, 20, 40, 40), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
}
LAYOUTS = ["channels-first", "channels-last", "strided"]


def as_layout(x: Array, layout: str) -> Array:
    """``x`` with other strides: channels-last, every second element of a larger array, or as it is."""
    if layout == "channels-last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    if layout == "strided":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


def windows(shape: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """Yield each output position and the positions of its window inside the input, in row-major order."""
    size = shape[2:]
    space = [
        (n + a + b - d * (k - 1) - 1) // s + 1
        for n, k, s, (a, b), d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    for out in product(*map(range, space)):
        places = []
        for tap in product(*map(range, kernel)):
            place = tuple(
                o * s - a + t * d
                for o, s, (a, _), t, d in zip(out, stride, padding, tap, dilation, strict=True)
            )
            if all(0 <= p < n for p, n in zip(place, size, strict=True)):
                places.append(place)
        yield space, out, places


def gathered(x: Array, places: list[tuple[int, ...]]) -> Array:
    """The elements of ``x`` at ``places``, as (N, C, len(places))."""
    return np.stack([x[:, :, *place] for place in places], -1)


def direct_max(x: Array, ct: Array | None, *geometry: Any) -> tuple[Array, Array]:
    y, dx = None, np.zeros(x.shape)
    for space, out, places in windows(x.shape, *geometry):
        if y is None:
            y = np.zeros((*x.shape[:2], *space))
        values = gathered(x.astype(np.float64), places)
        y[:, :, *out] = values.max(-1)
        # argmax takes the first of equals, and the first NaN.
        for n, c in np.ndindex(*x.shape[:2]):
            if ct is not None:
                dx[n, c, *places[int(values[n, c].argmax())]] += ct[n, c, *out]
    assert y is not None
    return y, dx


def direct_mean(x: Array, include: bool, *geometry: Any) -> Array:
    y = None
    for space, out, places in windows(x.shape, *geometry):
        if y is None:
            y = np.zeros((*x.shape[:2], *space))
        values = gathered(x.astype(np.float64), places)
        y[:, :, *out] = values.sum(-1) / (np.prod(geometry[0]) if include else len(places))
    assert y is not None
    return y


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_max_pool(case: Any, layout: str) -> None:
    shape, *geometry = case
    kwargs: Any = dict(zip(("kernel", "stride", "padding", "dilation"), geometry, strict=True))
    rng = np.random.default_rng(3)
    # Few distinct values, so that windows have ties.
    x = as_layout(rng.integers(-3, 3, shape).astype(np.float64), layout)
    y = max_pool(x, **kwargs)
    ct = as_layout(rng.standard_normal(y.shape), layout)
    expected, dx = direct_max(x, ct, *geometry)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(max_pool_vjp(ct, x, y, **kwargs), dx, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [name for name in CASES if name != "dilated"])
def test_avg_pool(name: str, layout: str, include: bool) -> None:
    shape, *geometry = CASES[name]
    kwargs: Any = dict(zip(("kernel", "stride", "padding"), geometry, strict=False))
    kwargs["count_include_pad"] = include
    rng = np.random.default_rng(3)
    x = as_layout(rng.standard_normal(shape), layout)
    y = avg_pool(x, **kwargs)
    np.testing.assert_allclose(y, direct_mean(x, include, *geometry), rtol=1e-12, atol=1e-13)
    ct = as_layout(rng.standard_normal(y.shape), layout)
    dx = avg_pool_vjp(ct, shape, **kwargs)
    assert dx.shape == shape
    other = rng.standard_normal(shape)
    for point in (x, other):
        assert np.isclose(
            np.vdot(dx, point), np.vdot(ct, direct_mean(point, include, *geometry)), rtol=1e-11, atol=1e-10
        )


def test_layout_is_kept() -> None:
    kwargs: Any = {"kernel": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}
    x = as_layout(np.random.default_rng(1).standard_normal((2, 5, 6, 6)), "channels-last")
    y = max_pool(x, **kwargs, dilation=(1, 1))
    mean = avg_pool(x, **kwargs, count_include_pad=True)
    dx = max_pool_vjp(y, x, y, **kwargs, dilation=(1, 1))
    for result in (y, mean, dx, avg_pool_vjp(mean, x.shape, **kwargs, count_include_pad=True)):
        assert result.transpose(0, 2, 3, 1).flags.c_contiguous
    assert max_pool(np.ascontiguousarray(x), **kwargs, dilation=(1, 1)).flags.c_contiguous


@pytest.mark.parametrize("layout", LAYOUTS)
def test_into(layout: str) -> None:
    shape, *geometry = CASES["3x3 overlapping, padded"]
    kwargs: Any = dict(zip(("kernel", "stride", "padding"), geometry, strict=False))
    dilation = (1, 1)
    rng = np.random.default_rng(2)
    x = rng.standard_normal(shape, dtype=np.float32)
    y = max_pool(x, **kwargs, dilation=dilation)
    mean = avg_pool(x, **kwargs, count_include_pad=False)
    into = as_layout(np.full(y.shape, np.nan, np.float32), layout)
    assert max_pool(x, **kwargs, dilation=dilation, into=into) is into
    np.testing.assert_array_equal(into, y)
    assert avg_pool(x, **kwargs, count_include_pad=False, into=into) is into
    np.testing.assert_array_equal(into, mean)
    back = as_layout(np.full(shape, np.nan, np.float32), layout)
    assert max_pool_vjp(y, x, y, **kwargs, dilation=dilation, into=back) is back
    np.testing.assert_array_equal(back, max_pool_vjp(y, x, y, **kwargs, dilation=dilation))
    assert avg_pool_vjp(y, shape, **kwargs, count_include_pad=False, into=back) is back
    np.testing.assert_array_equal(back, avg_pool_vjp(y, shape, **kwargs, count_include_pad=False))


def test_nan_propagates_and_takes_the_cotangent() -> None:
    x = np.array([[[1.0, np.nan, 3.0, np.nan, -np.inf, -np.inf, np.inf, 1.0]]])
    kwargs: Any = {"kernel": (4,), "stride": (4,), "padding": ((0, 0),), "dilation": (1,)}
    y = max_pool(x, **kwargs)
    np.testing.assert_array_equal(y, [[[np.nan, np.inf]]])
    np.testing.assert_array_equal(
        max_pool_vjp(np.array([[[5.0, 7.0]]]), x, y, **kwargs), [[[0, 5, 0, 0, 0, 0, 7, 0]]]
    )
    # Neither an infinite nor a NaN cotangent reaches other elements.
    dx = max_pool_vjp(np.array([[[np.inf, np.nan]]]), x, y, **kwargs)
    np.testing.assert_array_equal(dx, [[[0, np.inf, 0, 0, 0, 0, np.nan, 0]]])
    low = np.full((1, 1, 4), -np.inf)
    dx = max_pool_vjp(np.ones((1, 1, 1)), low, max_pool(low, **kwargs), **kwargs)
    np.testing.assert_array_equal(dx, [[[1, 0, 0, 0]]])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_dtypes(dtype: Any) -> None:
    shape, *geometry = CASES["3x3 overlapping, padded"]
    kwargs: Any = dict(zip(("kernel", "stride", "padding"), geometry, strict=False))
    rng = np.random.default_rng(4)
    x = rng.standard_normal(shape).astype(dtype)
    wide = x.astype(np.float64)
    y = max_pool(x, **kwargs, dilation=(1, 1))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.astype(np.float64), max_pool(wide, **kwargs, dilation=(1, 1)))
    eps = float(ml_dtypes.finfo(dtype).eps)
    wide_y = y.astype(np.float64)
    for got, wanted in (
        (
            max_pool_vjp(y, x, y, **kwargs, dilation=(1, 1)),
            max_pool_vjp(wide_y, wide, wide_y, **kwargs, dilation=(1, 1)),
        ),
        (avg_pool(x, **kwargs, count_include_pad=True), avg_pool(wide, **kwargs, count_include_pad=True)),
        (
            avg_pool_vjp(y, shape, **kwargs, count_include_pad=True),
            avg_pool_vjp(wide_y, shape, **kwargs, count_include_pad=True),
        ),
    ):
        assert got.dtype == dtype
        np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=2 * eps, atol=1e-6)


def test_max_pool_of_integers() -> None:
    x = np.array([[[-128, 5, -7, -128, -128]]], np.int8)
    y = max_pool(x, kernel=(2,), stride=(1,), padding=((1, 1),), dilation=(1,))
    assert y.dtype == np.int8
    np.testing.assert_array_equal(y, [[[-128, 5, 5, -7, -128, -128]]])


def test_empty_batch() -> None:
    kwargs: Any = {"kernel": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}
    x = np.ones((0, 3, 4, 4), np.float32)
    y = max_pool(x, **kwargs, dilation=(1, 1))
    assert y.shape == avg_pool(x, **kwargs, count_include_pad=True).shape == (0, 3, 2, 2)
    assert max_pool_vjp(y, x, y, **kwargs, dilation=(1, 1)).shape == x.shape
    assert avg_pool_vjp(y, x.shape, **kwargs, count_include_pad=True).shape == x.shape
