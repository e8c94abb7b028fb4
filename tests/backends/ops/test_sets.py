"""Distinct elements against NumPy, in every dtype."""

from __future__ import annotations

import numpy as np
import pytest

import plugrad as pg

DTYPES = ["bool", "int8", "int64", "uint8", "uint64", "float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (40,), (3, 4, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_unique(dtype: str, shape: tuple[int, ...], device: str) -> None:
    h = np.random.default_rng(9).integers(0, 6, shape)
    x = pg.asarray(h, dtype=dtype, device=device)
    h = x.numpy().astype(np.float64)
    values, indices, inverse, counts = np.unique(
        h, return_index=True, return_inverse=True, return_counts=True
    )
    everything = pg.unique_all(x)
    assert everything._fields == ("values", "indices", "inverse_indices", "counts")
    np.testing.assert_array_equal(everything.values.numpy().astype(np.float64), values)
    np.testing.assert_array_equal(everything.indices.numpy(), indices)
    np.testing.assert_array_equal(everything.inverse_indices.numpy(), inverse.reshape(shape))
    np.testing.assert_array_equal(everything.counts.numpy(), counts)
    assert everything.values.dtype.name == dtype
    assert {t.dtype.name for t in everything[1:]} == {"int64"}

    counted = pg.unique_counts(x)
    assert counted._fields == ("values", "counts")
    np.testing.assert_array_equal(counted.values.numpy().astype(np.float64), values)
    np.testing.assert_array_equal(counted.counts.numpy(), counts)
    inverted = pg.unique_inverse(x)
    assert inverted._fields == ("values", "inverse_indices")
    np.testing.assert_array_equal(
        inverted.values.numpy()[inverted.inverse_indices.numpy()].astype(np.float64), h
    )
    np.testing.assert_array_equal(pg.unique_values(x).numpy().astype(np.float64), values)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_each_nan_is_one_and_the_zeros_are_one(dtype: str, device: str) -> None:
    x = pg.asarray([np.nan, 0.0, 1.0, np.nan, -0.0, 0.0], dtype=dtype, device=device)
    got = pg.unique_all(x)
    np.testing.assert_array_equal(got.values.numpy().astype(np.float64), [0, 1, np.nan, np.nan])
    assert got.indices.tolist() == [1, 2, 0, 3]
    assert got.inverse_indices.tolist() == [2, 0, 1, 3, 0, 0]
    assert got.counts.tolist() == [3, 1, 1, 1]
    np.testing.assert_array_equal(pg.unique_counts(x).counts.numpy(), [3, 1, 1, 1])


def test_the_result_is_read_each_time(device: str) -> None:
    for h in ([1, 1, 1], [1, 2, 3], [2, 2, 1]):
        assert pg.unique_values(pg.asarray(h, device=device)).tolist() == sorted(set(h))


def test_a_tensor_that_needs_a_gradient_gives_ones_that_do_not(device: str) -> None:
    x = pg.asarray([1.0, 2.0, 1.0], device=device).requires_grad_()
    assert not any(t.requires_grad for t in pg.unique_all(x))
