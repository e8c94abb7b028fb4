"""Products with packed weights of the NumPy backend, against `numpy.matmul`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plugrad_numpy.kernels._packed import Apart, Packed

# rows, depths of the pieces, columns
SIZES = {
    "blocks": (16, (256, 1, 64), 256),
    "two calls of blocks": (20, (1000, 24), 128),
    "narrow blocks": (8, (4000,), 48),
    "as it is": (3, (9000,), 20),
    "blocks and a rest": (5, (20, 1, 4), 100),
    "a rest": (3, (2, 1), 7),
    "one row": (1, (30, 1), 70),
    "no rows": (0, (3,), 70),
    "no columns": (2, (3,), 0),
}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [Packed, Apart])
@pytest.mark.parametrize("size", SIZES)
def test_products(size: str, kind: Any, dtype: str, scaled: bool) -> None:
    rows, depths, columns = SIZES[size]
    rng = np.random.default_rng(0)
    # One piece lies by columns, as the weight of a layer does, the next one by rows.
    pieces = [
        rng.standard_normal((columns, d)).T if i % 2 == 0 else rng.standard_normal((d, columns))
        for i, d in enumerate(depths)
    ]
    pieces = [p.astype(dtype, order="K") for p in pieces]
    x = rng.standard_normal((rows, sum(depths))).astype(dtype)
    scale = rng.standard_normal(columns).astype(dtype) if scaled else None
    # Rows of what is written lie in longer ones.
    out = np.full((rows, columns + 3), 7, dtype)
    weight = kind("test", pieces, rows, scale)
    weight.product(x, out[:, :columns])
    expected = x.astype(np.float64) @ np.concatenate(pieces).astype(np.float64)
    if scale is not None:
        expected *= scale
    bound = 64 * np.finfo(dtype).eps * np.sqrt(sum(depths))
    np.testing.assert_allclose(out[:, :columns], expected, rtol=bound, atol=8 * bound)
    assert (out[:, columns:] == 7).all()


def test_fewer_rows_than_announced() -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((50, 130))
    packed = Packed("test", [weight], 40)
    for rows in (1, 7, 40):
        x, out = rng.standard_normal((rows, 50)), np.empty((rows, 130))
        packed.product(x, out)
        np.testing.assert_allclose(out, x @ weight, rtol=1e-12, atol=1e-13)
