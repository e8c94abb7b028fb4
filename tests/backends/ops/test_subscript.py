"""``x[key]`` and ``x[key] = value``: NumPy's meaning of every key, gradients through both, and what is refused."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import (
    ArgumentError,
    AxisError,
    DTypeError,
    GradientError,
    IndexRangeError,
    PlugradError,
    ShapeError,
)
from plugrad.modes import no_grad
from support.keys import random_key
from support.oracles import assert_same, tensor

SHAPES = [(5,), (3, 4), (2, 3, 4), (2, 3, 2, 3), (4, 1, 3), (), (0, 3)]


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize("seed", range(8))
def test_random_keys_mean_what_they_mean_to_numpy(seed: int, device: str) -> None:
    rng = random.Random(seed)
    fit = 0
    for _ in range(120):
        shape = rng.choice(SHAPES)
        theirs, ours = random_key(shape, rng, device)
        host = np.random.default_rng(seed).standard_normal(shape)
        x = pg.asarray(host, device=device).requires_grad_()
        try:
            expected = np.asarray(host[theirs])
        except (IndexError, ValueError):
            with pytest.raises(PlugradError):
                x[ours]
            continue
        fit += 1
        got = x[ours]
        assert got.shape == expected.shape, f"{shape} {theirs}"
        assert_same(got, expected, f"{shape} {theirs}")
        assert got is not x
        ct = np.random.default_rng(seed + 1).standard_normal(expected.shape)
        got.backward(pg.asarray(ct, device=device))
        read = np.asarray(numbered(shape)[theirs]).reshape(-1)
        wanted = np.bincount(read, ct.reshape(-1), host.size).reshape(shape)
        assert x.grad is not None
        np.testing.assert_allclose(
            x.grad.numpy(), wanted, rtol=1e-12, atol=1e-12, err_msg=f"{shape} {theirs}"
        )
    assert fit > 60


@pytest.mark.parametrize("seed", range(8))
def test_random_assignments(seed: int, device: str) -> None:
    rng, numbers = random.Random(100 + seed), np.random.default_rng(seed)
    fit = 0
    for _ in range(80):
        shape = rng.choice(SHAPES)
        theirs, ours = random_key(shape, rng, device)
        host = numbers.standard_normal(shape)
        try:
            places = np.asarray(numbered(shape)[theirs])
        except (IndexError, ValueError):
            continue
        fit += 1
        cut = places.shape[rng.randint(0, places.ndim) :]
        size = tuple(1 if rng.random() < 0.3 else n for n in cut)
        if rng.random() < 0.2:
            size = (1,) * (places.ndim - len(size) + 1) + size
        value = numbers.standard_normal(size)
        spread = np.broadcast_to(value.reshape(size[max(0, len(size) - places.ndim) :]), places.shape)
        expected = host.copy()
        source = np.full(host.size, -1)
        ids = np.broadcast_to(
            np.arange(value.size).reshape(size[max(0, len(size) - places.ndim) :]), places.shape
        )
        for place, v, i in zip(places.reshape(-1), spread.reshape(-1), ids.reshape(-1), strict=True):
            expected.reshape(-1)[place] = v
            source[place] = i
        before = pg.asarray(host, device=device).requires_grad_()
        v = pg.asarray(value, device=device).requires_grad_()
        x = before.clone()
        x[ours] = v
        message = f"{shape} {theirs} {size}"
        assert_same(x, expected, message)
        assert_same(before, host, message)
        ct = numbers.standard_normal(shape)
        x.backward(pg.asarray(ct, device=device))
        kept = source == -1
        grad = np.zeros(shape) if before.grad is None else before.grad.numpy()
        np.testing.assert_array_equal(grad.reshape(-1), np.where(kept, ct.reshape(-1), 0), err_msg=message)
        wanted = np.bincount(source[~kept], ct.reshape(-1)[~kept], value.size).reshape(size)
        grad = np.zeros(size) if v.grad is None else v.grad.numpy()
        np.testing.assert_allclose(grad, wanted, rtol=1e-12, atol=1e-12, err_msg=message)
    assert fit > 40


@pytest.mark.parametrize("name", [d.name for d in pg.dtypes.ALL])
def test_every_dtype_is_read_and_assigned(name: str, device: str) -> None:
    host = numbered((3, 4)) % (2 if name == "bool" else 99)
    x = tensor(host, name, device)
    mask = host % 3 == 1
    for key in (
        1,
        (slice(None), 2),
        (..., None),
        [0, 2],
        ([0, 1], [1, 3]),
        mask,
        (None, slice(None, None, -2)),
    ):
        assert x[key].dtype is x.dtype
        assert_same(x[key], host[key])  # type: ignore[index]
        y, expected = x.clone(), host.copy()
        y[key] = 1
        expected[key] = 1  # type: ignore[index]
        assert y.dtype is x.dtype
        assert_same(y, expected)


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_indices_of_every_integer_dtype(name: str, device: str) -> None:
    x = pg.asarray(numbered((5, 2)), device=device)
    assert_same(x[tensor([1, 3], name, device)], numbered((5, 2))[[1, 3]])
    assert_same(x[np.asarray([1, 3], name)], numbered((5, 2))[[1, 3]])
    assert_same(x[:, tensor(1, name, device)], numbered((5, 2))[:, 1])


def test_lists_may_hold_tensors(device: str) -> None:
    x = pg.asarray(numbered((5, 2)), device=device)
    one = pg.asarray(1, device=device)
    assert_same(x[[one, 3]], numbered((5, 2))[[1, 3]])
    assert_same(x[[[one], [0]]], numbered((5, 2))[[[1], [0]]])
    assert x[[]].shape == (0, 2)
    assert_same(x[range(1, 3)], numbered((5, 2))[1:3])
    assert_same(x[one : one + 2, : np.int64(1)], numbered((5, 2))[1:3, :1])


def test_iteration_length_and_membership(device: str) -> None:
    x = pg.asarray([[1, 2], [3, 4]], device=device)
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert len(x) == 2
    assert 3 in x
    assert 5 not in x
    assert pg.asarray(4, device=device) in x
    assert float("nan") not in pg.asarray([float("nan")], device=device)


def test_what_is_read_never_changes_with_what_it_was_read_from(device: str) -> None:
    x = pg.asarray(numbered((3, 4)), device=device)
    parts = [x[0], x[:], x[...], x[:, 1], x[::-1], x[[0, 1]], x[None]]
    before = [p.numpy().copy() for p in parts]
    x[0] = 100
    x[:, 1] = 200
    x += 1
    for p, b in zip(parts, before, strict=True):
        assert_same(p, b)
    whole = x.numpy().copy()
    for p in parts:
        p += 1
    assert_same(x, whole)


def test_augmented_assignment(device: str) -> None:
    x = pg.asarray(np.ones((3, 2)), device=device).requires_grad_()
    y = x * 1
    y[1] += 2
    y[:, 0] *= 3
    y[[0, 0]] -= 1  # as in NumPy, a place that is named twice changes once
    assert_same(y, [[2, 0], [9, 3], [3, 1]])
    y.sum().backward()
    assert x.grad is not None
    assert_same(x.grad, [[3, 1], [3, 1], [3, 1]])


def test_assignment_to_a_leaf(device: str) -> None:
    x = pg.zeros(3, device=device).requires_grad_()
    with pytest.raises(GradientError, match="no_grad"):
        x[0] = 1.0
    assert x.tolist() == [0, 0, 0]
    with no_grad():
        x[0] = 1.0
    assert x.tolist() == [1, 0, 0]
    assert x.is_leaf
    assert x.requires_grad


def test_what_is_assigned_is_cast(device: str) -> None:
    x = pg.zeros((2, 2), dtype="float64", device=device)
    x[0] = pg.asarray([1, 2], dtype="int8", device=device)
    x[1] = [0.1, 0.2]
    assert x.tolist() == [[1, 2], [0.1, 0.2]]
    x[0] = np.float32(3)
    x[1, 0] = True
    assert x.tolist() == [[3, 3], [1, 0.2]]
    n = pg.zeros(2, dtype="int32", device=device)
    n[0] = np.int64(7)
    n[1] = pg.asarray(True, device=device)
    assert n.tolist() == [7, 1]
    with pytest.raises(DTypeError, match=r"x\[key\] = value: x is int32, the value the float 1\.5"):
        n[0] = 1.5
    with pytest.raises(DTypeError, match=r"x\[key\] = value: x is int32, the value float32; cast"):
        n[0] = pg.asarray(1.0, device=device)
    with pytest.raises(DTypeError, match=r"x\[key\] = value: x is int32, the value float64; cast"):
        n[0] = np.ones(())
    with pytest.raises(ArgumentError, match=r"2147483648 is outside the range of int32"):
        n[0] = 2**31
    assert n.tolist() == [7, 1]


def test_a_masked_assignment_does_not_depend_on_the_mask(device: str) -> None:
    # Values that are the same at all places of a mask take no look at it: no op with a shape from data runs.
    x, mask = pg.zeros((2, 3), device="null"), pg.ones((2, 3), dtype="bool", device="null")
    x[mask] = 1.0
    x[mask[0, :2]] = pg.zeros((3,), device="null")
    with pytest.raises(PlugradError):
        x[mask] = pg.zeros((6,), device="null")


def test_keys_refused(device: str) -> None:
    x = pg.asarray(numbered((3, 4)), device=device)
    for key in ((0, 0, 0), (0, slice(None), slice(None)), (..., 0, 0, 0)):
        with pytest.raises(
            IndexError, match=r"x\[key\]: the key indexes 3 axes, the tensor has 2, shape \(3, 4\)"
        ):
            x[key]  # type: ignore[index]
    with pytest.raises(AxisError, match="the key indexes 1 axes, the tensor has 0"):
        pg.asarray(1, device=device)[0]
    for key in (3, -4, np.int64(3)):
        with pytest.raises(IndexRangeError, match=f"index {key} is out of range for axis 0 of size 3"):
            x[key]
    for key in ((0, 4), (slice(None), [0, 4]), (slice(None), np.array([[4]])), ([0], [4])):
        with pytest.raises(IndexRangeError, match=r"x\[key\]: index 4 is out of range for axis 1 of size 4"):
            x[key]  # type: ignore[index]
    with pytest.raises(IndexRangeError, match="take: index 3 is out of range for axis 0 of size 3"):
        x[pg.asarray([0, 3], device=device)]
    for key, shown in ((1.5, r"1\.5"), ("a", "'a'"), ({}, "dict"), ((0, 1.0), r"1\.0")):
        with pytest.raises(DTypeError, match=rf"x\[key\]: takes integers, slices, \.\.\., .*, got {shown}"):
            x[key]  # type: ignore[index]
    for key in ([0.0], np.zeros(2), pg.zeros(2, device=device)):
        with pytest.raises(DTypeError, match=r"x\[key\]: indices are float\d\d; takes integers or a mask"):
            x[key]
    with pytest.raises(
        DTypeError, match=r"x\[key\]: a slice takes integers or None, got slice\(0, 1\.5, None\)"
    ):
        x[0:1.5]  # type: ignore[misc]
    for key in (slice(0, 1, 0), (0, slice(None, None, 0))):
        with pytest.raises(ArgumentError, match="step 0; takes a positive or negative step"):
            x[key]  # type: ignore[index]
    for mask in (np.ones(4, bool), pg.ones((3, 3), dtype="bool", device=device), [True, False]):
        with pytest.raises(
            ShapeError, match=r"x\[key\]: a mask of shape .* does not cover axes 0 to . of shape"
        ):
            x[mask]
        with pytest.raises(
            ShapeError, match=r"x\[key\]: a mask of shape .* does not cover axes 0 to . of shape"
        ):
            x[mask] = 0
    with pytest.raises(
        ShapeError, match=r"x\[key\]: indices of shapes \(2,\), \(3,\) do not broadcast together"
    ):
        x[[0, 1], [0, 1, 2]]
    with pytest.raises(ArgumentError, match="two ellipses"):
        x[..., 0, ...]
    with pytest.raises(ShapeError, match="a list of indices is ragged"):
        x[[[0], [0, 1]]]


@pytest.mark.parametrize("key", [0, (slice(None), 0), [0, 1], slice(1, 3), (None, [0, 1])])
def test_values_that_do_not_fit(key: Any, device: str) -> None:
    x = pg.zeros((3, 4), device=device)
    with pytest.raises(ShapeError, match=r"x\[key\] = value: a value of shape \(7,\) does not broadcast to"):
        x[key] = pg.ones(7, device=device)
    assert not x.numpy().any()
