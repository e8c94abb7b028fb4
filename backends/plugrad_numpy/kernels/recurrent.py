"""What recurrent cells do with their gates.

Gates and states are worked on as (features, rows), where the gates are whole blocks of memory; the kernels of cells
turn blocks of theirs, those of sequences (`plugrad_numpy.kernels.sequence`) keep them so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._rows import in_rows, slots
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


def lstm_step(gates: Array, before: Array, after: Array, hidden: Array) -> None:
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


def lstm_back(
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


def gru_step(inputs: Array, others: Array, gates: Array, before: Array, hidden: Array) -> None:
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


def gru_back(gates: Array, before: Array, ct: Array, inputs: Array, others: Array) -> None:
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
        lstm_step(z, c, c, h)
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
        lstm_step(z, c, scratch("recurrent.3", c.shape, c.dtype), hidden)
        ct_cell = _turned(cts[1], part)
        out = scratch("recurrent.4", z.shape, z.dtype)
        lstm_back(z, c, _turned(after, part), _turned(cts[0], part), ct_cell, out)
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
        gru_step(_turned(inputs, part), _turned(others, part), gates, state, out)
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
        gru_step(x, y, gates, state, scratch("recurrent.3", state.shape, state.dtype))
        gru_back(gates, state, c, x, y)
        found[0][part], found[1][part], states[part] = x.T, y.T, c.T

    in_rows(work, len(before), inputs.shape[1], 8)
    shapes = (input_gates.shape, hidden_gates.shape, h.shape)
    return tuple(
        given(r.reshape(s), i) for r, s, i in zip((*found, states), shapes, slots(into, 3), strict=True)
    )
