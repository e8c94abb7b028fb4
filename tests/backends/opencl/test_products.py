"""Products of matrices and linear layers: each way to compute one, with whole numbers, whose products are exact."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.backend import get_backend
from plugrad.generated.array import StridedArray, empty, permuted
from plugrad.generated.kernels._product import multiply
from plugrad.graph.source import Epilogue

# n, k, m: elements one by one, sums over lanes, tiles and what is left over, rows brought to a vector, parts of k.
SIZES = [
    (1, 1, 1),
    (1, 300, 1),
    (64, 300, 1),
    (1, 40, 40),
    (3, 17, 5),
    (4, 257, 19),
    (5, 3, 15),
    (7, 33, 16),
    (13, 70, 65),
    (97, 101, 103),
    (2, 5000, 33),
    (10, 64, 256),
    (64, 256, 10),
    (33, 600, 3),
    (40, 2, 130),
    (70, 4100, 70),
    (9, 20, 512),
]
BIAS = Epilogue("x = x + bias;", "x = x + bias;", (("bias", "c"),))
ALL = Epilogue(
    "x = (x + each) * row + two;",
    "x = (x + each) * row + two;",
    (("each", "c"), ("row", "r"), ("two", "n")),
)


def array(values: Any) -> StridedArray:
    return pg.asarray(values, device="opencl")._array  # type: ignore[no-any-return]


def swapped(x: StridedArray) -> StridedArray:
    axes = range(len(x.shape))
    return permuted(x, (*axes[:-2], axes[-1], axes[-2]))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize(("n", "k", "m"), SIZES)
def test_products(n: int, k: int, m: int, batch: tuple[int, ...], dtype: str) -> None:
    """Both operands as they are and transposed, the second broadcast; bias, elements, numbers of rows at the end."""
    if batch and n * k * m > 200_000:
        pytest.skip("large matrices stand alone")
    rng = np.random.default_rng(n)
    a = rng.integers(-4, 5, (*batch, n, k)).astype(dtype)
    b = rng.integers(-4, 5, (*batch[1:], k, m)).astype(dtype)
    bias, row = rng.integers(-4, 5, m).astype(dtype), rng.integers(-4, 5, (n, 1)).astype(dtype)
    each = rng.integers(-4, 5, (*batch, n, m)).astype(dtype)
    wanted = a @ b
    for left, right in itertools.product((False, True), repeat=2):
        x = swapped(array(a.swapaxes(-1, -2).copy())) if left else array(a)
        y = swapped(array(b.swapaxes(-1, -2).copy())) if right else array(b)
        out = empty(x.device, (*batch, n, m), x.dtype)

        def got(*tail: Any, x: StridedArray = x, y: StridedArray = y, out: StridedArray = out) -> Any:
            return get_backend("opencl").to_host(multiply(x, y, out, *tail))

        np.testing.assert_array_equal(got(), wanted)
        np.testing.assert_array_equal(got(BIAS, [array(bias)]), wanted + bias)
        np.testing.assert_array_equal(got(ALL, [array(each), array(row), 2]), (wanted + each) * row + 2)


def test_batches_of_any_strides() -> None:
    """Three axes that no two take the place of."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 5, (3, 2, 4, 20, 18)), rng.integers(-4, 5, (4, 20, 2, 17, 3))
    x = pg.permute_dims(pg.asarray(a, dtype="float32", device="opencl"), (2, 0, 1, 4, 3))
    y = pg.permute_dims(pg.asarray(b, dtype="float32", device="opencl"), (0, 4, 2, 1, 3))
    wanted = a.transpose(2, 0, 1, 4, 3) @ b.transpose(0, 4, 2, 1, 3)
    np.testing.assert_array_equal((x @ y).numpy(), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("shape", "m"), [((5, 33), 40), ((2, 3, 20), 7), ((64, 48), 10), ((0, 4), 3), ((3, 0), 17)]
)
def test_linear(shape: tuple[int, ...], m: int, biased: bool, dtype: str) -> None:
    rng = np.random.default_rng(m)
    hosts = [rng.integers(-2, 3, s).astype(np.float64) for s in (shape, (m, shape[-1]), (m,))]
    results = []
    for device, kind in (("numpy", "float64"), ("opencl", dtype)):
        x, w, b = (pg.asarray(h, dtype=kind, device=device).requires_grad_() for h in hosts)
        out = pg.linear(x, w, b if biased else None)
        out.backward(pg.ones(out.shape, dtype=kind, device=device))
        found = [out, x.grad, w.grad, *([b.grad] if biased else [])]
        results.append([v.numpy().astype(np.float64) for v in found if v is not None])
    assert len(results[1]) == 3 + biased
    for wanted, got in zip(*results, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    a, b = np.ones((70, 40), np.float32), np.ones((40, 50), np.float32)
    a[3, 5], b[7, 49] = np.nan, np.inf
    got = (pg.asarray(a, device="opencl") @ pg.asarray(b, device="opencl")).numpy()
    np.testing.assert_array_equal(np.isnan(got), np.arange(70)[:, None] == np.full((1, 50), 3))
    np.testing.assert_array_equal(np.isinf(got), (np.arange(50) == 49) & (np.arange(70)[:, None] != 3))


def test_a_sum_is_the_same_at_every_run() -> None:
    rng = np.random.default_rng(0)
    x = pg.asarray(rng.standard_normal((20, 9000)).astype(np.float32), device="opencl")
    y = pg.asarray(rng.standard_normal((9000, 20)).astype(np.float32), device="opencl")
    first = (x @ y).numpy()
    np.testing.assert_allclose(first, x.numpy().astype(np.float64) @ y.numpy(), rtol=1e-4, atol=1e-3)
    for _ in range(3):
        np.testing.assert_array_equal((x @ y).numpy(), first)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "float16"])
@pytest.mark.parametrize("shape", [(16, 16), (17, 33), (3, 40, 21), (2, 3, 50, 64), (5, 7), (100, 3)])
def test_transposed_copies(shape: tuple[int, ...], dtype: str) -> None:
    host = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    axes = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    x = pg.permute_dims(pg.asarray(host, device="opencl"), axes)
    np.testing.assert_array_equal(pg.reshape(x, (-1,)).numpy(), host.transpose(axes).reshape(-1))
