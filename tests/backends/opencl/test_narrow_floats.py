"""float16 and bfloat16: stored in 16 bits, computed in float32, rounded once."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.dtypes import as_dtype

NAMES = ["float16", "bfloat16"]
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, of NaN in bfloat16


def every(name: str) -> np.ndarray[Any, Any]:
    return np.arange(1 << 16, dtype=np.uint16).view(as_dtype(name).numpy)


def same(got: Any, wanted: Any) -> None:
    """Bit for bit, but for the bits of NaN."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    nan = np.isnan(wanted.astype(np.float32)) & np.isnan(got.astype(np.float32))
    np.testing.assert_array_equal(got.view(np.uint16)[~nan], wanted.view(np.uint16)[~nan])


@pytest.mark.parametrize("name", NAMES)
def test_widening_is_exact(name: str) -> None:
    values = every(name)
    x = pg.asarray(values, device="opencl")
    np.testing.assert_array_equal(pg.astype(x, "float32").numpy(), values.astype(np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_moving_keeps_the_bits(name: str) -> None:
    values = every(name).reshape(256, 256)
    x = pg.asarray(values, device="opencl")
    moved = pg.concat([pg.permute_dims(x, (1, 0))[::-1]], axis=0)
    np.testing.assert_array_equal(moved.numpy().view(np.uint16), values.T[::-1].view(np.uint16))


@pytest.mark.parametrize("source", ["float32", "float64", "int64"])
@pytest.mark.parametrize("name", NAMES)
def test_narrowing_rounds_once_to_even(name: str, source: str) -> None:
    """Numbers halfway between two neighbours, and one step of the source beside that: held against exact fractions."""
    wide = every(name).astype(np.float64)
    low = np.sort(wide[np.isfinite(wide) & (wide >= 2.0**9) & (wide < 60_000)])
    middle = (low[:-1] + low[1:]) / 2
    host: Any = np.concatenate([middle, -middle])
    if source == "int64":
        host = host.astype(np.int64)
        host = np.concatenate([host, host - 1, host + 1])
        if name == "bfloat16":
            host = np.concatenate([host, host * (1 << 33), host * (1 << 33) + 1, host * (1 << 33) - 1])
    else:
        host = host.astype(source)
        host = np.concatenate([host, np.nextafter(host, -np.inf), np.nextafter(host, np.inf)])
    got = pg.astype(pg.asarray(host, device="opencl"), name).numpy()

    lattice = [Fraction(float(v)) for v in np.unique(wide[np.isfinite(wide)])]
    values, bits = np.unique(wide[np.isfinite(wide)], return_index=True)
    places = np.searchsorted(values, host.astype(np.float64))
    patterns = np.flatnonzero(np.isfinite(wide))[bits]
    for given, result, place in zip(host.tolist(), got, places.tolist(), strict=True):
        near = [i for i in range(place - 2, place + 3) if 0 <= i < len(lattice)]
        best = min(near, key=lambda i: (abs(lattice[i] - Fraction(given)), int(patterns[i]) & 1))
        assert float(result) == values[best], given


@pytest.mark.parametrize("name", NAMES)
def test_neighbours(name: str) -> None:
    values = every(name)
    others = np.roll(values, 12345)
    x, y = pg.asarray(values, device="opencl"), pg.asarray(others, device="opencl")
    same(pg.nextafter(x, y).numpy(), np.nextafter(values, others))


@pytest.mark.parametrize("name", NAMES)
def test_sums_accumulate_in_float32(name: str) -> None:
    x = pg.ones((5000,), dtype=name, device="opencl")
    rounded = np.float32(5000).astype(as_dtype(name).numpy)
    assert x.sum().item() == float(rounded)
    assert (x[None, :] @ x[:, None]).item() == float(rounded)
    assert pg.cumulative_sum(x)[-1].item() == float(rounded)
