"""Cells of recurrent networks. Gate order, names and formulas are PyTorch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import FLOATING
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops.activation import relu, sigmoid
from plugrad.ops.linear import linear
from plugrad.ops.movement import concat
from plugrad.ops.trigonometry import tanh
from plugrad.spec import Spec

if TYPE_CHECKING:
    import numpy as np

    from plugrad.tensor import Tensor


def _parts(gates: Tensor, count: int) -> list[Tensor]:
    """The gates, side by side along the last axis, one by one."""
    n = gates.shape[-1] // count
    return [gates[..., i * n : (i + 1) * n] for i in range(count)]


def _lstm_specs(call: Any) -> tuple[Spec, Spec]:
    gates: Spec = call.gates
    cell: Spec = call.cell
    if gates.ndim < 1 or not cell.ndim or gates.shape != (*cell.shape[:-1], 4 * cell.shape[-1]):
        raise ShapeError(
            f"{call.op.name}: gates take 4 times the last axis of the cell, (..., 4H) with (..., H); "
            f"got {gates.shape} and {cell.shape}"
        )
    return cell, cell


def _lstm_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((*shape, 4 * h)), rng.standard_normal((*shape, h)))
        for shape, h in (((3,), 2), ((), 3), ((2, 2), 1), ((0,), 2))
    ]


@op(
    kind=Kind.OTHER,
    infer=_lstm_specs,
    dtypes=FLOATING,
    promote=("gates", "cell"),
    outputs=("hidden", "cell_out"),
    samples=_lstm_samples,
)
def lstm_gates(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """What an LSTM does with its gates before activation (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Args:
        gates: (..., 4H): input, forget, candidate and output gate side by side.
        cell: (..., H).

    Returns:
        The new hidden state and the new cell, (..., H) each.
    """
    i, f, g, o = _parts(gates, 4)
    new = sigmoid(f) * cell + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(new), new


@lstm_gates.defvjp("gates", "cell")
def _(ct_hidden: Tensor, ct_cell_out: Tensor, gates: Tensor, cell: Tensor, cell_out: Tensor) -> Any:
    i, f, g, o = _parts(gates, 4)
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    squashed = tanh(cell_out)
    ct = ct_cell_out + ct_hidden * o * (1 - squashed * squashed)
    return (
        concat(
            [
                ct * g * i * (1 - i),
                ct * cell * f * (1 - f),
                ct * i * (1 - g * g),
                ct_hidden * squashed * o * (1 - o),
            ],
            axis=-1,
        ),
        ct * f,
    )


def _check_cell(name: str, x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, gates: int) -> None:
    hidden = h.shape[-1] if h.ndim else 0
    wanted = (gates * hidden, x.shape[-1] if x.ndim else 0), (gates * hidden, hidden)
    if x.shape[:-1] != h.shape[:-1] or (weight_ih.shape, weight_hh.shape) != wanted:
        raise ShapeError(
            f"{name}: takes x (..., I), h (..., H), weight_ih ({gates}H, I) and weight_hh ({gates}H, H); "
            f"got {x.shape}, {h.shape}, {weight_ih.shape} and {weight_hh.shape}"
        )


def _cell_samples(gates: int, states: int, **attributes: Any) -> Any:
    def make(rng: np.random.Generator) -> list[Sample]:
        shapes = [(3, 2)] + [(3, 4)] * states + [(gates * 4, 2), (gates * 4, 4), (gates * 4,), (gates * 4,)]
        whole = [rng.standard_normal(s) for s in shapes]
        return [Sample(*whole, **attributes), Sample(*whole[:-2], **attributes)]

    return make


@op(dtypes=FLOATING, autocast=Autocast.LOW, samples=_cell_samples(4, 2))
def lstm_cell(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM; see `lstm_gates`.

    Args:
        x: (..., I).
        h: hidden state, (..., H).
        c: cell, (..., H).
        weight_ih: (4H, I).
        weight_hh: (4H, H).
        bias_ih: (4H,), or None.
        bias_hh: (4H,), or None.

    Returns:
        The new hidden state and the new cell, (..., H) each.
    """
    _check_cell("lstm_cell", x, h, weight_ih, weight_hh, 4)
    return lstm_gates(linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh), c)


@op(
    dtypes=FLOATING,
    samples=lambda rng: [
        Sample(rng.standard_normal((3, 6)), rng.standard_normal((3, 6)), rng.standard_normal((3, 2)))
    ],
)
def gru_gates(input_gates: Tensor, hidden_gates: Tensor, h: Tensor) -> Tensor:
    """What a GRU does with its gates before activation (Cho et al. 2014, arXiv:1406.1078).

    Args:
        input_gates: (..., 3H), of the input: reset, update and candidate side by side.
        hidden_gates: (..., 3H), of the hidden state, likewise.
        h: hidden state, (..., H).

    Returns:
        The new hidden state, (..., H).
    """
    xr, xz, xn = _parts(input_gates, 3)
    hr, hz, hn = _parts(hidden_gates, 3)
    candidate = tanh(xn + sigmoid(xr + hr) * hn)
    return candidate + sigmoid(xz + hz) * (h - candidate)


@op(dtypes=FLOATING, autocast=Autocast.LOW, samples=_cell_samples(3, 1))
def gru_cell(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> Tensor:
    """One step of a GRU; see `gru_gates`.

    Args:
        x: (..., I).
        h: hidden state, (..., H).
        weight_ih: (3H, I).
        weight_hh: (3H, H).
        bias_ih: (3H,), or None.
        bias_hh: (3H,), or None.

    Returns:
        The new hidden state, (..., H).
    """
    _check_cell("gru_cell", x, h, weight_ih, weight_hh, 3)
    return gru_gates(linear(x, weight_ih, bias_ih), linear(h, weight_hh, bias_hh), h)


@op(dtypes=FLOATING, autocast=Autocast.LOW, samples=_cell_samples(1, 1, nonlinearity="tanh"))
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
    """One step of a plain recurrent network (Elman 1990): ``tanh`` or ``relu`` of both products' sum.

    Args:
        x: (..., I).
        h: hidden state, (..., H).
        weight_ih: (H, I).
        weight_hh: (H, H).
        bias_ih: (H,), or None.
        bias_hh: (H,), or None.
        nonlinearity: ``"tanh"`` or ``"relu"``.

    Returns:
        The new hidden state, (..., H).
    """
    _check_cell("rnn_cell", x, h, weight_ih, weight_hh, 1)
    if nonlinearity not in ("tanh", "relu"):
        raise ArgumentError(f"rnn_cell: nonlinearity takes 'tanh' or 'relu', got {nonlinearity!r}")
    total = linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)
    return tanh(total) if nonlinearity == "tanh" else relu(total)


__all__ = ["gru_cell", "gru_gates", "lstm_cell", "lstm_gates", "rnn_cell"]
