"""Cells of recurrent networks: one step. Gate order, names and formulas are PyTorch's. Sequences stand beside.

A cell is two products, which stay visible, and what is done with their sum, one op that a device may fuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, ErrorSampler, Sample, Sampler, errors
from plugrad.dtypes import FLOATING
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops.activation import relu, sigmoid
from plugrad.ops.casting import widen
from plugrad.ops.linear import linear
from plugrad.ops.movement import concat
from plugrad.ops.scan import narrow
from plugrad.ops.trigonometry import tanh
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def parts(gates: Tensor, count: int) -> list[Tensor]:
    """The ``count`` gates that stand side by side along the last axis."""
    last = gates.ndim - 1
    n = gates.shape[-1] // count
    return [narrow(gates, last, i * n, (i + 1) * n) for i in range(count)]


def activated(gates: Tensor) -> list[Tensor]:
    """The four gates of an LSTM after activation."""
    i, f, g, o = parts(gates, 4)
    return [sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)]


def lstm_pulled(
    ct_hidden: Tensor, ct_cell: Tensor, gates: list[Tensor], before: Tensor, after: Tensor
) -> tuple[Tensor, Tensor]:
    """From the cotangents of a new hidden state and a new cell, those of the gates before activation and of the cell.

    Args:
        ct_hidden: that of the new hidden state.
        ct_cell: that of the new cell.
        gates: the gates after activation.
        before: the cell.
        after: the new cell.
    """
    i, f, g, o = gates
    squashed = tanh(after)
    ct = ct_cell + ct_hidden * o * (1 - squashed * squashed)
    each = [
        ct * g * i * (1 - i),
        ct * before * f * (1 - f),
        ct * i * (1 - g * g),
        ct_hidden * squashed * o * (1 - o),
    ]
    return concat(each, axis=-1), ct * f


def gru_pulled(
    ct: Tensor, reset: Tensor, update: Tensor, candidate: Tensor, hidden_part: Tensor, before: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """From the cotangent of a new hidden state, those of the input gates, of the hidden gates, and of the state.

    Args:
        ct: that of the new hidden state.
        reset: the reset gate after activation.
        update: the update gate after activation.
        candidate: the new state that is proposed.
        hidden_part: what the reset gate is multiplied with.
        before: the hidden state.
    """
    ct_update = ct * (before - candidate) * update * (1 - update)
    ct_candidate = ct * (1 - update) * (1 - candidate * candidate)
    ct_reset = ct_candidate * hidden_part * reset * (1 - reset)
    inputs = concat([ct_reset, ct_update, ct_candidate], axis=-1)
    return inputs, concat([ct_reset, ct_update, ct_candidate * reset], axis=-1), ct * update


def _lstm_specs(call: Any) -> tuple[Spec, Spec]:
    gates: Spec = call.gates
    cell: Spec = call.cell
    if not cell.ndim or gates.shape != (*cell.shape[:-1], 4 * cell.shape[-1]):
        raise ShapeError(
            f"{call.op.name}: gates have shape {gates.shape}, the cell {cell.shape}; takes (..., 4H) and (..., H)"
        )
    return cell, cell


def _lstm_samples(rng: np.random.Generator) -> list[Sample]:
    n = rng.standard_normal
    shapes = (((3,), 2), ((), 3), ((2, 2), 1), ((0,), 2))
    return [Sample(n((*shape, 4 * h)), n((*shape, h))) for shape, h in shapes]


@op(
    kind=Kind.OTHER,
    infer=_lstm_specs,
    dtypes=FLOATING,
    promote=("gates", "cell"),
    outputs=("hidden", "cell_out"),
    samples=_lstm_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 9)), np.zeros((2, 3))),
        ErrorSample(ShapeError, np.zeros((3, 12)), np.zeros((2, 3))),
        ErrorSample(ShapeError, np.zeros(4), np.zeros(())),
    ),
)
def lstm_gates(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """What an LSTM does with its gates: ``c = sigmoid(f) * cell + sigmoid(i) * tanh(g)``, ``h = sigmoid(o) * tanh(c)``.

    Args:
        gates: (..., 4H), before activation: input, forget, candidate and output gate side by side.
        cell: (..., H).

    Returns:
        The new hidden state and the new cell, (..., H) each.

    Raises:
        ShapeError: if the shapes do not fit.

    Source: Hochreiter, Schmidhuber, "Long short-term memory" (1997); Gers, Schmidhuber, Cummins, "Learning to
    forget" (2000).
    """
    i, f, g, o = activated(widen(gates))
    new = f * cell + i * g
    dtype = cell.spec.dtype
    return (o * tanh(new)).astype(dtype), new.astype(dtype)


@lstm_gates.defvjp("gates", "cell")
def _(ct_hidden: Tensor, ct_cell_out: Tensor, gates: Tensor, cell: Tensor, cell_out: Tensor) -> Any:
    found = activated(widen(gates))
    return lstm_pulled(widen(ct_hidden), widen(ct_cell_out), found, widen(cell), widen(cell_out))


def _gru_specs(call: Any) -> Spec:
    h: Spec = call.h
    wanted = (*h.shape[:-1], 3 * h.shape[-1]) if h.ndim else None
    if call.input_gates.shape != wanted or call.hidden_gates.shape != wanted:
        raise ShapeError(
            f"{call.op.name}: the gates have shapes {call.input_gates.shape} and {call.hidden_gates.shape}, h {h.shape}; "
            "takes (..., 3H), (..., 3H) and (..., H)"
        )
    return h


def _gru_samples(rng: np.random.Generator) -> list[Sample]:
    n = rng.standard_normal
    shapes = (((3,), 2), ((), 3), ((2, 2), 1), ((0,), 2))
    return [Sample(n((*shape, 3 * h)), n((*shape, 3 * h)), n((*shape, h))) for shape, h in shapes]


def gru_parts(inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reset gate, update gate and candidate after activation, and the hidden part of the candidate."""
    xr, xz, xn = parts(inputs, 3)
    hr, hz, hn = parts(hidden, 3)
    reset, update = sigmoid(xr + hr), sigmoid(xz + hz)
    return reset, update, tanh(xn + reset * hn), hn


