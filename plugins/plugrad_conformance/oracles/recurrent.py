"""Oracles of recurrent cells, and of layers that run them over a sequence. Gates stand in PyTorch's order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle
from plugrad_conformance.oracles.linear import affine


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``."""
    return np.asarray(1 / (1 + np.exp(-x)))


@oracle("lstm_gates")
@np.errstate(all="ignore")
def _lstm_gates(gates: Array, cell: Array) -> tuple[Array, Array]:
    i, f, g, o = np.split(gates, 4, axis=-1)
    new = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(new), new


@oracle("gru_gates")
@np.errstate(all="ignore")
def _gru_gates(input_gates: Array, hidden_gates: Array, h: Array) -> Array:
    xr, xz, xn = np.split(input_gates, 3, axis=-1)
    hr, hz, hn = np.split(hidden_gates, 3, axis=-1)
    reset, update = sigmoid(xr + hr), sigmoid(xz + hz)
    candidate = np.tanh(xn + reset * hn)
    return np.asarray(candidate + update * (h - candidate))


@oracle("lstm_cell")
def _lstm_cell(
    x: Array,
    h: Array,
    c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
) -> tuple[Array, Array]:
    return _lstm_gates(affine(x, weight_ih, bias_ih) + affine(h, weight_hh, bias_hh), c)


@oracle("gru_cell")
def _gru_cell(
    x: Array, h: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None, bias_hh: Array | None
) -> Array:
    return _gru_gates(affine(x, weight_ih, bias_ih), affine(h, weight_hh, bias_hh), h)


@oracle("rnn_cell")
@np.errstate(all="ignore")
def _rnn_cell(
    x: Array,
    h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
    *,
    nonlinearity: str,
) -> Array:
    total = affine(x, weight_ih, bias_ih) + affine(h, weight_hh, bias_hh)
    return np.asarray(np.tanh(total) if nonlinearity == "tanh" else np.maximum(total, 0.0))


def _steps(x: Array, reverse: bool) -> Iterator[int]:
    """The steps of (T, N, I) in the order in which they are made."""
    return iter(reversed(range(len(x))) if reverse else range(len(x)))


@oracle("lstm_sequence")
def _lstm_sequence(
    x: Array,
    hidden: Array,
    cell: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
    *,
    reverse: bool,
) -> tuple[Array, Array]:
    outputs = np.zeros((len(x), *hidden.shape))
    for t in _steps(x, reverse):
        hidden, cell = _lstm_cell(x[t], hidden, cell, weight_ih, weight_hh, bias_ih, bias_hh)
        outputs[t] = hidden
    return outputs, cell


@oracle("gru_sequence")
def _gru_sequence(
    x: Array,
    hidden: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
    *,
    reverse: bool,
) -> Array:
    outputs = np.zeros((len(x), *hidden.shape))
    for t in _steps(x, reverse):
        outputs[t] = hidden = _gru_cell(x[t], hidden, weight_ih, weight_hh, bias_ih, bias_hh)
    return outputs


@oracle("rnn_sequence")
def _rnn_sequence(
    x: Array,
    hidden: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
    *,
    nonlinearity: str,
    reverse: bool,
) -> Array:
    outputs = np.zeros((len(x), *hidden.shape))
    for t in _steps(x, reverse):
        hidden = _rnn_cell(x[t], hidden, weight_ih, weight_hh, bias_ih, bias_hh, nonlinearity=nonlinearity)
        outputs[t] = hidden
    return outputs
