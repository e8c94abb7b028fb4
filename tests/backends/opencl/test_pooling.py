"""Windows over images in both orders, held against those of NumPy. The values are few, so that they tie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg


def on(values: Any, device: str, channels_last: bool = False) -> pg.Tensor:
    if not channels_last:
        return pg.asarray(values, device=device)
    order, back = (0, *range(2, values.ndim), 1), (0, values.ndim - 1, *range(1, values.ndim - 1))
    return pg.permute_dims(pg.asarray(values.transpose(order).copy(), device=device), back)


CASES = [
    ((2, 32, 8, 6), {"kernel_size": 2}),
    ((2, 19, 9, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((1, 40, 7, 9), {"kernel_size": (2, 3), "stride": (1, 2), "padding": ((1, 0), (1, 1))}),
    ((2, 17, 6, 5), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ((2, 20, 11), {"kernel_size": 4, "stride": 3}),
    ((1, 18, 4, 5, 6), {"kernel_size": 2, "stride": (2, 1, 2), "ceil_mode": True}),
    ((3, 1, 5, 5), {"kernel_size": 2}),
    ((0, 16, 4, 4), {"kernel_size": 2}),
]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("shape", "attributes"), CASES)
@pytest.mark.parametrize("pool", ["max", "dilated", "avg", "counted"])
def test_windows(pool: str, shape: Any, attributes: dict[str, Any], dtype: str, channels_last: bool) -> None:
    rng = np.random.default_rng(len(shape))
    values = rng.integers(-3, 4, shape).astype(dtype)
    if pool in ("max", "dilated"):
        values[rng.random(shape) < 0.05] = np.nan
        values[rng.random(shape) < 0.05] = -np.inf
    op, more = {
        "max": (pg.max_pool, {}),
        "dilated": (pg.max_pool, {"dilation": 2}),
        "avg": (pg.avg_pool, {}),
        "counted": (pg.avg_pool, {"count_include_pad": False}),
    }[pool]
    if pool == "dilated" and min(shape[2:]) < 5:
        pytest.skip("the window is larger than the image")
    results = []
    for device in ("numpy", "opencl"):
        x = on(values, device, channels_last and device == "opencl").requires_grad_()
        out = op(x, **attributes, **more)
        ct = np.random.default_rng(1).integers(-3, 4, out.shape).astype(dtype)
        out.backward(on(ct, device, channels_last and device == "opencl"))
        assert x.grad is not None
        results.append((out.numpy(), x.grad.numpy()))
    (out, grad), (ours, our_grad) = results
    tolerance = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-14}[dtype]
    np.testing.assert_allclose(ours, out, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(our_grad, grad, rtol=tolerance, atol=4 * tolerance)


def test_the_order_of_an_image_is_kept() -> None:
    """What lies channels last stays so, so that a chain of layers moves nothing."""
    x = on(np.zeros((2, 32, 8, 8), np.float32), "opencl", True)
    weight = on(np.zeros((16, 32, 3, 3), np.float32), "opencl")
    for out in (pg.max_pool(x, 2), pg.avg_pool(x, 2), pg.conv(x, weight, padding=1)):
        assert out._array.strides[1] == 1
