"""Activations at the limits, and in every size that is computed differently."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plugrad import ops
from plugrad.dtypes import as_dtype
from plugrad.spec import Device, Spec
from plugrad_numpy import _special as special
from plugrad_numpy.kernels import table

SIZES = [8, 2048, 5000, 40_000, 300_000]
ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 3.5]


def kernel(op: Any, *arrays: Any, **attributes: Any) -> Any:
    specs = [Spec(a.shape, as_dtype(a.dtype.name), Device("numpy")) for a in arrays]
    found = table.find(op, specs, attributes)
    assert found is not None
    return found.function(*arrays, **attributes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_relu_is_the_maximum_bit_for_bit(size: int, dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal(size).astype(dtype)
    x[::7] = np.resize(np.array(ODD, dtype), x[::7].size)
    x[::21] = -np.abs(x[::21])
    before = x.copy()
    for got in (kernel(ops.relu, x), kernel(ops.relu, np.asfortranarray(x.reshape(4, -1))).reshape(-1)):
        np.testing.assert_array_equal(got.view(np.uint8), np.maximum(x, x.dtype.type(0)).view(np.uint8))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("size", SIZES)
def test_several_ufuncs_give_the_same_in_every_size(size: int) -> None:
    rng = np.random.default_rng(0)
    x, ct = (3 * rng.standard_normal((2, size))).astype(np.float32)
    x[:3] = 30, -30, 100
    cases: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (ops.relu.vjp, (ct, np.maximum(x, 0)), {}),
        (ops.leaky_relu.vjp, (ct, x), {"negative_slope": 0.1}),
        (ops.elu, (x,), {"alpha": 0.7}),
        (ops.elu.vjp, (ct, x), {"alpha": 0.7}),
        (ops.sigmoid, (x,), {}),
        (ops.silu.vjp, (ct, x), {}),
        (ops.softplus, (x,), {"beta": 0.5, "threshold": 20.0}),
        (ops.softplus.vjp, (ct, x), {"beta": 0.5, "threshold": 20.0}),
        (ops.gelu, (x,), {"approximate": "tanh"}),
        (ops.gelu.vjp, (ct, x), {"approximate": "tanh"}),
        (ops.gelu.vjp, (ct, x), {"approximate": "none"}),
    ]
    for op, arrays, attributes in cases:
        got = kernel(op, *arrays, **attributes)
        pieces = [kernel(op, *(a[i : i + 1000] for a in arrays), **attributes) for i in range(0, size, 1000)]
        np.testing.assert_allclose(got, np.concatenate(pieces), rtol=1e-5, atol=1e-6, err_msg=op.name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_at_the_limits(dtype: Any) -> None:
    x = np.array([np.inf, 1e30, 50, 9.5, -9.5, -50, -1e30, -np.inf], dtype)
    ones = np.ones_like(x)
    slope = special.gelu_tanh_vjp(ones, x)
    np.testing.assert_allclose(slope, [1, 1, 1, 1, 0, 0, 0, 0], atol=1e-20)
    with np.errstate(invalid="ignore"):
        wanted = x * (x > 0)
    np.testing.assert_allclose(special.gelu_tanh(x), wanted, rtol=1e-6, atol=1e-20)
    assert np.isnan(special.gelu_tanh_vjp(ones, np.full_like(x, np.nan))).all()
