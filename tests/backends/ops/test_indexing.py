"""Reading and adding by index: against NumPy, in order, in range, and with gradients that add up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import AxisError, DTypeError, IndexRangeError, ShapeError
from support.oracles import FLOATING, assert_same, by_body, tensor

NAMES = [d.name for d in pg.dtypes.ALL]


@pytest.mark.parametrize("integer", ["int32", "int64"])
@pytest.mark.parametrize("name", NAMES)
def test_take(name: str, integer: str, device: str) -> None:
    host = np.arange(24).reshape(2, 3, 4) % (2 if name == "bool" else 99)
    x, i = tensor(host, name, device), tensor([[2, 0, -1], [-3, 1, 1]], integer, device)
    got = pg.take(x, i, axis=1)
    assert got.dtype is x.dtype
    assert_same(got, host.take(i.numpy(), axis=1))
    assert_same(pg.take(x[0, 0], i), host[0, 0].take(i.numpy()))
    assert_same(pg.take(x, i[0, 0], axis=-1), host[:, :, 2])
    assert pg.take(x, i[:0], axis=0).shape == (0, 3, 3, 4)


def test_take_refuses(device: str) -> None:
    x = pg.zeros((5, 2), device=device)
    for wrong in (7, -6):
        with pytest.raises(
            IndexRangeError, match=f"take: index {wrong} is out of range for axis 0 of size 5"
        ):
            pg.take(x, pg.asarray([0, wrong, 1], device=device), axis=0)
    with pytest.raises(IndexRangeError, match="take: index 0 is out of range for axis 0 of size 0"):
        pg.take(x[:0], pg.asarray([0], device=device), axis=0)
    with pytest.raises(AxisError, match="take: takes an axis for a tensor of 2 axes"):
        pg.take(x, pg.asarray([0], device=device))
    with pytest.raises(AxisError, match="take: axis 2 is out of range for 2 axes"):
        pg.take(x, pg.asarray([0], device=device), axis=2)
    with pytest.raises(DTypeError, match="take: indices is float32; takes int32, int64; cast it with astype"):
        pg.take(x, x, axis=0)


def test_gather_nd(device: str) -> None:
    host = np.arange(120).reshape(2, 3, 4, 5)
    x = pg.asarray(host, device=device)
    i, j = np.array([[0, -1], [2, 1]]), np.array([[3, 0], [-4, 2]], np.int32)
    assert_same(
        pg.gather_nd(x, [pg.asarray(i, device=device), pg.asarray(j, device=device)], axis=1), host[:, i, j]
    )
    with pytest.raises(IndexRangeError, match="gather_nd: index 7 is out of range for axis 2 of size 4"):
        pg.gather_nd(x, [pg.asarray(i, device=device), pg.asarray(j + 4, device=device)], axis=1)
    with pytest.raises(ShapeError, match="gather_nd: takes at least one tensor of indices"):
        pg.gather_nd(x, [])
    with pytest.raises(ShapeError, match=r"gather_nd: the tensors of indices have shapes \(2, 2\), \(2,\)"):
        pg.gather_nd(x, [pg.asarray(i, device=device), pg.asarray(i[0], device=device)])
    with pytest.raises(AxisError, match=r"gather_nd: indices for axes 3 to 4 of shape \(2, 3, 4, 5\)"):
        pg.gather_nd(x, [pg.asarray(i, device=device)] * 2, axis=-1)


def scattered(x: np.ndarray, indices: list[np.ndarray], shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Zeros with ``x`` added one element after the other, in the dtype of ``x``."""
    out = np.zeros(shape, x.dtype)
    for place in np.ndindex(indices[0].shape):
        key = (slice(None),) * axis + tuple(i[place] for i in indices)
        out[key] += x[(slice(None),) * axis + place]
    return out


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("shape", "axis", "count", "places"),
    [
        ((7,), 0, 1, (300,)),
        ((50, 3), 0, 1, (400,)),
        ((90, 64), 0, 1, (500,)),
        ((3, 100), 0, 1, (400,)),
        ((4, 5, 3), 1, 1, (6, 7)),
        ((4, 5, 3), 0, 2, (30,)),
        ((2, 4, 5, 2), 1, 2, (20,)),
        ((3, 3, 3), 0, 3, ()),
    ],
)
def test_scatter_nd_adds_in_order(
    shape: tuple[int, ...], axis: int, count: int, places: tuple[int, ...], seed: int, device: str
) -> None:
    rng = np.random.default_rng(seed)
    indices = [rng.integers(-n, n, places) for n in shape[axis : axis + count]]
    # The order shows in the last bits: what is added spans many magnitudes.
    x = rng.standard_normal((*shape[:axis], *places, *shape[axis + count :])) * 10.0 ** rng.integers(-6, 7)
    x = x.astype(np.float32)
    got = pg.scatter_nd(
        pg.asarray(x, device=device), [pg.asarray(i, device=device) for i in indices], shape=shape, axis=axis
    )
    assert_same(got, scattered(x, indices, shape, axis))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_low_precision_is_summed_in_float32(name: str, device: str) -> None:
    count = 5000
    ones = pg.ones(count, dtype=name, device=device)
    where = pg.zeros(count, dtype="int64", device=device)
    assert pg.scatter_nd(ones, [where], shape=(2,)).astype("float32").tolist() == [pg.asarray(5000.0, dtype=name).item(), 0]  # fmt: skip
    total = pg.scatter_add(pg.zeros(2, dtype=name, device=device), where, ones)
    assert total.astype("float32").tolist()[0] == pg.asarray(5000.0, dtype=name).item()


