"""Cells and sequences of recurrent networks against their formulas in NumPy's float64, and against each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError, ShapeError

Host = np.ndarray[Any, Any]
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Host]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s) for s in shapes]


def tensors(hosts: list[Host], device: str, dtype: str = "float64", grad: bool = False) -> list[pg.Tensor]:
    return [pg.asarray(h, dtype=dtype, device=device).requires_grad_(grad) for h in hosts]


def lstm(gates: Host, c: Host) -> tuple[Host, Host]:
    i, f, g, o = np.split(gates, 4, axis=-1)
    new = expit(f) * c + expit(i) * np.tanh(g)
    return expit(o) * np.tanh(new), new


def gru(x: Host, y: Host, h: Host) -> Host:
    (xr, xz, xn), (yr, yz, yn) = np.split(x, 3, axis=-1), np.split(y, 3, axis=-1)
    z, n = expit(xz + yz), np.tanh(xn + expit(xr + yr) * yn)
    return (1 - z) * n + z * h


def slope(
    f: Callable[..., list[Host]], operands: list[Host], cts: list[Host], k: int, tangent: Host
) -> float:
    """The derivative of the sum of <ct, f> along a tangent of operand k, by central differences."""
    found = []
    for step in (1e-5, -1e-5):
        moved = [o + step * tangent if i == k else o for i, o in enumerate(operands)]
        found.append(sum((r * c).sum() for r, c in zip(f(*moved), cts, strict=True)))
    return float(found[0] - found[1]) / 2e-5


def hold(f: Any, formula: Callable[..., list[Host]], hosts: list[Host], device: str) -> None:
    """Hold values and gradients of ``f``, which gives tensors, against the formula."""
    leaves = tensors(hosts, device, grad=True)
    results = f(*leaves)
    results = results if isinstance(results, tuple) else (results,)
    expected = formula(*hosts)
    for got, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-11, atol=1e-12)
    cts = draw(7, *(e.shape for e in expected))
    total = sum(
        ((r * pg.asarray(c, device=device)).sum() for r, c in zip(results, cts, strict=True)), start=0
    )
    total.backward()  # type: ignore[union-attr]
    for k, (leaf, host) in enumerate(zip(leaves, hosts, strict=True)):
        tangent = np.random.default_rng(k).standard_normal(host.shape)
        got = (leaf.grad.numpy() * tangent).sum()
        np.testing.assert_allclose(got, slope(formula, hosts, cts, k, tangent), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (1, 5), (4, 6), (2, 3, 4), (700, 60)], ids=str)
def test_gates(shape: tuple[int, ...], device: str) -> None:
    *leading, h = shape
    wide = (*leading, 4 * h)
    hold(pg.lstm_gates, lambda g, c: list(lstm(g, c)), draw(1, wide, shape), device)
    three = (*leading, 3 * h)
    hold(pg.gru_gates, lambda x, y, s: [gru(x, y, s)], draw(2, three, three, shape), device)


def test_operands_are_left_alone(device: str) -> None:
    # One row is contiguous also when it is turned.
    hosts = draw(3, (1, 8), (1, 2))
    given = tensors(hosts, device)
    pg.lstm_gates(*given)
    hosts += draw(3, (1, 6), (1, 6))
    given += tensors(hosts[2:], device)
    pg.gru_gates(given[2], given[3], given[1])
    for tensor, host in zip(given, hosts, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), host)


def test_large_gates_saturate(device: str) -> None:
    gates = pg.asarray([[1e4, -1e4, 1e4, 1e4]], dtype="float32", device=device)
    hidden, cell = pg.lstm_gates(gates, pg.asarray([[5.0]], device=device))
    assert float(cell) == 1
    np.testing.assert_allclose(float(hidden), np.tanh(1), rtol=1e-6)


def step(name: str, x: Host, states: list[Host], weights: list[Host], biases: list[Any]) -> list[Host]:
    """One step of a cell by the formulas of PyTorch."""
    first = x @ weights[0].T + (0 if biases[0] is None else biases[0])
    second = states[0] @ weights[1].T + (0 if biases[1] is None else biases[1])
    if name == "lstm":
        return list(lstm(first + second, states[1]))
    return [gru(first, second, states[0])] if name == "gru" else [np.tanh(first + second)]


def operands(name: str, n: int, i: int, h: int, *leading: int) -> list[tuple[int, ...]]:
    gates, states = GATES[name] * h, 2 if name == "lstm" else 1
    return [(*leading, n, i), *[(n, h)] * states, (gates, i), (gates, h), (gates,), (gates,)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", GATES)
def test_cells(name: str, bias: bool, device: str) -> None:
    hosts = draw(4, *operands(name, 3, 4, 5))
    states = 2 if name == "lstm" else 1

    def formula(x: Host, *rest: Host) -> list[Host]:
        given = list(rest[:states]), list(rest[states : states + 2])
        return step(name, x, *given, list(rest[states + 2 :]) or [None, None])

    hold(getattr(pg, f"{name}_cell"), formula, hosts if bias else hosts[:-2], device)


def test_rnn_cell_with_relu(device: str) -> None:
    x, h, a, b = draw(5, (3, 4), (3, 5), (5, 4), (5, 5))
    got = pg.rnn_cell(*tensors([x, h, a, b], device), nonlinearity="relu")
    np.testing.assert_allclose(got.numpy(), np.maximum(x @ a.T + h @ b.T, 0), rtol=1e-12)


# -- sequences --------------------------------------------------------------------------------------------


def by_cells(name: str, given: list[pg.Tensor], reverse: bool, **attributes: Any) -> tuple[pg.Tensor, ...]:
    """What the op of the sequence gives, by one cell after the other."""
    x, states = given[0], given[1 : 3 if name == "lstm" else 2]
    weights = given[1 + len(states) :]
    outputs = []
    for t in range(x.shape[0])[:: -1 if reverse else 1]:
        found = getattr(pg, f"{name}_cell")(x[t], *states, *weights, **attributes)
        states = list(found) if name == "lstm" else [found]
        outputs.append(states[0])
    return pg.stack(outputs[::-1] if reverse else outputs), *states[1:]


def sequence(name: str, given: list[pg.Tensor], **attributes: Any) -> tuple[pg.Tensor, ...]:
    found = getattr(pg, f"{name}_sequence")(*given, **attributes)
    return found if name == "lstm" else (found,)


# The last one has enough sequences for several threads, and for several blocks in each, of several parts of the steps.
SIZES = [(1, 1, 1, 1), (5, 3, 4, 6), (7, 1, 3, 5), (4, 33, 20, 16), (2, 0, 3, 4), (11, 150, 8, 64)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("biases", [2, 1, 0])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", GATES)
def test_sequences_are_cells_step_by_step(
    name: str, size: tuple[int, ...], biases: int, reverse: bool, device: str
) -> None:
    steps, n, i, h = size
    shapes = operands(name, n, i, h, steps)
    hosts = draw(6, *(shapes[:-2] + shapes[-2:][:biases]))
    for k in (-2 - biases, -1 - biases):
        hosts[k] /= np.sqrt(hosts[k].shape[1])  # sums of as much as one term, however many
    results = []
    for f in (sequence, by_cells):
        leaves = tensors(hosts, device, grad=True)
        outs = f(name, leaves, reverse=reverse)
        with pg.no_grad():
            alone = f(name, leaves, reverse=reverse)
        for a, o in zip(alone, outs, strict=True):
            np.testing.assert_allclose(a.numpy(), o.numpy(), rtol=1e-12)
        cts = tensors(draw(8, *(o.shape for o in outs)), device)
        total = sum(((o * c).sum() for o, c in zip(outs, cts, strict=True)), start=0)
        total.backward()  # type: ignore[union-attr]
        results.append([*(o.numpy() for o in outs), *(leaf.grad.numpy() for leaf in leaves)])
    for got, expected in zip(*results, strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11)


def test_relu_sequence(device: str) -> None:
    hosts = draw(9, *operands("rnn", 3, 4, 5, 6))
    results = []
    for f in (sequence, by_cells):
        leaves = tensors(hosts, device, grad=True)
        (out,) = f("rnn", leaves, nonlinearity="relu", reverse=False)
        out.backward(pg.ones_like(out))
        results.append([out.numpy(), *(leaf.grad.numpy() for leaf in leaves)])
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", GATES)
def test_layers_on_layers_in_both_directions(name: str, device: str) -> None:
    """The result of a layer, whatever its layout, is taken by the next one; only what is wanted gets a gradient."""
    below, above = draw(10, *operands(name, 3, 4, 5, 6)), draw(11, *operands(name, 3, 5, 2, 6))
    results = []
    for f in (sequence, by_cells):
        first, second = tensors(below, device), tensors(above, device)
        first[-3].requires_grad = True
        second[-1].requires_grad = True
        middle = f(name, first, reverse=True)[0]
        out = f(name, [middle, *second[1:]], reverse=False)[0]
        out.backward(pg.ones_like(out))
        assert [t.grad is None for t in first[1:]] == [t is not first[-3] for t in first[1:]]
        results.append([out.numpy(), first[-3].grad.numpy(), second[-1].grad.numpy()])
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("name", GATES)
def test_low_precision(name: str, dtype: str, device: str) -> None:
    hosts = [h / np.sqrt(h.shape[-1]) for h in draw(12, *operands(name, 4, 6, 8, 12))]
    low = tensors(hosts, device, dtype)
    results = []
    for chosen in (dtype, "float64"):
        leaves = [t.astype(chosen).detach().requires_grad_() for t in low]
        outs = sequence(name, leaves)
        assert {o.dtype.name for o in outs} == {chosen}
        outs[0].backward(pg.ones_like(outs[0]))
        results.append([*outs, *(leaf.grad for leaf in leaves)])
    eps = {"float16": 1e-2, "bfloat16": 6e-2, "float32": 1e-5}[dtype]
    for got, expected in zip(*results, strict=True):
        assert got.dtype.name == dtype
        e = expected.numpy()
        assert np.abs(got.numpy().astype(np.float64) - e).max() < eps * np.abs(e).max()


@pytest.mark.parametrize("name", GATES)
def test_what_is_not_finite_stays_in_its_sequence(name: str, device: str) -> None:
    """And in its step and those that come after it."""
    hosts = draw(16, *operands(name, 40, 3, 5, 4))
    hosts[0][1, 2, 0], hosts[0][2, 3, 1] = np.nan, np.inf
    (outs, *_) = sequence(name, tensors(hosts, device))
    (expected, *_) = by_cells(name, tensors(hosts, device), reverse=False)
    assert np.isnan(outs.numpy()[:, 2]).any(axis=-1).tolist() == [False, True, True, True]
    np.testing.assert_allclose(outs.numpy(), expected.numpy(), rtol=1e-12)


def test_under_autocast(device: str) -> None:
    given = tensors(draw(13, *operands("lstm", 2, 3, 4, 5)), device, "float32")
    with pg.autocast("bfloat16"):
        assert pg.lstm_sequence(*given)[0].dtype.name == "bfloat16"
        assert pg.lstm_cell(given[0][0], *given[1:])[0].dtype.name == "bfloat16"


def test_errors(device: str) -> None:
    x, h, c, a, b, p = tensors(draw(14, *operands("lstm", 2, 3, 4, 5)[:-1]), device, "float32")
    whole = p.astype("int64")
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (
            ShapeError,
            r"lstm_gates: gates have shape \(2, 4\), the cell \(2, 4\)",
            lambda: pg.lstm_gates(h, h),
        ),
        (ShapeError, r"gru_gates: the gates have shapes", lambda: pg.gru_gates(h, h, h)),
        (
            ShapeError,
            r"lstm_cell: x has shape \(5, 2, 3\), the state \(2, 4\)",
            lambda: pg.lstm_cell(x, h, c, a, b),
        ),
        (ShapeError, r"lstm_cell: a bias has shape \(2, 4\)", lambda: pg.lstm_cell(x[0], h, c, a, b, h)),
        (
            ShapeError,
            r"gru_cell: .*takes \(\.\.\., I\), \(\.\.\., H\), \(3H, I\)",
            lambda: pg.gru_cell(x[0], h, a, b),
        ),
        (ShapeError, r"rnn_cell: .*\(H, I\) and \(H, H\)", lambda: pg.rnn_cell(x[0], h, a, b)),
        (
            ArgumentError,
            r"rnn_cell: nonlinearity takes 'tanh' or 'relu', got 'elu'",
            lambda: pg.rnn_cell(x[0], h, a[:4], b[:4], nonlinearity="elu"),
        ),
        (ShapeError, r"lstm_sequence: x has shape \(2, 3\)", lambda: pg.lstm_sequence(x[0], h, c, a, b)),
        (ShapeError, r"at least one step", lambda: pg.lstm_sequence(x[:0], h, c, a, b)),
        (ShapeError, r"lstm_sequence: cell has shape \(1, 4\)", lambda: pg.lstm_sequence(x, h, c[:1], a, b)),
        (ShapeError, r"lstm_sequence: bias_hh has shape", lambda: pg.lstm_sequence(x, h, c, a, b, p, h)),
        (ShapeError, r"gru_sequence: weight_ih has shape \(16, 3\)", lambda: pg.gru_sequence(x, h, a, b)),
        (
            ArgumentError,
            r"rnn_sequence: nonlinearity takes",
            lambda: pg.rnn_sequence(x, h, a[:4], b[:4], nonlinearity="elu"),
        ),
        (DTypeError, r"lstm_gates: gates is int64", lambda: pg.lstm_gates(whole, whole[:4])),
    ]
    for error, match, call in cases:
        with pytest.raises(error, match=match):
            call()
