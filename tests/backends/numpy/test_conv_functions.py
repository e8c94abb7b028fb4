"""Convolution functions of the NumPy backend, against a direct loop in float64 and the adjoint identity."""

from __future__ import annotations

from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from plugrad_numpy._conv import conv, conv_dw, conv_dx

Array = np.ndarray[Any, Any]

# x shape, weight shape, stride, padding, dilation, groups
CASES = {
    "1d": ((2, 3, 11), (4, 3, 3), (1,), ((1, 1),), (1,), 1),
    "1d wide, dilated, strided": ((2, 6, 20), (4, 3, 4), (3,), ((2, 0),), (2,), 2),
    "1d stride beyond kernel": ((2, 2, 12), (3, 2, 2), (5,), ((0, 1),), (1,), 1),
    "1d stride shares a factor with dilation": ((1, 2, 30), (3, 2, 5), (4,), ((3, 2),), (6,), 1),
    "1x1": ((3, 5, 4, 6), (7, 5, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "1x1 strided": ((3, 5, 5, 6), (7, 5, 1, 1), (2, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "1x1 padded": ((2, 3, 4, 4), (2, 3, 1, 1), (1, 1), ((1, 2), (0, 1)), (1, 1), 1),
    "3x3 one channel": ((3, 1, 9, 10), (8, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "3x3 many channels": ((2, 16, 6, 5), (8, 16, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "no padding": ((2, 16, 6, 5), (8, 16, 3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "padding beyond the kernel": ((2, 3, 4, 5), (2, 3, 2, 2), (1, 1), ((3, 4), (2, 0)), (1, 1), 1),
    "asymmetric": ((2, 4, 7, 8), (6, 4, 3, 5), (2, 1), ((0, 2), (3, 1)), (1, 2), 1),
    "rows left over": ((2, 4, 8, 9), (6, 4, 2, 2), (3, 4), ((0, 0), (0, 0)), (1, 1), 1),
    "kernel as large as the input": ((2, 4, 3, 3), (6, 4, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "groups": ((2, 6, 7, 7), (9, 2, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    "groups of few, wide": ((2, 6, 5, 12), (6, 2, 3, 3), (2, 1), ((1, 0), (1, 1)), (2, 1), 3),
    "groups of many": ((2, 24, 5, 4), (6, 12, 3, 3), (2, 2), ((1, 0), (1, 1)), (1, 1), 2),
    "depthwise": ((3, 5, 8, 7), (5, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 5),
    "depthwise, multiplied": ((3, 5, 8, 7), (15, 1, 3, 2), (2, 3), ((1, 2), (0, 1)), (1, 2), 5),
    "depthwise 1d": ((2, 4, 9), (4, 1, 4), (1,), ((3, 0),), (1,), 4),
    "3d": ((2, 3, 5, 6, 7), (4, 3, 3, 2, 3), (1, 2, 1), ((1, 1), (0, 1), (1, 1)), (1, 1, 2), 1),
    "3d groups": ((1, 4, 4, 4, 5), (6, 2, 2, 2, 2), (2, 1, 1), ((0, 0), (1, 0), (1, 1)), (1, 2, 1), 2),
    "3d depthwise": ((1, 4, 4, 4, 5), (4, 1, 2, 2, 2), (2, 1, 1), ((0, 0), (1, 0), (1, 1)), (1, 2, 1), 4),
    "several blocks of rows": ((2, 128, 34, 40), (4, 128, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "several blocks of images": ((7, 32, 20, 20), (4, 32, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "several blocks of a plane": ((3, 2, 90, 80), (3, 2, 5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1),
    "several blocks, depthwise": ((3, 64, 30, 31), (64, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 64),
}


def direct(
    x: Array, weight: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> Array:
    """Cross-correlation as its definition says, in float64."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    outs, inner, *kernel = weight.shape
    space = [
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(x.shape[2:], dilation, kernel, stride, strict=True)
    ]
    y = np.zeros((len(x), outs, *space))
    for o in range(outs):
        first = o // (outs // groups) * inner
        for c, tap in product(range(inner), product(*map(range, kernel))):
            cut = (
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, n, s in zip(tap, dilation, space, stride, strict=True)
            )
            y[:, o] += x[:, first + c, *cut] * weight[o, c, *tap]
    return y if bias is None else y + bias.astype(np.float64).reshape(-1, *(1,) * len(kernel))


def as_layout(x: Array, layout: str) -> Array:
    """``x`` with other strides: channels-last, every second element of a larger array, or as it is."""
    if layout == "channels-last":
        last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        return np.moveaxis(last, -1, 1)
    if layout == "strided":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("layout", ["channels-first", "channels-last", "strided"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_conv_and_its_adjoints(case: Any, layout: str, rng: np.random.Generator) -> None:
    shape, weight_shape, stride, padding, dilation, groups = case
    kwargs: Any = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x = as_layout(rng.standard_normal(shape), layout)
    weight = as_layout(rng.standard_normal(weight_shape), layout)
    bias = rng.standard_normal(weight_shape[0])
    expected = direct(x, weight, bias, stride, padding, dilation, groups)
    y = conv(x, weight, bias, **kwargs)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-11)
    ct = as_layout(rng.standard_normal(y.shape), layout)
    linear = np.vdot(ct, direct(x, weight, None, stride, padding, dilation, groups))
    dx = conv_dx(ct, weight, shape, **kwargs)
    dw = conv_dw(ct, x, weight_shape, **kwargs)
    assert dx.shape == shape
    assert dw.shape == weight_shape
    # The adjoint identity in a direction other than the point itself, too.
    other, other_weight = rng.standard_normal(shape), rng.standard_normal(weight_shape)
    in_x = np.vdot(ct, direct(other, weight, None, stride, padding, dilation, groups))
    in_w = np.vdot(ct, direct(x, other_weight, None, stride, padding, dilation, groups))
    scale = 1e-12 * np.linalg.norm(ct) * np.linalg.norm(expected) + 1e-10
    for value, wanted in (
        (np.vdot(dx, x), linear),
        (np.vdot(dw, weight), linear),
        (np.vdot(dx, other), in_x),
        (np.vdot(dw, other_weight), in_w),
    ):
        assert abs(value - wanted) < scale


@pytest.mark.parametrize("layout", ["channels-first", "channels-last", "strided"])
@pytest.mark.parametrize("name", ["1x1", "asymmetric", "groups", "depthwise, multiplied", "3x3 one channel"])
def test_into(name: str, layout: str, rng: np.random.Generator) -> None:
    shape, weight_shape, stride, padding, dilation, groups = CASES[name]
    kwargs: Any = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, weight = rng.standard_normal(shape), rng.standard_normal(weight_shape)
    y = conv(x, weight, **kwargs)
    into = as_layout(np.full(y.shape, np.nan), layout)
    assert conv(x, weight, **kwargs, into=into) is into
    np.testing.assert_allclose(into, y, rtol=1e-12, atol=1e-12)
    for function, first, second, result in (
        (conv_dx, y, weight, shape),
        (conv_dw, y, x, weight_shape),
    ):
        into = as_layout(np.full(result, np.nan), layout)
        assert function(first, second, result, **kwargs, into=into) is into
        np.testing.assert_allclose(into, function(first, second, result, **kwargs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    "name", ["1x1", "asymmetric", "groups", "depthwise, multiplied", "3x3 one channel", "1d"]
)
def test_dtypes_are_rounded_once(name: str, dtype: Any, rng: np.random.Generator) -> None:
    shape, weight_shape, stride, padding, dilation, groups = CASES[name]
    kwargs: Any = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, weight = rng.standard_normal(shape).astype(dtype), rng.standard_normal(weight_shape).astype(dtype)
    bias = rng.standard_normal(weight_shape[0]).astype(dtype)
    eps = float(ml_dtypes.finfo(dtype).eps)
    wide = [a.astype(np.float64) for a in (x, weight, bias)]
    y = conv(x, weight, bias, **kwargs)
    ct = y
    for got, wanted in (
        (y, conv(*wide, **kwargs)),
        (conv_dx(ct, weight, shape, **kwargs), conv_dx(ct.astype(np.float64), wide[1], shape, **kwargs)),
        (
            conv_dw(ct, x, weight_shape, **kwargs),
            conv_dw(ct.astype(np.float64), wide[0], weight_shape, **kwargs),
        ),
    ):
        assert got.dtype == dtype
        # One rounding of the result; the sums in float32 add errors of the order of 1e-6 of their terms.
        bound = (0.51 if eps > 1e-6 else 64) * eps * np.abs(wanted) + 1e-5 * np.abs(wanted).max()
        assert np.all(np.abs(got.astype(np.float64) - wanted) <= bound)


def test_results_are_channels_last_and_chain_without_copies(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 8, 8), dtype=np.float32)
    weight = rng.standard_normal((5, 3, 3, 3), dtype=np.float32)
    kwargs: Any = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    y = conv(x, weight, **kwargs)
    dx = conv_dx(y, weight, x.shape, **kwargs)
    for result in (y, dx):
        assert result.transpose(0, 2, 3, 1).flags.c_contiguous
    assert conv_dw(y, x, weight.shape, **kwargs).flags.c_contiguous


@pytest.mark.parametrize("groups", [1, 3])
def test_transposed_convolution_with_bias(groups: int, rng: np.random.Generator) -> None:
    # conv_dx is the transposed convolution: every input element adds its multiple of the kernel.
    x = rng.standard_normal((2, 3, 4))
    weight = rng.standard_normal((3, 6 // groups, 5))
    bias = rng.standard_normal(6)
    expected = np.zeros((2, 6, 14))
    for n, c, i in np.ndindex(x.shape):
        first = c // (3 // groups) * (6 // groups)
        expected[n, first : first + 6 // groups, 3 * i : 3 * i + 5] += x[n, c, i] * weight[c]
    expected = expected[..., 1:13] + bias[:, None]
    got = conv_dx(x, weight, (2, 6, 12), bias, stride=(3,), padding=((1, 1),), dilation=(1,), groups=groups)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_empty(groups: int) -> None:
    kwargs: Any = {"stride": (1, 2), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": groups}
    x, weight = np.ones((0, 4, 5, 6), np.float32), np.ones((8, 4 // groups, 3, 3), np.float32)
    y = conv(x, weight, np.ones(8, np.float32), **kwargs)
    assert y.shape == (0, 8, 5, 3)
    assert conv_dx(y, weight, x.shape, **kwargs).shape == x.shape
    dw = conv_dw(y, x, weight.shape, **kwargs)
    assert dw.shape == weight.shape
    assert not dw.any()


def test_no_channels() -> None:
    kwargs: Any = {"stride": (1,), "padding": ((1, 1),), "dilation": (1,), "groups": 1}
    x, weight, bias = np.ones((2, 0, 5)), np.ones((3, 0, 3)), np.arange(3.0)
    y = conv(x, weight, bias, **kwargs)
    np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None], (2, 3, 5)))
    assert conv_dx(y, weight, x.shape, **kwargs).shape == x.shape
    assert conv_dw(y, x, weight.shape, **kwargs).shape == weight.shape
    no_outputs = np.ones((0, 2, 3))
    dx = conv_dx(np.ones((2, 0, 5)), no_outputs, (2, 2, 5), **kwargs)
    np.testing.assert_array_equal(dx, np.zeros((2, 2, 5)))


def test_infinities_and_nan_stay_where_they_reach(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 8, 9, 9))
    weight = rng.standard_normal((4, 8, 3, 3))
    x[0, 3, 0, 0] = np.nan
    y = conv(x, weight, stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)
    reached = np.zeros((9, 9), bool)
    reached[:2, :2] = True
    np.testing.assert_array_equal(np.isnan(y[0]), np.broadcast_to(reached, (4, 9, 9)))
