"""Convolution by minimal filtering, against a sum of products in float64: sizes, paddings, layouts, blocks, special values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plugrad_numpy import _winograd
from plugrad_numpy._conv import channels_last, conv, conv_dw, conv_dx
from plugrad_numpy.kernels._silent import silent

Array = np.ndarray[Any, Any]

# x shape, output channels, padding
CASES = {
    "even": ((3, 16, 12, 10), 24, ((1, 1), (1, 1))),
    "odd": ((4, 18, 11, 13), 16, ((1, 1), (1, 1))),
    "no padding": ((5, 16, 9, 12), 17, ((0, 0), (0, 0))),
    "more padding than the adjoint can crop": ((3, 16, 10, 9), 16, ((2, 3), (4, 1))),
    "padding on one side": ((3, 16, 11, 10), 20, ((0, 1), (2, 0))),
    "small images": ((40, 16, 4, 5), 16, ((1, 1), (0, 1))),
    "blocks of several images": ((13, 48, 14, 14), 40, ((1, 1), (1, 1))),
    "blocks of rows": ((2, 32, 45, 62), 33, ((1, 1), (1, 1))),
    "outputs are many more": ((9, 16, 8, 8), 80, ((1, 1), (1, 1))),
}


def reference(x: Array, weight: Array, padding: Any) -> Array:
    """The convolution as its definition says, in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *padding))
    height, width = x.shape[2] - 2, x.shape[3] - 2
    y = np.zeros((len(x), len(weight), height, width))
    for i, j in np.ndindex(3, 3):
        y += np.einsum(
            "nchw,oc->nohw", x[:, :, i : i + height, j : j + width], weight[:, :, i, j].astype(float)
        )
    return y


def weight_reference(ct: Array, x: Array, padding: Any) -> Array:
    """The adjoint in the weight, in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *padding))
    height, width = ct.shape[2:]
    dw = np.zeros((ct.shape[1], x.shape[1], 3, 3))
    for i, j in np.ndindex(3, 3):
        dw[:, :, i, j] = np.einsum("nohw,nchw->oc", ct, x[:, :, i : i + height, j : j + width])
    return dw


def assert_close(got: Array, expected: Array, magnitudes: Array) -> None:
    """Within eight roundings of the sum of the terms' magnitudes: the suite allows two for each term."""
    assert got.dtype == np.float32
    assert np.all(abs(got - expected) <= 8 * np.finfo(np.float32).eps * magnitudes)


def as_layout(x: Array, layout: str) -> Array:
    if layout == "channels-last":
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if layout == "strided":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