def test_scatter_nd_of_integers_and_what_is_not_finite(device: str) -> None:
    i = pg.asarray([0, 1, 0, 3], device=device)
    for name in ("int8", "uint8", "int32", "uint64"):
        assert_same(pg.scatter_nd(tensor([1, 2, 3, 4], name, device), [i], shape=(5,)), [4, 2, 0, 4, 0])
    x = pg.asarray(np.array([[math.nan, 1]] + [[1, 1]] * 3), device=device)
    got = pg.scatter_nd(x, [i], shape=(4, 2)).numpy()
    assert np.isnan(got[0, 0])
    assert np.isfinite(got[1:]).all()


def test_scatter_nd_refuses(device: str) -> None:
    x, i = pg.zeros((2, 3), device=device), pg.asarray([0, 5], device=device)
    with pytest.raises(IndexRangeError, match="scatter_nd: index 5 is out of range for axis 0 of size 4"):
        pg.scatter_nd(x, [i], shape=(4, 3))
    with pytest.raises(
        ShapeError, match=r"scatter_nd: x has shape \(2, 3\); the indices name a place of \(2, 2\)"
    ):
        pg.scatter_nd(x, [i], shape=(4, 2))
    with pytest.raises(AxisError, match="scatter_nd: axis 2 is out of range for 2 axes"):
        pg.scatter_nd(x, [i], shape=(4, 3), axis=2)
    with pytest.raises(DTypeError, match="scatter_nd: x is bool; takes int8"):
        pg.scatter_nd(x.astype("bool"), [i], shape=(4, 3))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_take_along_axis(axis: int, device: str) -> None:
    rng = np.random.default_rng(0)
    host = rng.standard_normal((3, 4, 5))
    shape = list(host.shape)
    shape[axis] = 7
    i = rng.integers(-host.shape[axis], host.shape[axis], shape)
    x = pg.asarray(host, device=device).requires_grad_()
    out = pg.take_along_axis(x, pg.asarray(i, device=device), axis=axis)
    assert_same(out, np.take_along_axis(host, i, axis))
    ct = rng.standard_normal(shape)
    out.backward(pg.asarray(ct, device=device))
    expected = np.zeros_like(host)
    places = list(np.ogrid[tuple(slice(n) for n in shape)])
    places[axis] = i
    np.add.at(expected, tuple(places), ct)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_take_along_axis_refuses(device: str) -> None:
    x = pg.zeros((3, 4), device=device)
    with pytest.raises(
        IndexRangeError, match="take_along_axis: index 4 is out of range for axis 1 of size 4"
    ):
        pg.take_along_axis(x, pg.asarray([[4], [0], [0]], device=device))
    with pytest.raises(ShapeError, match=r"take_along_axis: indices of shape \(3,\) for shape \(3, 4\)"):
        pg.take_along_axis(x, pg.asarray([0, 0, 0], device=device))
    with pytest.raises(ShapeError, match=r"take_along_axis: shapes .* do not broadcast together"):
        pg.take_along_axis(x, pg.asarray([[0], [0]], device=device))


