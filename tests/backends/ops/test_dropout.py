"""Dropout: masks of Philox words, the same everywhere and in every layout, and what they leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from plugrad.ops.dropout import dropout_words
from support.oracles import by_body


def state(device: str, seed: int = 1) -> list[pg.Tensor]:
    rng = np.random.default_rng(seed)
    words = [rng.integers(0, 1 << 32, n).astype(np.uint32) for n in (2, 4)]
    words[1][0] = 0xFFFFFFFE
    return [pg.asarray(w, device=device) for w in words]


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (100_003,), (600, 500)], ids=str)
def test_masks_are_those_of_the_words(shape: tuple[int, ...], p: float, device: str) -> None:
    key, counter = state(device)
    n = int(np.prod(shape))
    mask = pg.dropout_mask(key, counter, shape=shape, p=p)
    words = pg.random_bits(key, counter, shape=dropout_words(n)).numpy().astype(np.uint64)
    halves = np.stack([words & 0xFFFF, words >> 16], axis=1).reshape(-1)[:n].reshape(shape)
    np.testing.assert_array_equal(mask.numpy(), halves >= round(p * 65536))
    if n < 1000:
        body = by_body(pg.dropout_mask, key, counter, shape=shape, p=p)
        np.testing.assert_array_equal(mask.numpy(), body.numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_values_and_gradients(dtype: str, device: str) -> None:
    rng = np.random.default_rng(2)
    x = pg.asarray(rng.standard_normal((200, 400)), dtype=dtype, device=device).requires_grad_()
    ct = pg.asarray(rng.standard_normal((200, 400)), dtype=dtype, device=device)
    key, counter = state(device)
    out = pg.dropout(x, key, counter, p=0.3)
    out.backward(ct)
    kept = pg.dropout_mask(key, counter, shape=(200, 400), p=0.3).numpy()
    scale = 65536 / (65536 - round(0.3 * 65536))
    wide = np.float32 if dtype != "float64" else np.float64
    for got, host in ((out, x), (x.grad, ct)):
        expected = np.where(kept, host.numpy().astype(wide) * wide(scale), 0).astype(host.numpy().dtype)
        np.testing.assert_array_equal(got.numpy(), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_masked_scale_by_body_rounds_once(dtype: str, device: str) -> None:
    rng = np.random.default_rng(3)
    x = pg.asarray(rng.standard_normal(1000), dtype=dtype, device=device)
    mask = pg.asarray(rng.random(1000) < 0.7, device=device)
    host, wide = x.numpy(), np.float64 if dtype == "float64" else np.float32
    expected = np.where(mask.numpy(), host.astype(wide) * wide(10 / 7), 0).astype(host.dtype)
    body = by_body(pg.masked_scale, x, mask, scale=10 / 7)
    np.testing.assert_array_equal(body.numpy(), expected)


def test_shares_and_expectation(device: str) -> None:
    ones = pg.ones((1000, 1000), device=device)
    for p in (0.1, 0.5, 0.8):
        out = pg.dropout(ones, *state(device, 3), p=p).numpy()
        # Six standard deviations of a million decisions.
        assert abs((out == 0).mean() - p) < 6 * np.sqrt(p * (1 - p)) / 1000
        assert abs(out.mean() - 1) < 6 * np.sqrt(p / (1 - p)) / 1000
        # Neighbours are independent: the two halves of a word, and words beside each other.
        dropped = out.reshape(-1) == 0
        for lag in (1, 2, 8):
            both = (dropped[lag:] & dropped[:-lag]).mean()
            assert abs(both - p * p) < 6e-3


def test_all_and_nothing(device: str) -> None:
    x = pg.asarray([1.0, np.nan, np.inf, -2.0], device=device).requires_grad_()
    whole = pg.dropout(x, *state(device), p=0.0)
    np.testing.assert_array_equal(whole.numpy(), x.numpy())
    none = pg.dropout(x, *state(device), p=1.0)
    np.testing.assert_array_equal(none.numpy(), 0)
    none.backward(pg.ones_like(none))
    np.testing.assert_array_equal(x.grad.numpy(), 0)
    mask = pg.asarray([True, False, False, True], device=device)
    np.testing.assert_array_equal(pg.masked_scale(x, mask, scale=2.0).numpy(), [2, 0, 0, -4])


def test_backward_needs_the_mask_alone(device: str) -> None:
    x = pg.ones((8, 8), device=device).requires_grad_()
    saved: Any = pg.dropout(x, *state(device), p=0.5)._node.saved
    assert [s.dtype for s in map(np.asarray, saved)] == [np.bool_]


def test_errors(device: str) -> None:
    key, counter = state(device)
    x = pg.ones((2,), device=device)
    with pytest.raises(ArgumentError, match=r"dropout: p takes a number from 0 to 1, got 1.5"):
        pg.dropout(x, key, counter, p=1.5)
    with pytest.raises(ArgumentError, match=r"dropout_mask: p takes a number from 0 to 1, got nan"):
        pg.dropout_mask(key, counter, shape=(2,), p=float("nan"))
    with pytest.raises(ShapeError, match=r"dropout: key takes shape \(2,\), got \(4,\)"):
        pg.dropout(x, counter, counter)
    with pytest.raises(DTypeError, match=r"dropout: counter is int64; takes uint32"):
        pg.dropout(x, key, counter.astype("int64"))
    with pytest.raises(DTypeError, match=r"dropout: x is int64; takes float16"):
        pg.dropout(pg.asarray([1, 2], device=device), key, counter)
