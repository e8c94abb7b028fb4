"""Recurrent layers over sequences.

Features run along rows and the batch along columns: the product of a (gates, H) weight with an (H, N) state is up
to three times as fast as that of an (N, H) state with the turned weight, the gates of a step are whole blocks of
rows, and the products over all steps at once need no array turned. Results are views of such memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy._blas import matmul
from plugrad_numpy.kernels._precision import given, is_low, widened
from plugrad_numpy.kernels._rows import ones, slots
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels.recurrent import gru_back, gru_step, lstm_back, lstm_step

Array = Any


class _Sequence:
    """The operands of a sequence in float32 or float64, and the memory of its states, (H, T + 1, N).

    Attributes:
        states: the state to begin with and that after each step, in the order of time.
    """

    def __init__(self, x: Array, hidden: Array, weight_hh: Array, reverse: bool) -> None:
        self.steps, self.batch, self.features = x.shape
        self.dtype = x.dtype
        self.wide = np.dtype(np.float32) if is_low(x.dtype) else x.dtype
        self.x = widened(x)
        self.hidden_size = hidden.shape[1]
        self.weight = np.ascontiguousarray(widened(weight_hh))
        self.reverse = reverse
        self.states = np.empty((self.hidden_size, self.steps + 1, self.batch), self.wide)
        self.states[:, self.steps if reverse else 0] = hidden.T

    def rows(self) -> Array:
        """The steps of x, (T N, I)."""
        return self.x.reshape(self.steps * self.batch, self.features)

    def inputs(self, weight_ih: Array, *biases: Array | None) -> Array:
        """The gates of the input, (gates, T, N), with biases."""
        found = matmul(np.ascontiguousarray(widened(weight_ih)), self.rows().T)
        present = [widened(b) for b in biases if b is not None]
        if present:
            found += sum(present[1:], present[0])[:, None]
        return found.reshape(len(found), self.steps, self.batch)

    def order(self, *, back: bool = False) -> Iterator[tuple[int, int, int]]:
        """Step by step: its number, where the state before it stands, and where that after it."""
        forth = range(self.steps)
        for t in forth if self.reverse == back else reversed(forth):
            yield (t, t + 1, t) if self.reverse else (t, t, t + 1)

    def outputs(self) -> Array:
        """The states after each step, (T, N, H)."""
        after = self.states[:, :-1] if self.reverse else self.states[:, 1:]
        return self.result(after)

    def before(self) -> Array:
        """The states before each step, (H, T N)."""
        before = self.states[:, 1:] if self.reverse else self.states[:, :-1]
        return before.reshape(self.hidden_size, self.steps * self.batch)

    def result(self, x: Array) -> Array:
        """(features, T, N) as (T, N, features), in the dtype of x."""
        return x.astype(self.dtype, copy=False).transpose(1, 2, 0)

    def restore(self, outputs: Array) -> None:
        """Fill the states from outputs."""
        after = self.states[:, :-1] if self.reverse else self.states[:, 1:]
        np.copyto(after, outputs.transpose(2, 0, 1))

    def pulled(
        self,
        inputs: Array,
        others: Array,
        weight_ih: Array,
        states: dict[str, Array],
        wrt: tuple[str, ...],
        into: Any,
    ) -> tuple[Array, ...]:
        """The cotangents in ``wrt`` from those of both gates, (gates, T, N), and of the states, (H, N)."""
        gates = len(inputs)
        flat = {"ih": inputs.reshape(gates, -1), "hh": others.reshape(gates, -1)}
        results = []
        for name, where in zip(wrt, slots(into, len(wrt)), strict=True):
            if name == "x":
                found = matmul(flat["ih"].T, widened(weight_ih)).reshape(self.x.shape)
            elif name == "weight_ih":
                found = matmul(flat["ih"], self.rows())
            elif name == "weight_hh":
                found = matmul(flat["hh"], self.before().T)
            elif name in states:
                found = states[name].T
            else:
                own = flat[name.removeprefix("bias_")]
                found = own @ ones(own.shape[1], self.wide)
            results.append(given(found.astype(self.dtype, copy=False), where))
        return tuple(results)


def _written(results: tuple[Array, ...], into: Any) -> tuple[Array, ...]:
    return tuple(given(r, i) for r, i in zip(results, slots(into, len(results)), strict=True))


@table(ops.lstm_sequence)
@silent
def _(
    x: Array,
    hidden: Array,
    cell: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
    *,
    reverse: bool,
    residuals: bool,
    into: Any = None,
) -> tuple[Array, ...]:
    s = _Sequence(x, hidden, weight_hh, reverse)
    inputs = s.inputs(weight_ih, bias_ih, bias_hh)
    size, batch = s.hidden_size, s.batch
    # Without a record, each step uses the memory of the one before.
    kept = s.steps if residuals else 1
    gates = np.empty((kept, 4 * size, batch), s.wide)
    cells = np.empty((kept, size, batch), s.wide)
    before = widened(cell).T
    for t, old, new in s.order():
        at = t if residuals else 0
        z = gates[at]
        matmul(s.weight, s.states[:, old], z)
        z += inputs[:, t]
        lstm_step(z, before, cells[at], s.states[:, new])
        before = cells[at]
    results = s.outputs(), before.T.astype(s.dtype)
    if residuals:
        results = (*results, gates.transpose(0, 2, 1), cells.transpose(0, 2, 1))  # type: ignore[assignment]
    return _written(results, into)


@table(ops.lstm_sequence.vjp)
@silent
def _(
    ct_outputs: Array,
    ct_cell_out: Array,
    x: Array,
    hidden: Array,
    cell: Array,
    weight_ih: Array,
    weight_hh: Array,
    outputs: Array,
    gates: Array,
    cells: Array,
    *,
    reverse: bool,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[Array, ...]:
    s = _Sequence(x, hidden, weight_hh, reverse)
    s.restore(outputs)
    size, batch, turned = s.hidden_size, s.batch, s.weight.T
    gates, cells = gates.transpose(0, 2, 1), cells.transpose(0, 2, 1)
    found = np.empty((4 * size, s.steps, batch), s.wide)
    z = np.empty((4 * size, batch), s.wide)
    ct_cell = widened(ct_cell_out).T.copy()
    ct_state = np.zeros((size, batch), s.wide)
    first = widened(cell).T
    last = 0 if not reverse else s.steps - 1
    for t, _, _ in s.order(back=True):
        ct_state += ct_outputs[t].T
        before = first if t == last else cells[t + 1 if reverse else t - 1]
        lstm_back(gates[t], before, cells[t], ct_state, ct_cell, z)
        found[:, t] = z
        matmul(turned, z, ct_state)
    return s.pulled(found, found, weight_ih, {"hidden": ct_state, "cell": ct_cell}, wrt, into)


@table(ops.gru_sequence)
@silent
def _(
    x: Array,
    hidden: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
    *,
    reverse: bool,
    residuals: bool,
    into: Any = None,
) -> Any:
    s = _Sequence(x, hidden, weight_hh, reverse)
    inputs = s.inputs(weight_ih, bias_ih)
    size, batch = s.hidden_size, s.batch
    bias = None if bias_hh is None else widened(bias_hh)[:, None]
    gates = np.empty((s.steps if residuals else 1, 4 * size, batch), s.wide)
    others, own = np.empty((3 * size, batch), s.wide), np.empty((3 * size, batch), s.wide)
    for t, old, new in s.order():
        matmul(s.weight, s.states[:, old], others)
        if bias is not None:
            others += bias
        np.copyto(own, inputs[:, t])
        gru_step(own, others, gates[t if residuals else 0], s.states[:, old], s.states[:, new])
    if not residuals:
        return given(s.outputs(), into)
    return _written((s.outputs(), gates.transpose(0, 2, 1)), into)


@table(ops.gru_sequence.vjp)
@silent
def _(
    ct: Array,
    x: Array,
    hidden: Array,
    weight_ih: Array,
    weight_hh: Array,
    out: Array,
    gates: Array,
    *,
    reverse: bool,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[Array, ...]:
    s = _Sequence(x, hidden, weight_hh, reverse)
    s.restore(out)
    size, batch, turned = s.hidden_size, s.batch, s.weight.T
    gates = gates.transpose(0, 2, 1)
    found = [np.empty((3 * size, s.steps, batch), s.wide) for _ in range(2)]
    own, others = np.empty((3 * size, batch), s.wide), np.empty((3 * size, batch), s.wide)
    ct_state, spare = np.zeros((size, batch), s.wide), np.empty((size, batch), s.wide)
    for t, old, _ in s.order(back=True):
        ct_state += ct[t].T
        gru_back(gates[t], s.states[:, old], ct_state, own, others)
        found[0][:, t], found[1][:, t] = own, others
        ct_state += matmul(turned, others, spare)
    return s.pulled(*found, weight_ih, {"hidden": ct_state}, wrt, into)


@table(ops.rnn_sequence)
@silent
def _(
    x: Array,
    hidden: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
    *,
    nonlinearity: str,
    reverse: bool,
    into: Array | None = None,
) -> Array:
    s = _Sequence(x, hidden, weight_hh, reverse)
    inputs = s.inputs(weight_ih, bias_ih, bias_hh)
    z = np.empty((s.hidden_size, s.batch), s.wide)
    for t, old, new in s.order():
        matmul(s.weight, s.states[:, old], z)
        z += inputs[:, t]
        if nonlinearity == "tanh":
            np.tanh(z, out=s.states[:, new])
        else:
            np.maximum(z, z.dtype.type(0), out=s.states[:, new])
    return given(s.outputs(), into)


@table(ops.rnn_sequence.vjp)
@silent
def _(
    ct: Array,
    x: Array,
    hidden: Array,
    weight_ih: Array,
    weight_hh: Array,
    out: Array,
    *,
    nonlinearity: str,
    reverse: bool,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[Array, ...]:
    s = _Sequence(x, hidden, weight_hh, reverse)
    s.restore(out)
    turned = s.weight.T
    found = np.empty((s.hidden_size, s.steps, s.batch), s.wide)
    z = np.empty((s.hidden_size, s.batch), s.wide)
    ct_state = np.zeros((s.hidden_size, s.batch), s.wide)
    for t, _, new in s.order(back=True):
        state = s.states[:, new]
        ct_state += ct[t].T
        if nonlinearity == "tanh":
            np.multiply(state, state, out=z)
            np.subtract(z.dtype.type(1), z, out=z)
            z *= ct_state
        else:
            np.multiply(ct_state, state > 0, out=z)
        found[:, t] = z
        matmul(turned, z, ct_state)
    return s.pulled(found, found, weight_ih, {"hidden": ct_state}, wrt, into)