def settings(padding: Any) -> dict[str, Any]:
    return {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the functions of `_winograd` that were called; it takes the smallest arrays, too."""
    monkeypatch.setattr(_winograd, "_POSITIONS", 0)
    monkeypatch.setattr(_winograd, "_WORTH", 0)
    calls: list[str] = []
    for name in ("correlate", "add_products"):
        function = getattr(_winograd, name)

        def spy(*args: Any, name: str = name, function: Any = function) -> Any:
            calls.append(name)
            return function(*args)

        monkeypatch.setattr(_winograd, name, spy)
    return calls


@pytest.mark.parametrize("layout", ["channels-first", "channels-last", "strided"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_and_its_adjoints(case: Any, layout: str, rng: np.random.Generator, counted: list[str]) -> None:
    shape, outs, padding = case
    x = as_layout(rng.standard_normal(shape, dtype=np.float32), layout)
    weight = as_layout(rng.standard_normal((outs, shape[1], 3, 3), dtype=np.float32), layout)
    bias = rng.standard_normal(outs, dtype=np.float32)
    expected = reference(x, weight, padding) + bias[:, None, None]
    into = as_layout(np.full(expected.shape, np.nan, np.float32), layout)
    assert conv(x, weight, bias, **settings(padding), into=into) is into
    assert "correlate" in counted
    assert_close(into, expected, reference(abs(x), abs(weight), padding) + abs(bias)[:, None, None])

    ct = as_layout(rng.standard_normal(expected.shape, dtype=np.float32), layout)
    dx = conv_dx(ct, weight, shape, **settings(padding))
    (top, _), (left, _) = padding
    cut = (..., slice(top, top + shape[2]), slice(left, left + shape[3]))
    turned = weight[:, :, ::-1, ::-1].swapaxes(0, 1)
    around = ((2, 2), (2, 2))
    assert_close(dx, reference(ct, turned, around)[cut], reference(abs(ct), abs(turned), around)[cut])

    into = as_layout(np.full(weight.shape, np.nan, np.float32), layout)
    assert conv_dw(ct, x, weight.shape, **settings(padding), into=into) is into
    assert "add_products" in counted
    assert_close(into, weight_reference(ct, x, padding), weight_reference(abs(ct), abs(x), padding))


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True),
        ({"kernel": (3, 1)}, False),
        ({"kernel": (3,), "x": np.zeros((4, 999, 64), np.float32)}, False),
        ({"stride": (1, 2)}, False),
        ({"dilation": (2, 2)}, False),
        ({"groups": 2}, False),
        ({"padding": ((0, -1), (1, 1))}, False),
        ({"outs": 8}, False),
        ({"x": np.zeros((4, 90, 90, 3), np.float32)}, False),
        ({"x": np.zeros((4, 12, 12, 64))}, False),
        ({"x": np.zeros((4, 12, 12, 64), np.float16)}, False),
        ({"x": np.zeros((4, 12, 12, 16), np.float32)}, False),
        ({"x": np.zeros((1, 12, 12, 2048), np.float32)}, False),
        ({"x": np.zeros((400, 3, 8, 64), np.float32)}, False),
    ],
)
def test_what_it_takes(change: dict[str, Any], taken: bool) -> None:
    usual = {
        "x": np.zeros((4, 12, 12, 64), np.float32),
        "outs": 64,
        "kernel": (3, 3),
        "stride": (1, 1),
        "padding": ((1, 1), (1, 1)),
        "dilation": (1, 1),
        "groups": 1,
    }
    assert _winograd.takes(**{**usual, **change}) is taken


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("shape", [(13, 32, 14, 14), (2, 32, 45, 62)])
def test_what_is_not_finite_stays_where_it_reaches(
    shape: Any, value: float, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = rng.standard_normal(shape, dtype=np.float32)
    weight = rng.uniform(0.5, 1.0, (32, 32, 3, 3)).astype(np.float32)
    x[1, 3, 5, 7] = value
    ct = as_layout(x, "channels-last")
    given = settings(((1, 1), (1, 1)))

    def results() -> list[Array]:
        return [
            silent(conv)(x, weight, **given),
            silent(conv_dx)(ct, weight, shape, **given),
            silent(conv_dw)(ct, np.ones_like(ct), weight.shape, **given),
        ]

    calls: list[int] = []
    function = _winograd.correlate
    monkeypatch.setattr(_winograd, "correlate", lambda *a: calls.append(1) or function(*a))
    made = results()
    assert calls
    monkeypatch.setattr(_winograd, "takes", lambda *_: False)
    summed = results()
    for got, wanted in zip(made, summed, strict=True):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
        np.testing.assert_array_equal(np.isposinf(got), np.isposinf(wanted))
        np.testing.assert_array_equal(np.isneginf(got), np.isneginf(wanted))
    # A position reaches three by three results.
    assert np.count_nonzero(np.isfinite(made[0][1, 0])) >= shape[2] * shape[3] - 9


def test_zeros_give_zeros(counted: list[str]) -> None:
    x, weight = np.zeros((4, 16, 12, 12), np.float32), np.ones((16, 16, 3, 3), np.float32)
    for result in (
        conv(x, weight, **settings(((1, 1), (1, 1)))),
        conv_dx(x, weight, x.shape, **settings(((1, 1), (1, 1)))),
        conv_dw(x, x, weight.shape, **settings(((1, 1), (1, 1)))),
    ):
        assert not result.any()
    assert len(counted) >= 3


def test_transformed_kernels_give_back_kernels(rng: np.random.Generator, counted: list[str]) -> None:
    """One image of one pixel: the results are the kernel, turned."""
    weight = rng.standard_normal((16, 20, 3, 3), dtype=np.float32)
    x = np.zeros((20, 20, 5, 5), np.float32)
    x[np.arange(20), np.arange(20), 2, 2] = 1
    y = conv(x, weight, **settings(((0, 0), (0, 0))))
    assert "correlate" in counted
    np.testing.assert_allclose(y, weight[:, :, ::-1, ::-1].swapaxes(0, 1), rtol=1e-6, atol=1e-6)
    assert channels_last(y).flags.c_contiguous