@op(
    kind=Kind.OTHER,
    infer=_gru_specs,
    dtypes=FLOATING,
    promote=("input_gates", "hidden_gates", "h"),
    samples=_gru_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 9)), np.zeros((2, 12)), np.zeros((2, 3))),
        ErrorSample(ShapeError, np.zeros((3, 9)), np.zeros((3, 9)), np.zeros((2, 3))),
        ErrorSample(ShapeError, np.zeros(3), np.zeros(3), np.zeros(())),
    ),
)
def gru_gates(input_gates: Tensor, hidden_gates: Tensor, h: Tensor) -> Tensor:
    """What a GRU does with its gates: ``n + z * (h - n)``.

    With x of the input and y of the hidden state, ``r = sigmoid(xr + yr)``, ``z = sigmoid(xz + yz)`` and
    ``n = tanh(xn + r * yn)``.

    Args:
        input_gates: (..., 3H), of the input, before activation: reset, update and candidate side by side.
        hidden_gates: (..., 3H), of the hidden state, likewise.
        h: hidden state, (..., H).

    Returns:
        The new hidden state, (..., H).

    Raises:
        ShapeError: if the shapes do not fit.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder" (2014), arXiv:1406.1078.
    """
    _, update, candidate, _ = gru_parts(widen(input_gates), widen(hidden_gates))
    return (candidate + update * (h - candidate)).astype(h.spec.dtype)


@gru_gates.defvjp("input_gates", "hidden_gates", "h")
def _(ct: Tensor, input_gates: Tensor, hidden_gates: Tensor, h: Tensor) -> Any:
    return gru_pulled(widen(ct), *gru_parts(widen(input_gates), widen(hidden_gates)), widen(h))


def _check_cell(
    name: str, x: Tensor, states: list[Tensor], weights: tuple[Tensor, Tensor], biases: Any, gates: int
) -> None:
    h = states[0]
    hidden = h.shape[-1] if h.ndim else 0
    wanted = (gates * hidden, x.shape[-1] if x.ndim else 0), (gates * hidden, hidden)
    leading = x.shape[:-1]
    fits = x.ndim and all(s.shape == (*leading, hidden) for s in states)
    if not fits or tuple(w.shape for w in weights) != wanted:
        rows = f"{gates}H" if gates > 1 else "H"
        raise ShapeError(
            f"{name}: x has shape {x.shape}, the state {', '.join(str(s.shape) for s in states)}, the weights "
            f"{weights[0].shape} and {weights[1].shape}; takes (..., I), (..., H), ({rows}, I) and ({rows}, H)"
        )
    for bias in biases:
        if bias is not None and bias.shape != (gates * hidden,):
            raise ShapeError(f"{name}: a bias has shape {bias.shape}; takes {(gates * hidden,)}")


