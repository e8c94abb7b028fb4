"""Ops that move elements, against NumPy, on arrays of every layout, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ArgumentError, AxisError, DTypeError, IndexRangeError, ShapeError
from support.oracles import assert_same, tensor

NAMES = [d.name for d in pg.dtypes.ALL]
CUBE = np.arange(24).reshape(2, 3, 4)


def laid_out(device: str) -> list[pg.Tensor]:
    """The same (2, 3, 4) elements in several layouts: row-major, permuted, reversed, cut out of more, broadcast."""
    x = pg.asarray(CUBE, device=device)
    wide = pg.asarray(np.repeat(CUBE, 2, axis=2), device=device)
    return [
        x,
        pg.permute_dims(pg.asarray(CUBE.transpose(2, 0, 1).copy(), device=device), (1, 2, 0)),
        pg.flip(pg.asarray(CUBE[::-1, :, ::-1].copy(), device=device), axis=(0, 2)),
        wide[:, :, ::2],
    ]


def test_every_layout(device: str) -> None:
    for x in laid_out(device):
        assert_same(x, CUBE)
        assert_same(pg.reshape(x, (4, -1)), CUBE.reshape(4, 6))
        assert_same(pg.permute_dims(x, (1, 2, 0)), CUBE.transpose(1, 2, 0))
        assert_same(pg.flip(x, axis=1), np.flip(CUBE, 1))
        assert_same(pg.roll(x, 2, axis=2), np.roll(CUBE, 2, 2))
        assert_same(pg.concat([x, x], axis=1), np.concatenate([CUBE, CUBE], 1))
        assert_same(pg.tile(x, (2, 1, 1)), np.tile(CUBE, (2, 1, 1)))
        assert_same(pg.broadcast_to(x, (2, 2, 3, 4)), np.broadcast_to(CUBE, (2, 2, 3, 4)))
        assert_same(x[1, ::-1, 1:3], CUBE[1, ::-1, 1:3])
        assert_same(pg.scatter_slice(x, shape=(2, 3, 9), bounds=((None, None, None), (None, None, -1), (0, 8, 2)))[..., 0], CUBE[:, ::-1, 0])  # fmt: skip
    flat = pg.broadcast_to(pg.asarray([[1], [2]], device=device), (2, 3))
    assert_same(pg.reshape(flat, (-1,)), [1, 1, 1, 2, 2, 2])
    assert_same(pg.concat([flat, pg.flip(flat)]), [[1] * 3, [2] * 3, [2] * 3, [1] * 3])


@pytest.mark.parametrize("name", NAMES)
def test_every_dtype(name: str, device: str) -> None:
    host = np.arange(6).reshape(2, 3) % 2 if name == "bool" else np.arange(6).reshape(2, 3)
    x = tensor(host, name, device)
    for got, expected in (
        (pg.reshape(x, (3, 2)), host.reshape(3, 2)),
        (pg.permute_dims(x, (1, 0)), host.T),
        (pg.concat([x, x]), np.concatenate([host, host])),
        (pg.stack([x, x], axis=1), np.stack([host, host], 1)),
        (pg.flip(x), np.flip(host)),
        (pg.roll(x, 1), np.roll(host, 1)),
        (pg.repeat(x, 2, axis=1), np.repeat(host, 2, 1)),
        (pg.tile(x, (1, 2)), np.tile(host, (1, 2))),
        (pg.pad(x, 1), np.pad(host, 1)),
        (pg.broadcast_to(x, (2, 2, 3)), np.broadcast_to(host, (2, 2, 3))),
        (pg.scatter_slice(x, shape=(2, 4), bounds=((0, 2, 1), (1, 4, 1))), np.pad(host, ((0, 0), (1, 0)))),
    ):
        assert got.dtype is x.dtype
        assert_same(got, expected)


def test_reshape(device: str) -> None:
    x = pg.asarray(np.arange(6), device=device)
    assert pg.reshape(x, 6).shape == (6,)
    assert pg.reshape(x, [2, -1]).shape == (2, 3)
    assert x.reshape(np.int64(3), 2).shape == (3, 2)
    empty = pg.zeros((0, 3), device=device)
    assert pg.reshape(empty, (-1,)).shape == (0,)
    assert pg.reshape(empty, (-1, 3)).shape == (0, 3)
    assert pg.reshape(empty, (2, 0, 7)).shape == (2, 0, 7)
    for shape in ((4,), (-1, 4), (-1, -1), (-2, -3), (0,), ()):
        with pytest.raises(ShapeError, match=r"reshape: .* does not hold the 6 elements of shape \(6,\)"):
            pg.reshape(x, shape)
    with pytest.raises(ShapeError, match=r"reshape: \(-1, 0\) does not hold the 0 elements"):
        pg.reshape(empty, (-1, 0))
    with pytest.raises(ArgumentError, match=r"reshape: shape takes an integer, got 2\.5"):
        pg.reshape(x, (2.5, 2))


def test_reshape_without_a_copy(device: str) -> None:
    x = pg.asarray(CUBE, device=device)
    assert_same(pg.reshape(x, (6, 4), copy=True), CUBE.reshape(6, 4))
    assert_same(pg.reshape(x, (6, 4), copy=False), CUBE.reshape(6, 4))
    with pytest.raises(ArgumentError, match="reshape: copy takes True, False or None, got 'no'"):
        pg.reshape(x, (6, 4), copy="no")  # type: ignore[arg-type]


def test_permutations_refused(device: str) -> None:
    x = pg.asarray(CUBE, device=device)
    for axes in ((0, 1), (0, 1, 1), (0, 1, 2, 2)):
        with pytest.raises(ShapeError, match=r"permute_dims: .* does not name each of 3 axes once"):
            pg.permute_dims(x, axes)
    with pytest.raises(AxisError, match="permute_dims: axis 3 is out of range for 3 axes"):
        pg.permute_dims(x, (0, 1, 3))
    with pytest.raises(ShapeError, match=r"matrix_transpose: takes at least 2 axes, got shape \(3,\)"):
        pg.matrix_transpose(pg.zeros(3, device=device))


def test_slices(device: str) -> None:
    x = pg.asarray(np.arange(7), device=device)
    limits = [None, -9, -7, -3, -1, 0, 2, 6, 7, 12]
    for start in limits:
        for stop in limits:
            for step in (None, 1, 2, 9, -1, -2, -9):
                got = pg.strided_slice(x, ((start, stop, step),))  # type: ignore[arg-type]
                assert_same(got, np.arange(7)[start:stop:step], f"{start}:{stop}:{step}")
    with pytest.raises(ArgumentError, match="strided_slice: a step is 0"):
        pg.strided_slice(x, ((0, 1, 0),))
    with pytest.raises(ShapeError, match="strided_slice: 2 slices for 1 axes"):
        pg.strided_slice(x, ((0, 1, 1), (0, 1, 1)))
    with pytest.raises(
        ShapeError, match=r"scatter_slice: shape \(7,\) does not fill the place of shape \(6,\)"
    ):
        pg.scatter_slice(x, shape=(6,), bounds=((None, None, None),))


def test_select(device: str) -> None:
    x = pg.asarray(CUBE, device=device)
    assert_same(pg.select(x, -1, axis=1), CUBE[:, -1])
    with pytest.raises(IndexRangeError, match="select: index 3 is out of range for axis 1 of size 3"):
        pg.select(x, 3, axis=1)
    with pytest.raises(AxisError, match="select: axis 3 is out of range for 3 axes"):
        pg.select(x, 0, axis=3)


def test_concat(device: str) -> None:
    a, b = (tensor(v, n, device) for v, n in (([[1, 2]], "int8"), ([[3, 4]], "float32")))
    assert pg.concat([a, b]).dtype is pg.dtypes.float32
    assert_same(pg.concat((a, b), axis=-1), [[1, 2, 3, 4]])
    assert_same(pg.concat([a, tensor(9, "int8", device)], axis=None), [1, 2, 9])
    assert_same(pg.concat(iter([a, a])), [[1, 2], [1, 2]])
    with pytest.raises(ShapeError, match=r"concat: shapes \(1, 2\) and \(2,\) differ beyond axis 0"):
        pg.concat([a, a[0]])
    with pytest.raises(ShapeError, match=r"concat: shapes \(1, 2\) and \(1, 1\) differ beyond axis 0"):
        pg.concat([a, a[:, :1]])
    with pytest.raises(AxisError, match=r"concat.*: axis 2 is out of range for 2 axes"):
        pg.concat([a, a], axis=2)
    with pytest.raises(ShapeError, match="concat: takes at least one tensor, got an empty sequence"):
        pg.concat([])
    with pytest.raises(DTypeError, match="concat: arrays takes a sequence of tensors, got Tensor"):
        pg.concat(a)  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="concat: arrays takes a sequence of tensors, got list: wrap it"):
        pg.concat([a, [[1, 2]]])  # type: ignore[list-item]


def test_stack_and_unstack(device: str) -> None:
    x = pg.asarray(CUBE, device=device)
    for axis in (-4, -1, 0, 2, 3):
        assert_same(pg.stack([x, x + 1], axis=axis), np.stack([CUBE, CUBE + 1], axis))
    for axis in (-1, 0, 1):
        parts = pg.unstack(x, axis=axis)
        assert isinstance(parts, tuple)
        assert_same(pg.stack(parts, axis=axis), CUBE)
    assert pg.unstack(pg.zeros((0, 2), device=device)) == ()
    with pytest.raises(
        ShapeError, match=r"stack: shapes \(3, 4\) and \(2, 3, 4\) differ; takes tensors of one shape"
    ):
        pg.stack([x[0], x])
    with pytest.raises(AxisError, match="stack: axis 4 is out of range for 4 axes"):
        pg.stack([x, x], axis=4)
    with pytest.raises(AxisError, match="unstack: axis 0 is out of range for 0 axes"):
        pg.unstack(pg.zeros((), device=device))


def test_new_axes_and_axes_gone(device: str) -> None:
    x = pg.zeros((2, 3), device=device)
    for axis in (-3, -1, 0, 1, 2):
        assert pg.expand_dims(x, axis).shape == np.expand_dims(x.numpy(), axis).shape
    assert pg.expand_dims(x, axis=(0, -1)).shape == (1, 2, 3, 1)
    assert pg.squeeze(pg.zeros((1, 2, 1), device=device), (0, -1)).shape == (2,)
    assert pg.squeeze(x, ()).shape == (2, 3)
    with pytest.raises(IndexError, match="expand_dims: axis 3 is out of range for 3 axes"):
        pg.expand_dims(x, axis=3)
    with pytest.raises(ShapeError, match=r"expand_dims: axis \(0, 0\) names an axis twice"):
        pg.expand_dims(x, axis=(0, 0))
    with pytest.raises(ShapeError, match=r"squeeze: axis 1 of shape \(2, 3\) has size 3, not 1"):
        pg.squeeze(x, -1)
    with pytest.raises(AxisError, match="squeeze: axis 2 is out of range for 2 axes"):
        pg.squeeze(x, 2)


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), ()])
def test_flip(axis: Any, device: str) -> None:
    assert_same(pg.flip(pg.asarray(CUBE, device=device), axis=axis), np.flip(CUBE, axis))


@pytest.mark.parametrize(
    ("source", "destination"), [(0, -1), (2, 0), ((0, 1), (2, 0)), ((2, 1), (0, 1)), ((), ())]
)
def test_moveaxis(source: Any, destination: Any, device: str) -> None:
    x = pg.asarray(CUBE, device=device)
    assert_same(pg.moveaxis(x, source, destination), np.moveaxis(CUBE, source, destination))


@pytest.mark.parametrize(
    ("shift", "axis"),
    [(1, None), (-25, None), (0, None), (1, 0), (-5, 1), (7, -1), ((1, 2), (0, 2)), (1, (0, 1)), ((1, 2), (1, 1)), (0, 1)],
)  # fmt: skip
def test_roll(shift: Any, axis: Any, device: str) -> None:
    x = pg.asarray(CUBE, device=device)
    got = pg.roll(x, shift, axis=axis)
    assert_same(got, np.roll(CUBE, shift, axis))
    got += 1
    assert_same(x, CUBE)


def test_moves_refused(device: str) -> None:
    x = pg.asarray(CUBE, device=device)
    with pytest.raises(ShapeError, match="moveaxis: source names 2 axes, destination 1"):
        pg.moveaxis(x, (0, 1), 0)
    with pytest.raises(ShapeError, match=r"moveaxis: \(0, 0\) names an axis twice"):
        pg.moveaxis(x, (0, 0), (0, 1))
    with pytest.raises(ArgumentError, match="roll: several shifts take as many axes; axis is None"):
        pg.roll(x, (1, 2))
    with pytest.raises(ArgumentError, match="roll: 2 shifts for 3 axes"):
        pg.roll(x, (1, 2), axis=(0, 1, 2))
    with pytest.raises(ArgumentError, match=r"tile: takes repetitions of at least 0, got \(-1,\)"):
        pg.tile(x, (-1,))


@pytest.mark.parametrize("repetitions", [(), (2,), (1, 2, 3), (2, 1, 1, 2), (0,), 3])
def test_tile(repetitions: Any, device: str) -> None:
    assert_same(pg.tile(pg.asarray(CUBE, device=device), repetitions), np.tile(CUBE, repetitions))


@pytest.mark.parametrize(
    ("repeats", "axis"), [(2, None), (0, 1), (3, -1), ([1, 0, 2], 1), ([2], 0), ([0, 0], 0), (np.int32(2), 0)]
)
def test_repeat(repeats: Any, axis: Any, device: str) -> None:
    x = pg.asarray(CUBE, device=device)
    expected = np.repeat(CUBE, repeats, axis)
    assert_same(pg.repeat(x, repeats, axis=axis), expected)
    assert_same(pg.repeat(x, pg.asarray(repeats, device=device), axis=axis), expected)


def test_repeat_gives_gradients_and_refuses(device: str) -> None:
    x = tensor([1, 2, 3], "float64", device).requires_grad_()
    pg.repeat(x, pg.asarray([2, 0, 1], device=device)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 0, 1]
    with pytest.raises(DTypeError, match="repeat: repeats takes integers, got float64"):
        pg.repeat(x, 2.0)  # type: ignore[arg-type]
    with pytest.raises(
        ShapeError, match=r"repeat: repeats has shape \(2,\); takes one number, or 3 for axis 0"
    ):
        pg.repeat(x, [1, 2], axis=0)
    with pytest.raises(ArgumentError, match="repeat: takes repeats of at least 0, got -1"):
        pg.repeat(x, -1)
    with pytest.raises(AxisError, match="repeat: axis 1 is out of range for 1 axes"):
        pg.repeat(x, 1, axis=1)


def test_update_slice_refuses(device: str) -> None:
    x = pg.zeros((3,), device=device)
    with pytest.raises(DTypeError, match="update_slice: x is float32, the value int64; cast it with astype"):
        pg.update_slice(x, pg.asarray(1, device=device), ((0, 1, 1),))
    with pytest.raises(ShapeError, match=r"update_slice: .*\(2,\).*\(3,\)"):
        pg.update_slice(x, pg.zeros(2, device=device), ((None, None, None),))
