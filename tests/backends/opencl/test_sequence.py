"""Recurrent layers, a launch a step, held against NumPy: rows and features left over, both directions, with and without biases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import ops
from plugrad.backend import get_backend

LAYERS = {"lstm": (ops.lstm_sequence, 4, 2), "gru": (ops.gru_sequence, 3, 1), "rnn": (ops.rnn_sequence, 1, 1)}


def operands(gates: int, states: int, t: int, n: int, i: int, h: int) -> list[Any]:
    rng = np.random.default_rng(t * n)
    shapes = [(t, n, i), *[(n, h)] * states, (gates * h, i), (gates * h, h), (gates * h,), (gates * h,)]
    scale = 1 / np.sqrt(h)
    return [rng.standard_normal(s) * (scale if len(s) < 3 and s[0] == gates * h else 1) for s in shapes]


def results(op: Any, hosts: list[Any], device: str, dtype: str, **attributes: Any) -> list[Any]:
    tensors = [
        None if x is None else pg.asarray(x.astype(dtype), device=device).requires_grad_() for x in hosts
    ]
    out = op(*tensors, **attributes)
    several = out if isinstance(out, tuple) else (out,)
    rng = np.random.default_rng(0)
    cotangents = [pg.asarray(rng.standard_normal(o.shape).astype(dtype), device=device) for o in several]
    sum((o * c).sum() for o, c in zip(several, cotangents, strict=True)).backward()  # type: ignore[union-attr]
    grads = [x.grad.numpy() for x in tensors if x is not None]
    with pg.no_grad():
        plain = op(*(None if x is None else x.detach() for x in tensors), **attributes)
    plain = plain if isinstance(plain, tuple) else (plain,)
    return [*(o.numpy() for o in several), *(o.numpy() for o in plain), *grads]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("biases", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("t", "n", "i", "h"), [(1, 1, 1, 16), (3, 7, 5, 20), (4, 13, 40, 48), (2, 32, 16, 64)]
)
@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer: str, t: int, n: int, i: int, h: int, dtype: str, biases: int, reverse: bool) -> None:
    op, gates, states = LAYERS[layer]
    hosts = operands(gates, states, t, n, i, h)
    hosts = hosts[:-2] + [b if number < biases else None for number, b in enumerate(hosts[-2:])]
    settings: list[dict[str, Any]] = (
        [{"nonlinearity": s} for s in ("tanh", "relu")] if layer == "rnn" else [{}]
    )
    for more in settings:
        wanted = results(op, hosts, "numpy", "float64", reverse=reverse, **more)
        got = results(op, hosts, "opencl", dtype, reverse=reverse, **more)
        assert len(wanted) == len(got)
        tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(
                a, b, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(b).max()))
            )


def test_there_are_kernels() -> None:
    table = get_backend("opencl").kernels
    for op, gates, states in LAYERS.values():
        hosts = [
            pg.asarray(x, dtype="float32", device="opencl").spec for x in operands(gates, states, 2, 3, 4, 16)
        ]
        assert table.find(op, hosts, {}) is not None
