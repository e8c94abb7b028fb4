"""Constants and ranges: the numbers themselves, the dtypes that follow, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from support.oracles import assert_same, by_body, tensor

NAMES = [d.name for d in pg.dtypes.ALL]
NUMERIC = [d.name for d in pg.dtypes.NUMERIC]


@pytest.mark.parametrize("name", NAMES)
def test_constants(name: str, device: str) -> None:
    for made, value in ((pg.zeros, 0), (pg.ones, 1), (pg.empty, 0)):
        x = made((2, 3), dtype=name, device=device)
        assert (x.dtype.name, x.shape, str(x.device)) == (name, (2, 3), device)
        assert (x.numpy() == value).all()
        assert made(4, device=device).dtype is pg.dtypes.float32
    x = tensor([[1, 0]], name, device)
    for like, value in ((pg.zeros_like, 0), (pg.ones_like, 1), (pg.empty_like, 0)):
        assert (like(x).dtype, like(x).shape) == (x.dtype, (1, 2))
        assert (like(x).numpy() == value).all()
        assert like(x, dtype="int8").dtype is pg.dtypes.int8
    assert pg.full_like(x, 1).dtype is x.dtype


def test_full_takes_the_dtype_of_the_number(device: str) -> None:
    for value, name in ((True, "bool"), (3, "int64"), (2.5, "float32"), (np.float64(2.5), "float32")):
        x = pg.full((2,), value, device=device)
        assert x.dtype.name == name
        assert x.tolist() == [value, value]
    assert_same(pg.full((3,), -0.0, dtype="float64", device=device), [-0.0] * 3)
    assert_same(pg.full((), math.nan, device=device), math.nan)
    assert_same(pg.full((2,), 3, dtype="bfloat16", device=device), [3.0, 3.0])
    assert pg.full((2,), True, dtype="int8", device=device).tolist() == [1, 1]
    assert pg.full((0, 3), 1, device=device).shape == (0, 3)


def test_full_refuses_what_the_dtype_does_not_hold(device: str) -> None:
    with pytest.raises(
        DTypeError, match=r"full: 1\.5 is no value of int32; pass an int, or a floating dtype"
    ):
        pg.full((2,), 1.5, dtype="int32", device=device)
    with pytest.raises(ArgumentError, match="full: 256 is outside the range of uint8, 0 to 255"):
        pg.full((2,), 256, dtype="uint8", device=device)
    with pytest.raises(ArgumentError, match=r"full: fill_value takes a real number, got 1j"):
        pg.full((2,), 1j, device=device)
    with pytest.raises(ShapeError, match=r"full: shape \(-1,\) has a negative size"):
        pg.full(-1, 0, device=device)
    with pytest.raises(ArgumentError, match=r"full: shape takes an integer, got 2.0"):
        pg.full((2.0,), 0, device=device)


@pytest.mark.parametrize("name", NUMERIC)
def test_iota(name: str, device: str) -> None:
    assert_same(pg.iota(5, dtype=name, device=device), range(5))


def test_iota_refuses(device: str) -> None:
    with pytest.raises(ArgumentError, match="iota: length takes an integer of at least 0, got -1"):
        pg.iota(-1, device=device)
    with pytest.raises(DTypeError, match="iota: takes a numeric dtype, got bool"):
        pg.iota(3, dtype="bool", device=device)


@pytest.mark.parametrize(
    "numbers",
    [(5,), (0,), (-3,), (2, 9), (2, 9, 3), (9, 2, -3), (2, 9, -1), (3, 3), (0, 1, 5), (2.0,), (0.5, 3),
     (0, 1, 0.25), (3.5, -1, -0.5), (1.0, 1.0), (0, 1, 2.5), (-2, 2, 0.7)],
)  # fmt: skip
def test_arange(numbers: tuple[float, ...], device: str) -> None:
    x = pg.arange(*numbers, device=device)
    floating = any(isinstance(n, float) for n in numbers)
    assert x.dtype is (pg.dtypes.float32 if floating else pg.dtypes.int64)
    expected = np.arange(*numbers, dtype=np.float64)
    assert x.shape == expected.shape
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-6)
    start, stop, step = (0, numbers[0], 1) if len(numbers) == 1 else (*numbers, 1)[:3]
    body = by_body(pg.arange, start=start, stop=stop, step=step, dtype=x.dtype, device=x.device)
    np.testing.assert_allclose(body.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", NUMERIC)
def test_arange_of_every_dtype(name: str, device: str) -> None:
    x = pg.arange(3, 20, 4, dtype=name, device=device)
    assert_same(x, [3, 7, 11, 15, 19])
    body = by_body(pg.arange, start=20, stop=3, step=-4, dtype=x.dtype, device=x.device)
    assert_same(body, [20, 16, 12, 8, 4])
    assert_same(pg.arange(20, 3, -4, dtype=name, device=device), [20, 16, 12, 8, 4])


def test_arange_at_the_ends_of_64_bits(device: str) -> None:
    assert pg.arange(2**63 - 3, 2**63 - 1, device=device).tolist() == [2**63 - 3, 2**63 - 2]
    assert pg.arange(2**64 - 2, 2**64 - 4, -1, dtype="uint64", device=device).tolist() == [
        2**64 - 2,
        2**64 - 3,
    ]


def test_arange_refuses(device: str) -> None:
    with pytest.raises(ArgumentError, match="arange: step is 0; takes a positive or negative number"):
        pg.arange(0, 3, 0, device=device)
    with pytest.raises(ArgumentError, match="arange: stop takes a finite number, got inf"):
        pg.arange(0, math.inf, device=device)
    with pytest.raises(
        DTypeError, match=r"arange: int32 does not hold the steps of .*0.5.*; pass a floating dtype"
    ):
        pg.arange(0, 3, 0.5, dtype="int32", device=device)
    with pytest.raises(ArgumentError, match=r"arange: \(0, 299\) are outside the range of uint8, 0 to 255"):
        pg.arange(300, dtype="uint8", device=device)
    assert pg.arange(2.0, 4.0, dtype="int32", device=device).tolist() == [2, 3]


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize(
    ("start", "stop", "num"), [(0, 1, 7), (-2.5, 3, 12), (5, -5, 3), (2, 2, 4), (0, 1, 1)]
)
def test_linspace(start: float, stop: float, num: int, endpoint: bool, name: str, device: str) -> None:
    x = pg.linspace(start, stop, num, dtype=name, endpoint=endpoint, device=device)
    assert x.dtype.name == name
    expected = np.linspace(start, stop, num, endpoint=endpoint)
    body = by_body(
        pg.linspace,
        start=float(start),
        stop=float(stop),
        num=num,
        dtype=x.dtype,
        device=x.device,
        endpoint=endpoint,
    )
    span = max(abs(start), abs(stop))
    for got in (x.numpy().astype(np.float64), body.numpy().astype(np.float64)):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2 * float(pg.dtypes.finfo(name).eps) * span)
        assert got[0] == start
        if endpoint and num > 1:
            assert got[-1] == stop


def test_linspace_does_not_overflow(device: str) -> None:
    top = float(np.finfo(np.float64).max)
    x = pg.linspace(-top, top, 3, dtype="float64", device=device)
    assert x.tolist() == [-top, 0.0, top]
    assert pg.linspace(0, 1, 0, device=device).shape == (0,)


def test_linspace_refuses(device: str) -> None:
    with pytest.raises(DTypeError, match="linspace: takes a floating dtype, got int32"):
        pg.linspace(0, 1, 3, dtype="int32", device=device)
    with pytest.raises(ArgumentError, match="linspace: num takes an integer of at least 0, got -1"):
        pg.linspace(0, 1, -1, device=device)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [-3, -1, 0, 2, 5])
def test_eye(k: int, name: str, device: str) -> None:
    x = pg.eye(3, 4, k=k, dtype=name, device=device)
    assert x.dtype.name == name
    assert_same(x, np.eye(3, 4, k))
    assert_same(by_body(pg.eye, n_rows=3, n_cols=4, k=k, dtype=x.dtype, device=x.device), np.eye(3, 4, k))
    assert pg.eye(2, device=device).shape == (2, 2)
    assert pg.eye(2, device=device).dtype is pg.dtypes.float32


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [-4, -1, 0, 1, 7])
def test_triangles(k: int, name: str, device: str) -> None:
    host = np.ones((2, 3, 4)) if name == "bool" else np.arange(1, 25).reshape(2, 3, 4)
    x = tensor(host, name, device)
    assert_same(pg.tril(x, k=k), np.tril(host, k))
    assert_same(pg.triu(x, k=k), np.triu(host, k))


def test_triangles_hide_what_is_not_finite(device: str) -> None:
    x = tensor([[1, math.nan], [math.inf, 2]], "float32", device)
    assert pg.tril(x).tolist() == [[1, 0], [math.inf, 2]]
    with pytest.raises(ShapeError, match=r"tril: takes at least 2 axes, got shape \(3,\)"):
        pg.tril(tensor([1, 2, 3], "float32", device))


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("sizes", [(3,), (2, 3), (2, 3, 4), (2, 0)])
def test_meshgrid(sizes: tuple[int, ...], indexing: str, device: str) -> None:
    axes = [tensor(np.arange(n) + 10 * i, "int32", device) for i, n in enumerate(sizes)]
    expected = np.meshgrid(*(a.numpy() for a in axes), indexing=indexing)  # type: ignore[call-overload]
    got = pg.meshgrid(*axes, indexing=indexing)
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e)


def test_meshgrid_refuses(device: str) -> None:
    x = tensor([1, 2], "int32", device)
    with pytest.raises(ArgumentError, match="meshgrid: indexing takes 'xy' or 'ij', got 'yx'"):
        pg.meshgrid(x, indexing="yx")
    with pytest.raises(ShapeError, match=r"meshgrid: takes tensors of one axis, got shape \(1, 2\)"):
        pg.meshgrid(x, x[None])
    with pytest.raises(DTypeError, match="meshgrid: takes tensors of one dtype, got int32 and float32"):
        pg.meshgrid(x, x.astype("float32"))
    assert pg.meshgrid() == []
