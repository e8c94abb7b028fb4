"""Recurrent layers over sequences, and what cells do with their gates.

Inside a sequence, features run along rows and the batch along columns: the product of a (gates, H) weight with an
(H, N) state is up to three times as fast as that of an (N, H) state with the turned weight, the gates of a step
are whole blocks of rows, and the products over all steps at once need no array turned. Results are views of such
memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy._blas import matmul
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._precision import given, is_low, widened
from plugrad_numpy.kernels._rows import in_rows, ones, slots
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any


def _sigmoid(x: Array) -> None:
    """The logistic function, in place: ``(1 + tanh(x / 2)) / 2``, which overflows nowhere."""
    half = x.dtype.type(0.5)
    x *= half
    np.tanh(x, out=x)
    x *= half
    x += half


def _slopes(gates: Array, tanh: slice, out: Array) -> Array:
    """The derivatives of gates by what they were before activation: a (1 - a), and 1 - a a for the slice of tanh."""
    np.multiply(gates, gates, out=out)
    one = gates.dtype.type(1)
    for part in (slice(0, tanh.start), slice(tanh.stop, len(gates))):
        np.subtract(gates[part], out[part], out=out[part])
    np.subtract(one, out[tanh], out=out[tanh])
    return out


# Gates and states below are (features, n): of a step, or of rows of a cell, which are turned.


def _lstm_step(gates: Array, before: Array, after: Array, hidden: Array) -> None:
    """Activate ``gates`` in place; write the new cell and the new hidden state. ``after`` may be ``before``."""
    n = len(before)
    _sigmoid(gates[: 2 * n])
    np.tanh(gates[2 * n : 3 * n], out=gates[2 * n : 3 * n])
    _sigmoid(gates[3 * n :])
    i, f, g, o = (gates[k * n : (k + 1) * n] for k in range(4))
    spare = np.multiply(i, g, out=scratch("recurrent.0", i.shape, i.dtype))
    np.multiply(f, before, out=after)
    after += spare
    np.tanh(after, out=spare)
    np.multiply(o, spare, out=hidden)


def _lstm_back(
    gates: Array, before: Array, after: Array, ct_hidden: Array, ct_cell: Array, out: Array
) -> None:
    """Write the cotangent of the gates before activation to ``out``; turn ``ct_cell`` to that of the cell before."""
    n = len(before)
    i, f, g, o = (gates[k * n : (k + 1) * n] for k in range(4))
    squashed = np.tanh(after, out=scratch("recurrent.0", after.shape, after.dtype))
    np.multiply(ct_hidden, squashed, out=out[3 * n :])
    np.multiply(squashed, squashed, out=squashed)
    np.subtract(gates.dtype.type(1), squashed, out=squashed)
    squashed *= o
    squashed *= ct_hidden
    ct_cell += squashed
    np.multiply(ct_cell, g, out=out[:n])
    np.multiply(ct_cell, before, out=out[n : 2 * n])
    np.multiply(ct_cell, i, out=out[2 * n : 3 * n])
    out *= _slopes(gates, slice(2 * n, 3 * n), scratch("recurrent.1", gates.shape, gates.dtype))
    ct_cell *= f


def _gru_step(inputs: Array, others: Array, gates: Array, before: Array, hidden: Array) -> None:
    """From both parts before activation, write reset, update, candidate and the hidden part of it to ``gates``."""
    n = len(before)
    np.add(inputs[: 2 * n], others[: 2 * n], out=gates[: 2 * n])
    _sigmoid(gates[: 2 * n])
    reset, update, candidate, part = (gates[k * n : (k + 1) * n] for k in range(4))
    np.copyto(part, others[2 * n :])
    np.multiply(reset, part, out=candidate)
    candidate += inputs[2 * n :]
    np.tanh(candidate, out=candidate)
    spare = np.subtract(before, candidate, out=scratch("recurrent.0", before.shape, before.dtype))
    spare *= update
    np.add(candidate, spare, out=hidden)


def _gru_back(gates: Array, before: Array, ct: Array, inputs: Array, others: Array) -> None:
    """Write the cotangents of both parts before activation; turn ``ct`` to what the state before has of its own."""
    n = len(before)
    reset, update, candidate, part = (gates[k * n : (k + 1) * n] for k in range(4))
    slopes = _slopes(
        gates[: 3 * n], slice(2 * n, 3 * n), scratch("recurrent.1", (3 * n, *ct.shape[1:]), ct.dtype)
    )
    np.subtract(before, candidate, out=inputs[n : 2 * n])
    inputs[n : 2 * n] *= ct
    kept = np.multiply(ct, update, out=scratch("recurrent.0", ct.shape, ct.dtype))
    np.subtract(ct, kept, out=inputs[2 * n :])
    inputs[n:] *= slopes[n:]
    np.multiply(inputs[2 * n :], part, out=inputs[:n])
    inputs[:n] *= slopes[:n]
    np.copyto(others[: 2 * n], inputs[: 2 * n])
    np.multiply(inputs[2 * n :], reset, out=others[2 * n :])
    np.copyto(ct, kept)


# -- cells ------------------------------------------------------------------------------------------------


def _turned(x: Array, part: slice) -> Array:
    """A copy of rows of ``x`` (rows, features) as (features, rows), to compute in."""
    return np.array(widened(x[part]).T, order="C")


def _flat(x: Array) -> Array:
    width = x.shape[-1]
    return np.ascontiguousarray(x).reshape(x.size // max(1, width), width)


def _results(shape: Any, dtype: Any, count: int) -> list[Array]:
    return [np.empty(shape, dtype) for _ in range(count)]


@table(ops.lstm_gates)
@silent
def _(gates: Array, cell: Array, *, into: Any = None) -> tuple[Array, Array]:
    whole, before = _flat(gates), _flat(cell)
    hidden, after = _results(before.shape, cell.dtype, 2)

    def work(part: slice, _: Any) -> None:
        z, c = _turned(whole, part), _turned(before, part)
        h = scratch("recurrent.2", c.shape, c.dtype)
        _lstm_step(z, c, c, h)
        hidden[part], after[part] = h.T, c.T

    in_rows(work, len(whole), whole.shape[1], 8)
    return tuple(
        given(r.reshape(cell.shape), i) for r, i in zip((hidden, after), slots(into, 2), strict=True)
    )


@table(ops.lstm_gates.vjp)
@silent
def _(
    ct_hidden: Array, ct_cell_out: Array, gates: Array, cell: Array, cell_out: Array, *, into: Any = None
) -> tuple[Array, Array]:
    whole, before, after = _flat(gates), _flat(cell), _flat(cell_out)
    cts = _flat(ct_hidden), _flat(ct_cell_out)
    found, states = np.empty(whole.shape, gates.dtype), np.empty(before.shape, cell.dtype)

    def work(part: slice, _: Any) -> None:
        z, c = _turned(whole, part), _turned(before, part)
        hidden = scratch("recurrent.2", c.shape, c.dtype)
        _lstm_step(z, c, scratch("recurrent.3", c.shape, c.dtype), hidden)
        ct_cell = _turned(cts[1], part)
        out = scratch("recurrent.4", z.shape, z.dtype)
        _lstm_back(z, c, _turned(after, part), _turned(cts[0], part), ct_cell, out)
        found[part], states[part] = out.T, ct_cell.T

    in_rows(work, len(whole), whole.shape[1], 8)
    return tuple(
        given(r.reshape(s), i)
        for r, s, i in zip((found, states), (gates.shape, cell.shape), slots(into, 2), strict=True)
    )


@table(ops.gru_gates)
@silent
def _(input_gates: Array, hidden_gates: Array, h: Array, *, into: Array | None = None) -> Array:
    inputs, others, before = _flat(input_gates), _flat(hidden_gates), _flat(h)
    hidden = np.empty(before.shape, h.dtype)

    def work(part: slice, _: Any) -> None:
        state = _turned(before, part)
        gates = scratch("recurrent.2", (4 * len(state), state.shape[1]), state.dtype)
        out = scratch("recurrent.3", state.shape, state.dtype)
        _gru_step(_turned(inputs, part), _turned(others, part), gates, state, out)
        hidden[part] = out.T

    in_rows(work, len(before), inputs.shape[1], 8)
    return given(hidden.reshape(h.shape), into)


@table(ops.gru_gates.vjp)
@silent
def _(
    ct: Array, input_gates: Array, hidden_gates: Array, h: Array, *, into: Any = None
) -> tuple[Array, Array, Array]:
    inputs, others, before, cts = (_flat(a) for a in (input_gates, hidden_gates, h, ct))
    found = _results(inputs.shape, input_gates.dtype, 2)
    states = np.empty(before.shape, h.dtype)

    def work(part: slice, _: Any) -> None:
        state, c = _turned(before, part), _turned(cts, part)
        gates = scratch("recurrent.2", (4 * len(state), state.shape[1]), state.dtype)
        x, y = _turned(inputs, part), _turned(others, part)
        _gru_step(x, y, gates, state, scratch("recurrent.3", state.shape, state.dtype))
        _gru_back(gates, state, c, x, y)
        found[0][part], found[1][part], states[part] = x.T, y.T, c.T

    in_rows(work, len(before), inputs.shape[1], 8)
    shapes = (input_gates.shape, hidden_gates.shape, h.shape)
    return tuple(
        given(r.reshape(s), i) for r, s, i in zip((*found, states), shapes, slots(into, 3), strict=True)
    )


# -- sequences --------------------------------------------------------------------------------------------


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
        _lstm_step(z, before, cells[at], s.states[:, new])
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
        _lstm_back(gates[t], before, cells[t], ct_state, ct_cell, z)
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
        _gru_step(own, others, gates[t if residuals else 0], s.states[:, old], s.states[:, new])
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
        _gru_back(gates[t], s.states[:, old], ct_state, own, others)
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
