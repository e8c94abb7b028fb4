"""Convolutions and their derivatives, with whole numbers, held against NumPy's in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg

# x, weight, attributes: few and many channels, what is left over of tiles, groups, one to three axes, gaps, no padding.
CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 1, 9, 28), (16, 1, 3, 3), {"padding": 1}),
    ((2, 3, 10, 11), (33, 3, 3, 3), {"padding": 1}),
    ((2, 16, 7, 14), (64, 16, 3, 3), {"padding": 1}),
    ((1, 20, 8, 9), (17, 20, 3, 2), {"padding": ((1, 0), (2, 1)), "dilation": (2, 1)}),
    ((2, 17, 12, 10), (70, 17, 3, 3), {"stride": 2, "padding": 1}),
    ((2, 18, 11, 13), (16, 18, 2, 4), {"stride": (3, 2), "dilation": (1, 2)}),
    ((2, 32, 6, 5), (5, 32, 3, 3), {"padding": 2}),
    ((2, 16, 5, 6), (32, 16, 1, 1), {}),
    ((2, 16, 7, 6), (20, 16, 1, 1), {"stride": 2}),
    ((2, 40, 6, 7), (34, 20, 3, 3), {"padding": 1, "groups": 2}),
    ((2, 6, 6, 7), (6, 2, 3, 3), {"padding": 1, "groups": 3}),
    ((2, 8, 6, 6), (8, 1, 3, 3), {"padding": 1, "groups": 8}),
    ((3, 16, 1, 1), (16, 16, 1, 1), {}),
    ((2, 16, 3, 3), (16, 16, 3, 3), {}),
    ((2, 16, 23), (18, 16, 5), {"stride": 2, "padding": 3}),
    ((2, 3, 50), (16, 3, 4), {"stride": 4}),
    ((1, 16, 5, 4, 6), (16, 16, 3, 2, 3), {"padding": 1, "stride": (1, 2, 1)}),
    ((1, 2, 4, 5, 3), (3, 2, 2, 2, 2), {}),
    ((0, 16, 5, 5), (16, 16, 3, 3), {}),
]


def results(device: str, dtype: str, hosts: list[Any], attributes: dict[str, Any]) -> list[Any]:
    x, weight, bias = (pg.asarray(h, dtype=dtype, device=device).requires_grad_() for h in hosts)
    out = pg.conv(x, weight, bias, **attributes)
    ct = np.random.default_rng(1).integers(-2, 3, out.shape)
    out.backward(pg.asarray(ct, dtype=dtype, device=device))
    found = [out.numpy(), *(v.grad.numpy() for v in (x, weight, bias) if v.grad is not None)]
    with pg.no_grad():
        more = pg.conv_transpose(out.detach(), weight.detach(), **attributes) if out.size else out
        other = pg.conv_weight(x.detach(), out.detach(), kernel_size=weight.shape[2:], **attributes)
    return [
        *(np.asarray(v, np.float64) for v in found),
        *(np.asarray(v.numpy(), np.float64) for v in (more, other)),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("x", "weight", "attributes"), CASES)
def test_convolutions(x: Any, weight: Any, attributes: dict[str, Any], dtype: str) -> None:
    rng = np.random.default_rng(len(x))
    hosts = [rng.integers(-2, 3, s) for s in (x, weight, weight[:1])]
    wanted = results("numpy", "float64", hosts, attributes)
    got = results("opencl", dtype, hosts, attributes)
    assert len(got) == len(wanted) == 6
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats(dtype: str) -> None:
    """Computed in float32, rounded once: small whole numbers are exact."""
    rng = np.random.default_rng(0)
    hosts = [rng.integers(-1, 2, s) for s in ((1, 16, 4, 5), (16, 16, 2, 2), (16,))]
    out = [
        pg.conv(*(pg.asarray(h, dtype=d, device=v) for h in hosts))
        for v, d in (("numpy", "float64"), ("opencl", dtype))
    ]
    assert out[1].dtype is getattr(pg, dtype)
    np.testing.assert_array_equal(out[1].numpy().astype(np.float64), out[0].numpy())


def test_images_channels_last_are_read_as_they_are() -> None:
    rng = np.random.default_rng(0)
    host, weight = rng.integers(-2, 3, (2, 9, 8, 20)), rng.integers(-2, 3, (16, 20, 3, 3))
    x = pg.permute_dims(pg.asarray(host, dtype="float32", device="opencl"), (0, 3, 1, 2))
    w = pg.asarray(weight, dtype="float32", device="opencl")
    wanted = pg.conv(
        pg.asarray(host.transpose(0, 3, 1, 2).copy(), dtype="float64"),
        pg.asarray(weight, dtype="float64"),
        padding=1,
    )
    np.testing.assert_array_equal(pg.conv(x, w, padding=1).numpy(), wanted.numpy())


def test_what_is_not_finite() -> None:
    """Zeros of the padding are multiplied too: infinite weights give NaN there, as the body has it."""
    x, weight = np.ones((1, 16, 4, 4), np.float32), np.ones((16, 16, 3, 3), np.float32)
    weight[2, 3, 0, 0] = np.inf
    outs = [
        pg.conv(pg.asarray(x, device=d), pg.asarray(weight, device=d), padding=1).numpy()
        for d in ("numpy", "opencl")
    ]
    np.testing.assert_array_equal(outs[1], outs[0])


def test_a_weight_is_the_same_at_every_run() -> None:
    rng = np.random.default_rng(0)
    x = pg.asarray(rng.standard_normal((8, 16, 14, 14)).astype(np.float32), device="opencl")
    y = pg.asarray(rng.standard_normal((8, 16, 14, 14)).astype(np.float32), device="opencl")
    first = pg.conv_weight(x, y, kernel_size=3, padding=1).numpy()
    for _ in range(3):
        np.testing.assert_array_equal(pg.conv_weight(x, y, kernel_size=3, padding=1).numpy(), first)