@pytest.mark.parametrize("name", [*FLOATING, "int32", "uint8"])
def test_scatter_add(name: str, device: str) -> None:
    rng = np.random.default_rng(0)
    host, i = rng.integers(0, 9, (3, 4)), rng.integers(-4, 4, (3, 9))
    updates = rng.integers(0, 9, (3, 9))
    x, u = tensor(host, name, device), tensor(updates, name, device)
    expected = host.copy()
    np.add.at(expected, (np.arange(3)[:, None], i), updates)
    places = pg.asarray(i, device=device)
    assert_same(pg.scatter_add(x, places, u), expected)
    assert_same(by_body(pg.scatter_add, x, places, u, axis=1), expected)
    assert_same(x, host)


def test_scatter_add_refuses(device: str) -> None:
    x, i = pg.zeros((3, 4), device=device), pg.asarray([[0], [1], [4]], device=device)
    with pytest.raises(IndexRangeError, match="scatter_add: index 4 is out of range for axis 1 of size 4"):
        pg.scatter_add(x, i, pg.ones((3, 1), device=device))
    with pytest.raises(
        ShapeError, match=r"scatter_add: indices of shape \(3, 1\) and updates of \(3, 2, 1\)|indices"
    ):
        pg.scatter_add(x, i, pg.ones((3, 2, 1), device=device))
    with pytest.raises(
        ShapeError, match=r"scatter_add: .*updates of \(2, 1\) do not fit shape \(3, 4\) beyond axis 1"
    ):
        pg.scatter_add(x, i[:2], pg.ones((2, 1), device=device))
    assert (
        pg.scatter_add(x, i - 1, pg.ones((3, 1), dtype="float64", device=device)).dtype is pg.dtypes.float64
    )


@pytest.mark.parametrize("name", NAMES)
def test_one_hot(name: str, device: str) -> None:
    x = tensor([[0, 2], [1, 2]], "int32", device)
    got = pg.one_hot(x, 4, dtype=name)
    assert got.dtype.name == name
    expected = np.eye(4)[x.numpy()]
    assert_same(got, expected)
    assert_same(by_body(pg.one_hot, x, num_classes=4, dtype=pg.dtypes.as_dtype(name)), expected)
    assert pg.one_hot(x, 3).dtype is pg.dtypes.float32


def test_one_hot_refuses(device: str) -> None:
    for wrong in (3, -1):
        x = pg.asarray([0, wrong], device=device)
        with pytest.raises(IndexRangeError, match=f"one_hot: {wrong} is out of range for 3 classes, 0 to 2"):
            pg.one_hot(x, 3)
        with pytest.raises(IndexRangeError):
            by_body(pg.one_hot, x, num_classes=3, dtype=pg.dtypes.float32)
    with pytest.raises(DTypeError, match="one_hot: x is float32; takes int32, int64"):
        pg.one_hot(pg.zeros(2, device=device), 3)


def test_embedding(device: str) -> None:
    rng = np.random.default_rng(0)
    weight = pg.asarray(rng.standard_normal((6, 4)), device=device).requires_grad_()
    x = pg.asarray([[1, 5, 1], [0, 5, 5]], device=device)
    out = pg.embedding(x, weight, padding_idx=-1)
    assert_same(out, weight.numpy()[x.numpy()])
    ct = rng.standard_normal((2, 3, 4))
    out.backward(pg.asarray(ct, device=device))
    expected = np.zeros((6, 4))
    np.add.at(expected, x.numpy(), ct)
    expected[5] = 0
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad.numpy(), expected, rtol=1e-12)
    body = by_body(pg.embedding.vjp, pg.asarray(ct, device=device), x, weight=weight.spec, padding_idx=5)
    np.testing.assert_allclose(body.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("rows", "places", "width"),
    [(600, 5, 3), (600, 5, 1), (90, 30, 700), (300, 200, 3), (64, 1, 8)],
    ids=["many meet", "numbers", "few meet", "most are alone", "all meet"],
)
def test_gradients_of_rows_that_meet(rows: int, places: int, width: int, device: str) -> None:
    rng = np.random.default_rng(rows)
    index, ct = rng.integers(0, places, rows), rng.standard_normal((rows, width))
    weight = pg.zeros((places + 1, width), dtype="float64", device=device).requires_grad_()
    pg.embedding(pg.asarray(index, device=device), weight).backward(pg.asarray(ct, device=device))
    expected = np.zeros((places + 1, width))
    np.add.at(expected, index, ct)
    np.testing.assert_allclose(weight.grad.numpy(), expected, rtol=1e-11, atol=1e-12)


