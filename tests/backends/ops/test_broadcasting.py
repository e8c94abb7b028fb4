"""Broadcasting and its adjoint."""

from __future__ import annotations

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ShapeError
from support.oracles import assert_same, tensor


@pytest.mark.parametrize(
    ("shape", "target"),
    [((), (2, 3)), ((3,), (2, 3)), ((2, 1), (2, 3)), ((1, 3), (0, 3)), ((2, 3), (2, 3)), ((1,), (40_000,))],
)
def test_broadcast_to(shape: tuple[int, ...], target: tuple[int, ...], device: str) -> None:
    host = np.random.default_rng(0).standard_normal(shape)
    x = pg.asarray(host, device=device).requires_grad_()
    out = pg.broadcast_to(x, target)
    assert_same(out, np.broadcast_to(host, target))
    ct = np.random.default_rng(1).standard_normal(target)
    out.backward(pg.asarray(ct, device=device))
    assert x.grad is not None
    assert x.grad.shape == shape
    extra = len(target) - len(shape)
    axes = tuple(i for i, n in enumerate(target) if i < extra or shape[i - extra] != n)
    np.testing.assert_allclose(x.grad.numpy(), ct.sum(axis=axes).reshape(shape), rtol=1e-12, atol=1e-12)


def test_broadcast_to_refuses(device: str) -> None:
    x = pg.zeros((2, 3), device=device)
    for shape in ((2, 4), (3,), (2, 1), (2, 3, 1)):
        with pytest.raises(ShapeError, match="broadcast_to: shape"):
            pg.broadcast_to(x, shape)


def test_broadcast_arrays(device: str) -> None:
    a, b = tensor([[1], [2]], "int32", device), tensor([1.0, 2, 3], "float64", device)
    got = pg.broadcast_arrays(a, b)
    assert isinstance(got, list)
    for g, e in zip(got, np.broadcast_arrays(a.numpy(), b.numpy()), strict=True):
        assert_same(g, e)
    assert [g.dtype.name for g in got] == ["int32", "float64"]
    (same,) = pg.broadcast_arrays(a)
    same += 1
    assert_same(a, [[1], [2]])
    with pytest.raises(ShapeError, match=r"broadcast_arrays: shapes \(2, 1\) and \(3, 3\) do not broadcast"):
        pg.broadcast_arrays(a, pg.zeros((3, 3), device=device))


def test_a_broadcast_value_is_never_written_through(device: str) -> None:
    base = pg.zeros((1,), device=device)
    wide = pg.broadcast_to(base, (40_000,))
    wide[3] = 1.0
    assert wide.numpy().sum() == 1
    assert base.item() == 0
