"""`pad` against `numpy.pad`, and its gradients against what NumPy's indices say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from support.oracles import assert_same, tensor

MODES = [
    ("constant", "constant"),
    ("reflect", "reflect"),
    ("replicate", "edge"),
    ("edge", "edge"),
    ("wrap", "wrap"),
]


@pytest.mark.parametrize(("mode", "theirs"), MODES)
@pytest.mark.parametrize("width", [0, 1, (2, 1), ((1, 0), (0, 3)), ((9, 7), (4, 11)), ((2,), (3,))])
@pytest.mark.parametrize("shape", [(3, 4), (1, 2)])
def test_pad(shape: tuple[int, ...], width: Any, mode: str, theirs: str, device: str) -> None:
    host = np.random.default_rng(0).standard_normal(shape)
    x = pg.asarray(host, device=device).requires_grad_()
    out = pg.pad(x, width, mode=mode)
    expected = np.pad(host, width, theirs)
    assert_same(out, expected)
    # Every element of the result is one of x, or a constant: the gradient adds up where it came from.
    ct = np.random.default_rng(1).standard_normal(expected.shape)
    out.backward(pg.asarray(ct, device=device))
    source = np.pad(np.arange(1, host.size + 1).reshape(shape), width, theirs)
    wanted = np.bincount(source.reshape(-1), ct.reshape(-1), host.size + 1)[1:].reshape(shape)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-12, atol=1e-12)


def test_constants(device: str) -> None:
    x = tensor([[1, 2]], "int32", device)
    assert_same(pg.pad(x, ((0, 1), (1, 0)), value=7), [[7, 1, 2], [7, 7, 7]])
    assert_same(pg.pad(x, 1, value=np.int64(3)), np.pad([[1, 2]], 1, constant_values=3))
    assert_same(pg.pad(tensor([1], "float16", device), 1, value=float("inf")), [np.inf, 1, np.inf])
    assert_same(pg.pad(tensor([True], "bool", device), (1, 0), value=1), [True, True])
    assert pg.pad(pg.zeros((0, 2), device=device), 1, value=5).tolist() == [[5.0] * 4, [5.0] * 4]
    assert pg.pad(pg.zeros((), device=device), 3).shape == ()
    same = pg.pad(x, 0, mode="wrap")
    same += 1
    assert_same(x, [[1, 2]])


def test_pad_refuses(device: str) -> None:
    x = tensor([[1, 2]], "int32", device)
    with pytest.raises(ArgumentError, match=r"pad: mode takes 'constant', 'reflect', .*, got 'mirror'"):
        pg.pad(x, 1, mode="mirror")
    with pytest.raises(ArgumentError, match=r"pad: pad_width \(-1, 0\) has a negative number"):
        pg.pad(x, (-1, 0))
    with pytest.raises(
        ShapeError, match=r"pad: pad_width \(\(1, 1\), \(1, 1\), \(1, 1\)\) for 2 axes; takes"
    ):
        pg.pad(x, ((1, 1), (1, 1), (1, 1)))
    with pytest.raises(ArgumentError, match=r"pad: pad_width takes an integer, got 1\.5"):
        pg.pad(x, 1.5)
    with pytest.raises(DTypeError, match=r"pad: value 1\.5 is no value of int32"):
        pg.pad(x, 1, value=1.5)
    with pytest.raises(ShapeError, match=r"pad: axis 0 of shape \(0, 2\) is empty: nothing to replicate"):
        pg.pad(pg.zeros((0, 2), device=device), 1, mode="replicate")