def _cell_samples(gates: int, states: int, **attributes: Any) -> Sampler:
    def make(rng: np.random.Generator) -> list[Sample]:
        shapes = [(3, 2)] + [(3, 4)] * states + [(gates * 4, 2), (gates * 4, 4), (gates * 4,), (gates * 4,)]
        whole = [rng.standard_normal(s) for s in shapes]
        return [Sample(*whole, **attributes), Sample(*whole[:-2], **attributes)]

    return make


def _cell_errors(gates: int, states: int, *more: ErrorSample) -> ErrorSampler:
    """A state, a weight and a bias of another shape than they must have, one by one."""
    shapes = [(3, 2), *[(3, 4)] * states, (gates * 4, 2), (gates * 4, 4), (gates * 4,), (gates * 4,)]

    def wrong(place: int, shape: tuple[int, ...]) -> ErrorSample:
        return ErrorSample(ShapeError, *map(np.zeros, [*shapes[:place], shape, *shapes[place + 1 :]]))

    return errors(wrong(states, (2, 4)), wrong(states + 1, (gates * 4, 3)), wrong(states + 3, (4, 1)), *more)


@op(
    dtypes=FLOATING,
    autocast=Autocast.LOW,
    samples=_cell_samples(4, 2),
    errors=_cell_errors(4, 2),
)
def lstm_cell(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM; see `lstm_gates`. `lstm_sequence` makes many.

    Args:
        x: (..., I), floating.
        h: hidden state, (..., H).
        c: cell, (..., H).
        weight_ih: (4H, I): the gates in the order input, forget, candidate, output.
        weight_hh: (4H, H).
        bias_ih: (4H,), or None.
        bias_hh: (4H,), or None.

    Returns:
        The new hidden state and the new cell, (..., H) each.

    Raises:
        ShapeError: if the shapes do not fit.
    """
    _check_cell("lstm_cell", x, [h, c], (weight_ih, weight_hh), (bias_ih, bias_hh), 4)
    return lstm_gates(linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh), c)


@op(
    dtypes=FLOATING,
    autocast=Autocast.LOW,
    samples=_cell_samples(3, 1),
    errors=_cell_errors(3, 1),
)
def gru_cell(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> Tensor:
    """One step of a GRU; see `gru_gates`. `gru_sequence` makes many.

    Args:
        x: (..., I), floating.
        h: hidden state, (..., H).
        weight_ih: (3H, I): the gates in the order reset, update, candidate.
        weight_hh: (3H, H).
        bias_ih: (3H,), or None.
        bias_hh: (3H,), or None.

    Returns:
        The new hidden state, (..., H).

    Raises:
        ShapeError: if the shapes do not fit.
    """
    _check_cell("gru_cell", x, [h], (weight_ih, weight_hh), (bias_ih, bias_hh), 3)
    return gru_gates(linear(x, weight_ih, bias_ih), linear(h, weight_hh, bias_hh), h)


def check_nonlinearity(name: str, value: Any) -> str:
    """``"tanh"`` or ``"relu"``."""
    if value not in ("tanh", "relu"):
        raise ArgumentError(f"{name}: nonlinearity takes 'tanh' or 'relu', got {value!r}")
    return str(value)


@op(
    dtypes=FLOATING,
    autocast=Autocast.LOW,
    samples=lambda rng: [
        *_cell_samples(1, 1)(rng),
        *_cell_samples(1, 1, nonlinearity="relu")(rng),
    ],
    errors=_cell_errors(
        1,
        1,
        ErrorSample(
            ArgumentError,
            np.zeros((3, 2)),
            np.zeros((3, 4)),
            np.zeros((4, 2)),
            np.zeros((4, 4)),
            nonlinearity="sigmoid",
        ),
    ),
)
def rnn_cell(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
) -> Tensor:
    """One step of a plain recurrent network: ``tanh`` or ``relu`` of ``x @ weight_ih.T + h @ weight_hh.T`` and biases.

    Args:
        x: (..., I), floating.
        h: hidden state, (..., H).
        weight_ih: (H, I).
        weight_hh: (H, H).
        bias_ih: (H,), or None.
        bias_hh: (H,), or None.
        nonlinearity: ``"tanh"`` or ``"relu"``.

    Returns:
        The new hidden state, (..., H).

    Raises:
        ShapeError: if the shapes do not fit.
        ArgumentError: if there is no such nonlinearity.

    Source: Elman, "Finding structure in time" (1990).
    """
    _check_cell("rnn_cell", x, [h], (weight_ih, weight_hh), (bias_ih, bias_hh), 1)
    total = linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)
    return tanh(total) if check_nonlinearity("rnn_cell", nonlinearity) == "tanh" else relu(total)


__all__ = ["gru_cell", "gru_gates", "lstm_cell", "lstm_gates", "rnn_cell"]