def test_embedding_refuses(device: str) -> None:
    weight = pg.zeros((6, 4), device=device)
    for wrong in (6, -1):
        x = pg.asarray([0, wrong], device=device)
        with pytest.raises(
            IndexRangeError, match=f"embedding: {wrong} is out of range for 6 rows of weight, 0 to 5"
        ):
            pg.embedding(x, weight)
        with pytest.raises(IndexRangeError):
            by_body(pg.embedding, x, weight, padding_idx=None)
    good = pg.asarray([0], device=device)
    with pytest.raises(
        IndexRangeError, match="embedding: padding_idx 6 is out of range for 6 rows of weight"
    ):
        pg.embedding(good, weight, padding_idx=6)
    with pytest.raises(ShapeError, match=r"embedding: weight has shape \(4,\); takes \(rows, features\)"):
        pg.embedding(good, weight[0])


def replaced(x: np.ndarray, indices: list[np.ndarray], value: Any, axis: int) -> np.ndarray:
    """``x`` with the value written place after place."""
    out = x.copy()
    shape = (*x.shape[:axis], *indices[0].shape, *x.shape[axis + len(indices) :])
    whole = np.broadcast_to(value, shape)
    for place in np.ndindex(indices[0].shape):
        out[(slice(None),) * axis + tuple(i[place] for i in indices)] = whole[(slice(None),) * axis + place]
    return out


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("shape", "axis", "count", "places"),
    [((4,), 0, 1, (9,)), ((3, 4), 0, 2, (4, 5)), ((2, 3, 4, 2), 1, 2, (3, 4)), ((5, 2), 0, 1, ()), ((2, 3), 1, 1, (3, 2, 2))],
)  # fmt: skip
def test_update_nd_keeps_the_last(
    shape: tuple[int, ...], axis: int, count: int, places: tuple[int, ...], order: Any, device: str
) -> None:
    rng = np.random.default_rng(0)
    host = rng.standard_normal(shape)
    indices = [np.asarray(rng.integers(-n, n, places), order=order) for n in shape[axis : axis + count]]
    value = rng.standard_normal((*shape[:axis], *places, *shape[axis + count :]))
    x, v = (pg.asarray(a, device=device).requires_grad_() for a in (host, value))
    if order == "F" and len(places) > 1:
        # The same indices, in memory the other way around.
        axes = tuple(reversed(range(len(places))))
        where = [pg.permute_dims(pg.asarray(i.transpose(axes).copy(), device=device), axes) for i in indices]
    else:
        where = [pg.asarray(i, device=device) for i in indices]
    expected = replaced(host, indices, value, axis)
    out = pg.update_nd(x, where, v, axis=axis)
    assert_same(out, expected)
    assert_same(by_body(pg.update_nd, x, where, v, axis=axis), expected)
    ct = rng.standard_normal(shape)
    out.backward(pg.asarray(ct, device=device))
    assert x.grad is not None
    assert v.grad is not None
    untouched = replaced(np.ones(shape), indices, 0, axis)
    assert_same(x.grad, ct * untouched + 0.0)
    # An element of the value counts where its number is the one that stayed.
    numbers = np.arange(1, value.size + 1, dtype=float).reshape(value.shape)
    stayed = replaced(np.zeros(shape), indices, numbers, axis)
    wanted = np.zeros(value.size + 1)
    wanted[stayed.astype(int)] = ct
    assert_same(v.grad, wanted[1:].reshape(value.shape))


def test_update_nd_keeps_bits_and_refuses(device: str) -> None:
    x, i = tensor([1, 2, 3], "float32", device), pg.asarray([1], device=device)
    assert_same(pg.update_nd(x, [i], tensor([-0.0], "float32", device)), [1, -0.0, 3])
    assert_same(by_body(pg.update_nd, x, [i], tensor([-0.0], "float32", device), axis=0), [1, -0.0, 3])
    with pytest.raises(IndexRangeError, match="update_nd: index 3 is out of range for axis 0 of size 3"):
        pg.update_nd(x, [i + 2], x[:1])
    with pytest.raises(DTypeError, match="update_nd: x is float32, the value int64; cast it with astype"):
        pg.update_nd(x, [i], i)
    with pytest.raises(
        ShapeError, match=r"update_nd: a value of shape \(1, 1\) does not fit a place of \(1,\)"
    ):
        pg.update_nd(x, [i], x[:1, None])
