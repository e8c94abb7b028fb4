"""Convolution, its transpose and their gradients against loops over the definition in float64."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import signal

import plugrad as pg
from plugrad import ops
from plugrad.autograd.check import gradcheck
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from support.oracles import FLOATING, assert_same, by_body, tensor

TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 1e-13}

# x shape, weight shape, attributes
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "1d": ((2, 3, 11), (4, 3, 3), {}),
    "1d all attributes": (
        (2, 4, 12),
        (6, 2, 4),
        {"stride": 3, "padding": ((2, 1),), "dilation": 2, "groups": 2},
    ),
    "2d": ((2, 3, 6, 7), (4, 3, 3, 2), {"padding": 1}),
    "2d per axis": (
        (2, 3, 8, 7),
        (2, 3, 2, 3),
        {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
    ),
    "2d pairs": ((1, 2, 6, 6), (3, 2, 3, 3), {"stride": 2, "padding": ((0, 2), (1, 0))}),
    "1x1": ((3, 5, 4, 4), (2, 5, 1, 1), {}),
    "1x1 strided": ((3, 5, 4, 5), (2, 5, 1, 1), {"stride": 2}),
    "groups": ((2, 6, 5, 5), (9, 2, 3, 3), {"padding": 1, "groups": 3}),
    "depthwise": ((2, 4, 6, 5), (8, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 4}),
    "stride beyond the kernel": ((2, 2, 9), (3, 2, 2), {"stride": 4}),
    "padding beyond the kernel": ((1, 2, 4), (3, 2, 2), {"padding": 3}),
    "kernel as large as the input": ((2, 3, 4, 4), (5, 3, 4, 4), {}),
    "3d": ((1, 2, 5, 4, 6), (3, 2, 3, 2, 2), {"stride": (1, 2, 2), "padding": (1, 0, 1)}),
    "3d groups": ((1, 4, 3, 4, 4), (2, 2, 2, 2, 2), {"dilation": (1, 2, 1), "groups": 2}),
    "no images": ((0, 2, 5, 5), (3, 2, 3, 3), {"padding": 1}),
    "no channels": ((2, 0, 5), (3, 0, 3), {}),
    "no output channels": ((2, 3, 5), (0, 3, 3), {}),
}


def geometry(x: Any, weight: Any, attributes: dict[str, Any]) -> Any:
    """Stride, padding pairs, dilation, groups and the number of windows on each axis."""
    count = len(x) - 2

    def each(value: Any) -> tuple[int, ...]:
        return tuple(value) if isinstance(value, tuple) else (value,) * count

    stride, dilation = each(attributes.get("stride", 1)), each(attributes.get("dilation", 1))
    padding = [p if isinstance(p, tuple) else (p, p) for p in each(attributes.get("padding", 0))]
    space = [
        (n + a + b - d * (k - 1) - 1) // s + 1
        for n, (a, b), d, k, s in zip(x[2:], padding, dilation, weight[2:], stride, strict=True)
    ]
    return stride, padding, dilation, attributes.get("groups", 1), space


def direct(x: np.ndarray, weight: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    """Cross-correlation as its definition says."""
    stride, padding, dilation, groups, space = geometry(x.shape, weight.shape, attributes)
    around = np.pad(x, ((0, 0), (0, 0), *padding))
    outs, inner, *kernel = weight.shape
    y = np.zeros((len(x), outs, *space))
    for o, c in product(range(outs), range(inner)):
        channel = o // (outs // groups) * inner + c
        for tap, at in product(product(*map(range, kernel)), product(*map(range, space))):
            where = (i * s + t * d for i, s, t, d in zip(at, stride, tap, dilation, strict=True))
            y[:, o, *at] += around[:, channel, *where] * weight[o, c, *tap]
    return y


def adjoint(x: Any, weight: np.ndarray, ct: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    """The adjoint of `direct` in its data of shape ``x``: each product goes back to where its factor came from."""
    stride, padding, dilation, groups, _ = geometry(x, weight.shape, attributes)
    space = ct.shape[2:]
    around = np.zeros((*x[:2], *(a + n + b for n, (a, b) in zip(x[2:], padding, strict=True))))
    outs, inner, *kernel = weight.shape
    for o, c in product(range(outs), range(inner)):
        channel = o // (outs // groups) * inner + c
        for tap, at in product(product(*map(range, kernel)), product(*map(range, space))):
            where = (i * s + t * d for i, s, t, d in zip(at, stride, tap, dilation, strict=True))
            around[:, channel, *where] += ct[:, o, *at] * weight[o, c, *tap]
    return around[:, :, *(slice(a, a + n) for n, (a, _) in zip(x[2:], padding, strict=True))]


def weighted(x: np.ndarray, weight: Any, ct: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    """The adjoint of `direct` in its weight of shape ``weight``."""
    stride, padding, dilation, groups, _ = geometry(x.shape, weight, attributes)
    space = ct.shape[2:]
    around = np.pad(x, ((0, 0), (0, 0), *padding))
    outs, inner, *kernel = weight
    dw = np.zeros(weight)
    for o, c in product(range(outs), range(inner)):
        channel = o // (outs // groups) * inner + c
        for tap, at in product(product(*map(range, kernel)), product(*map(range, space))):
            where = (i * s + t * d for i, s, t, d in zip(at, stride, tap, dilation, strict=True))
            dw[o, c, *tap] += (around[:, channel, *where] * ct[:, o, *at]).sum()
    return dw


def close(got: Any, expected: np.ndarray, dtype: str = "float64") -> None:
    assert got is not None
    assert got.dtype.name == dtype
    assert got.shape == expected.shape
    scale = np.abs(expected).max(initial=1.0)
    tolerance = TOLERANCE[dtype]
    host = got.numpy().astype(np.float64)
    np.testing.assert_allclose(host / scale, expected / scale, rtol=tolerance, atol=tolerance)


def wide(*tensors: pg.Tensor) -> list[np.ndarray]:
    return [t.detach().numpy().astype(np.float64) for t in tensors]


def column(bias: np.ndarray, ndim: int) -> np.ndarray:
    return bias.reshape(-1, *(1,) * (ndim - 2))


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_conv(case: Any, dtype: str, device: str) -> None:
    shape, weight_shape, attributes = case
    rng = np.random.default_rng(0)
    x, weight, bias = (
        tensor(rng.standard_normal(s), dtype, device).requires_grad_()
        for s in (shape, weight_shape, weight_shape[:1])
    )
    hx, hw, hb = wide(x, weight, bias)
    expected = direct(hx, hw, attributes)
    close(pg.conv(x, weight, **attributes), expected, dtype)
    out = pg.conv(x, weight, bias, **attributes)
    close(out, expected + column(hb, out.ndim), dtype)
    ct = tensor(rng.standard_normal(out.shape), dtype, device)
    out.backward(ct)
    (g,) = wide(ct)
    close(x.grad, adjoint(shape, hw, g, attributes), dtype)
    close(weight.grad, weighted(hx, weight_shape, g, attributes), dtype)
    close(bias.grad, g.sum((0, *range(2, g.ndim))), dtype)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bodies(case: Any, device: str) -> None:
    """What a device without kernels of its own computes."""
    shape, weight_shape, attributes = case
    rng = np.random.default_rng(1)
    stride, padding, dilation, groups, space = geometry(shape, weight_shape, attributes)
    normal = {"stride": stride, "padding": tuple(padding), "dilation": dilation, "groups": groups}
    hx, hw, hb, g = (
        rng.standard_normal(s)
        for s in (shape, weight_shape, weight_shape[:1], (shape[0], weight_shape[0], *space))
    )
    x, weight, bias, ct = (tensor(h, "float64", device) for h in (hx, hw, hb, g))
    close(by_body(pg.conv, x, weight, bias, **normal), direct(hx, hw, attributes) + column(hb, hx.ndim))
    out = by_body(ops.conv_weight, x, ct, kernel_size=weight_shape[2:], **normal)
    close(out, weighted(hx, weight_shape, g, attributes))
    rest = tuple(
        (n + a + b - d * (k - 1) - 1) % s
        for n, (a, b), d, k, s in zip(shape[2:], padding, dilation, weight_shape[2:], stride, strict=True)
    )
    close(
        by_body(ops.conv_transpose, ct, weight, None, output_padding=rest, **normal),
        adjoint(shape, hw, g, attributes),
    )


def test_conv_against_scipy(device: str) -> None:
    rng = np.random.default_rng(2)
    x, kernel = rng.standard_normal((9, 8)), rng.standard_normal((4, 3))
    got = pg.conv(*(pg.asarray(v[None, None], device=device) for v in (x, kernel)))
    np.testing.assert_allclose(
        got.numpy()[0, 0], signal.correlate(x, kernel, "valid"), rtol=1e-12, atol=1e-12
    )
    back = pg.conv_transpose(*(pg.asarray(v[None, None], device=device) for v in (x, kernel)))
    np.testing.assert_allclose(back.numpy()[0, 0], signal.convolve(x, kernel, "full"), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_and_valid(size: int, kernel: int, dilation: int, device: str) -> None:
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((2, 3, size)), rng.standard_normal((4, 3, kernel))
    a, b = pg.asarray(x, device=device), pg.asarray(weight, device=device)
    total = dilation * (kernel - 1)
    same = pg.conv(a, b, padding="same", dilation=dilation)
    assert same.shape == (2, 4, size)
    pairs = ((total // 2, total - total // 2),)
    close(same, direct(x, weight, {"padding": pairs, "dilation": dilation}))
    valid = pg.conv(a, b, padding="valid", dilation=dilation)
    close(valid, direct(x, weight, {"dilation": dilation}))


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize(
    ("shape", "weight_shape", "attributes"),
    [
        ((2, 3, 5), (3, 4, 3), {}),
        ((2, 4, 4), (4, 3, 3), {"stride": 3, "padding": ((2, 1),), "output_padding": 2, "groups": 2}),
        ((2, 4, 3), (4, 3, 2), {"stride": 4, "dilation": 3, "output_padding": 1}),
        ((1, 3, 4, 3), (3, 2, 4, 4), {"stride": 2, "padding": 1}),
        (
            (2, 4, 3, 4),
            (4, 1, 3, 2),
            {"stride": (1, 2), "padding": (2, 0), "output_padding": (0, 1), "groups": 4},
        ),
        ((1, 2, 2, 3, 2), (2, 3, 2, 2, 3), {"stride": 2, "padding": (1, 0, 1), "output_padding": 1}),
        ((1, 2, 3), (2, 2, 2), {"stride": 4, "padding": 3}),
        ((2, 3, 4), (3, 2, 2), {"dilation": 3, "output_padding": 2}),
        (
            (2, 3, 4, 3),
            (3, 2, 2, 3),
            {"stride": (2, 1), "dilation": (4, 3), "padding": 1, "output_padding": (3, 2)},
        ),
        ((0, 2, 3), (2, 2, 2), {}),
    ],
)
def test_conv_transpose(shape: Any, weight_shape: Any, attributes: Any, dtype: str, device: str) -> None:
    rng = np.random.default_rng(4)
    attributes = dict(attributes)
    plain = {k: v for k, v in attributes.items() if k != "output_padding"}
    extra = attributes.get("output_padding", 0)
    extras = extra if isinstance(extra, tuple) else (extra,) * (len(shape) - 2)
    groups = attributes.get("groups", 1)
    outs = weight_shape[1] * groups
    x, weight, bias = (
        tensor(rng.standard_normal(s), dtype, device).requires_grad_() for s in (shape, weight_shape, (outs,))
    )
    hx, hw, hb = wide(x, weight, bias)
    stride, padding, dilation, _, _ = geometry(shape, weight_shape, plain)
    size = tuple(
        (n - 1) * s - a - b + d * (k - 1) + 1 + e
        for n, s, (a, b), d, k, e in zip(
            shape[2:], stride, padding, dilation, weight_shape[2:], extras, strict=True
        )
    )
    target = (shape[0], outs, *size)
    out = pg.conv_transpose(x, weight, bias, **attributes)
    close(out, adjoint(target, hw, hx, plain) + column(hb, len(shape)), dtype)
    ct = tensor(rng.standard_normal(target), dtype, device)
    out.backward(ct)
    (g,) = wide(ct)
    close(x.grad, direct(g, hw, plain)[tuple(map(slice, shape))], dtype)
    close(weight.grad, weighted(g, weight_shape, hx, plain), dtype)
    close(bias.grad, g.sum((0, *range(2, g.ndim))), dtype)


def test_operands_of_any_strides(device: str) -> None:
    rng = np.random.default_rng(5)
    x = pg.asarray(rng.standard_normal((2, 9, 8, 3)), device=device)
    weight = pg.asarray(rng.standard_normal((3, 3, 3, 4)), device=device)
    last, turned = pg.permute_dims(x, (0, 3, 1, 2)), pg.permute_dims(weight, (3, 2, 0, 1))
    hx, hw = x.numpy().transpose(0, 3, 1, 2), weight.numpy().transpose(3, 2, 0, 1)
    close(pg.conv(last, turned, padding=1), direct(hx, hw, {"padding": 1}))
    close(pg.conv(last[:, ::-1, ::2], turned[..., ::-1]), direct(hx[:, ::-1, ::2], hw[..., ::-1], {}))
    one = pg.broadcast_to(pg.asarray(np.ones((1, 1, 1, 1)), device=device), (2, 3, 9, 8))
    close(pg.conv(one, turned), direct(np.ones((2, 3, 9, 8)), hw, {}))
    leaf = last.detach().requires_grad_()
    pg.sum(pg.conv(leaf, turned, stride=2)).backward()
    close(leaf.grad, adjoint(hx.shape, hw, np.ones((2, 4, 4, 3)), {"stride": 2}))


def test_chains_of_layouts(device: str) -> None:
    """A result feeds reshapes, reductions and another convolution, whatever layout it has in memory."""
    rng = np.random.default_rng(6)
    x, w1, w2 = (rng.standard_normal(s) for s in ((2, 3, 6, 6), (4, 3, 3, 3), (2, 4, 3, 3)))
    a, b, c = (pg.asarray(v, device=device).requires_grad_() for v in (x, w1, w2))
    out = pg.conv(pg.tanh(pg.conv(a, b)), c)
    inner = np.tanh(direct(x, w1, {}))
    expected = direct(inner, w2, {})
    close(out.reshape(2, -1), expected.reshape(2, -1))
    out.backward(pg.asarray(np.ones(out.shape), device=device))
    middle = adjoint(inner.shape, w2, np.ones(out.shape), {}) * (1 - inner**2)
    close(a.grad, adjoint(x.shape, w1, middle, {}))
    close(b.grad, weighted(x, w1.shape, middle, {}))


def test_infinities_make_no_noise(device: str) -> None:
    x = np.full((8, 16, 32, 32), 3e38, np.float32)
    x[:, 0, 0, 0], x[:, 1, 0, 0] = np.inf, -np.inf
    for groups in (1, 2, 16):
        weight = pg.asarray(np.ones((16, 16 // groups, 3, 3), np.float32), device=device).requires_grad_()
        out = pg.conv(pg.asarray(x, device=device), weight, padding=1, groups=groups)
        assert np.isinf(out.detach().numpy()[:, :, 2:, 2:]).all()
        assert np.isnan(out.detach().numpy()[:, 0, :2, :2]).all() == (groups < 16)
        out.backward(pg.asarray(np.full(out.shape, 3e38, np.float32), device=device))


def test_16_bits_accumulate_in_float32(device: str) -> None:
    x, weight = (tensor(np.ones(s), "bfloat16", device) for s in ((1, 512, 3, 3), (1, 512, 3, 3)))
    assert_same(pg.conv(x, weight), [[[[4608.0]]]])


def test_autograd_of_higher_orders(device: str) -> None:
    rng = np.random.default_rng(7)
    x, weight = (pg.asarray(rng.standard_normal(s), device=device) for s in ((1, 2, 4), (2, 1, 2)))
    assert gradcheck(lambda a, b: pg.tanh(pg.conv(a, b, stride=2, padding=1, groups=2)), (x, weight), order=3)
    assert gradcheck(lambda a, b: pg.tanh(pg.conv_transpose(a, b, stride=2)), (x, weight), order=3)


@pytest.mark.parametrize(
    ("x", "weight", "attributes", "error", "message"),
    [
        ((2, 3), (4, 3), {}, ShapeError, r"x has shape \(2, 3\), takes \(N, C, spatial\.\.\.\) with 1 to 3"),
        ((1,) * 6, (1,) * 6, {}, ShapeError, "1 to 3 spatial axes"),
        ((2, 3, 0), (4, 3, 1), {"padding": 1}, ShapeError, "none empty"),
        ((2, 3, 5, 5), (4, 3, 3), {}, ShapeError, r"weight has shape \(4, 3, 3\), takes .* kernel of 2 axes"),
        ((2, 3, 5), (4, 3, 0), {}, ShapeError, "none empty"),
        ((2, 3, 5), (4, 2, 3), {}, ShapeError, r"takes \(O, C / groups, kernel\.\.\.\)"),
        ((2, 4, 5), (3, 2, 3), {"groups": 2}, ShapeError, "groups dividing C and O"),
        ((2, 3, 5), (4, 3, 3), {"groups": 0}, ArgumentError, "groups takes an integer of at least 1, got 0"),
        (
            (2, 3, 5),
            (4, 3, 6),
            {},
            ShapeError,
            r"kernel \(6,\) spans \(6,\), more than the spatial shape \(5,\)$",
        ),
        (
            (2, 3, 5),
            (4, 3, 4),
            {"dilation": 3, "padding": 2},
            ShapeError,
            r"kernel \(4,\) with dilation \(3,\) spans \(10,\), more than the spatial shape \(5,\), \(9,\) with its padding",
        ),
        ((2, 3, 5), (4, 3, 3), {"stride": 0}, ArgumentError, "stride takes an integer of at least 1"),
        ((2, 3, 5), (4, 3, 3), {"stride": (1, 1)}, ArgumentError, "one for each of 1 spatial axes, got"),
        ((2, 3, 5), (4, 3, 3), {"dilation": 1.5}, ArgumentError, "dilation takes an integer, got 1.5"),
        ((2, 3, 5), (4, 3, 3), {"padding": -1}, ArgumentError, "padding takes an integer of at least 0"),
        ((2, 3, 5), (4, 3, 3), {"padding": ((1, 2), (3, 4))}, ArgumentError, "padding takes an integer"),
        (
            (2, 3, 5),
            (4, 3, 3),
            {"padding": "full"},
            ArgumentError,
            "takes integers, 'same' or 'valid', got 'full'",
        ),
        ((2, 3, 5), (4, 3, 3), {"padding": "same", "stride": 2}, ArgumentError, "'same' takes stride 1"),
    ],
)
def test_conv_errors(x: Any, weight: Any, attributes: Any, error: Any, message: str, device: str) -> None:
    with pytest.raises(error, match=message) as caught:
        pg.conv(pg.zeros(x, device=device), pg.zeros(weight, device=device), **attributes)
    assert str(caught.value).startswith("conv: ")


@pytest.mark.parametrize(
    ("x", "weight", "attributes", "error", "message"),
    [
        ((2, 3), (3, 4), {}, ShapeError, "1 to 3 spatial axes"),
        ((2, 3, 5), (4, 3, 3), {}, ShapeError, r"takes \(C, O / groups, kernel\.\.\.\)"),
        ((2, 3, 5), (3, 3, 3), {"groups": 2}, ShapeError, "groups dividing C"),
        ((2, 3, 5), (3, 3, 3, 3), {}, ShapeError, "kernel of 1 axes"),
        ((2, 3, 2), (3, 3, 3), {"padding": 2}, ShapeError, r"leaves nothing of the result: .* \(0,\)"),
        ((2, 3, 5), (3, 3, 3), {"stride": 2, "output_padding": 2}, ArgumentError, "less than the stride"),
        ((2, 3, 5), (3, 3, 3), {"dilation": 2, "output_padding": 2}, ArgumentError, "or the dilation"),
        ((2, 3, 5), (3, 3, 3), {"output_padding": -1}, ArgumentError, "integer of at least 0"),
        ((2, 3, 5), (3, 3, 3), {"padding": "same"}, ArgumentError, "padding takes an integer"),
    ],
)
def test_conv_transpose_errors(
    x: Any, weight: Any, attributes: Any, error: Any, message: str, device: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        pg.conv_transpose(pg.zeros(x, device=device), pg.zeros(weight, device=device), **attributes)
    assert str(caught.value).startswith("conv_transpose: ")


def test_other_errors(device: str) -> None:
    def t(*shape: int) -> pg.Tensor:
        return pg.zeros(shape, device=device)

    with pytest.raises(ShapeError, match=r"conv: bias has shape \(3,\), takes \(4,\), one for each output"):
        pg.conv(t(2, 3, 5), t(4, 3, 3), t(3))
    with pytest.raises(ShapeError, match=r"conv_transpose: bias has shape \(3,\), takes \(6,\)"):
        pg.conv_transpose(t(2, 4, 5), t(4, 3, 3), t(3), groups=2)
    with pytest.raises(DTypeError, match="conv: x is int64; takes float16"):
        pg.conv(
            pg.asarray(np.zeros((1, 1, 3), int), device=device),
            pg.asarray(np.zeros((1, 1, 3), int), device=device),
        )
    with pytest.raises(ShapeError, match=r"conv_weight: y has shape \(2, 4, 4\), takes \(2, 4, 3\)"):
        ops.conv_weight(t(2, 3, 5), t(2, 4, 4), kernel_size=3)
    with pytest.raises(
        ShapeError, match=r"conv_weight: got x of shape \(2, 3, 5\) and y of shape \(1, 4, 3\)"
    ):
        ops.conv_weight(t(2, 3, 5), t(1, 4, 3), kernel_size=3)
    with pytest.raises(ShapeError, match=r"conv_weight: the kernel \(6,\) spans"):
        ops.conv_weight(t(2, 3, 5), t(2, 4, 1), kernel_size=6)
