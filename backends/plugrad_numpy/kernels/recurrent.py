"""What recurrent cells do with their gates.

Gates and states are rows: (rows, features), the gates of a row side by side. Where a logistic function comes, it is
``(1 + tanh(x / 2)) / 2``, which overflows nowhere; the functions of a step take its arguments halved, so that one call
of tanh serves all gates, and sequences (`plugrad_numpy.kernels.sequence`) have their weights halved instead.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from plugrad import ops
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._rows import contiguous, in_rows, slots
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any
Pieces = Iterable[tuple[slice, Array]]
"""Parts of an array, and where along its first axis they belong."""


class LSTMVectors(NamedTuple):
    """What is to be done with the gates of an LSTM, (rows, 4H) each, all rows the same; only the third is a tanh.

    To be read only.

    Attributes:
        scale: 1/2 where a logistic function comes, before and after tanh; else 1.
        shift: what is added then: 1/2, or -0, which changes nothing.
        ones: 1 for a logistic function, else 0: derivatives are (ones - a) a, and 1 more for tanh.
    """

    scale: Array
    shift: Array
    ones: Array

    def part(self, rows: int) -> LSTMVectors:
        """Of fewer rows."""
        return LSTMVectors(self.scale[:rows], self.shift[:rows], self.ones[:rows])


@functools.lru_cache(maxsize=16)
def lstm_vectors(rows: int, size: int, dtype: Any) -> LSTMVectors:
    """For at most so many rows of states of ``size`` features.

    Long ones are one row: NumPy repeats it. Short ones, which it would copy to do so (`_silent`), are there for each row.
    """
    if 4 * size >= 1024:
        rows = 1
    found = np.empty((3, rows, 4, size), dtype)
    found[:2], found[2] = 0.5, 1
    found[:, :, 2] = np.array([1, -0.0, 0], dtype)[:, None, None]
    return LSTMVectors(*found.reshape(3, rows, 4 * size))


def activate(gates: Array, vectors: LSTMVectors) -> None:
    """Activate the gates of an LSTM, halved, in place."""
    np.tanh(gates, out=gates)
    gates *= vectors.scale
    gates += vectors.shift


def lstm_step(
    gates: Array, before: Array, after: Array, hidden: Array, vectors: LSTMVectors, spare: Array
) -> None:
    """Activate ``gates``, halved, in place; write the new cell and the new hidden state. ``after`` may be ``before``."""
    n = before.shape[1]
    activate(gates, vectors)
    np.multiply(gates[:, :n], gates[:, 2 * n : 3 * n], out=spare)
    np.multiply(gates[:, n : 2 * n], before, out=after)
    after += spare
    np.tanh(after, out=spare)
    np.multiply(gates[:, 3 * n :], spare, out=hidden)


def lstm_slopes(
    gates: Array, before: Pieces, after: Array, out: Array, through: Array, vectors: LSTMVectors
) -> None:
    """Derivatives of a step, of the gates after activation.

    Args:
        gates: after activation, (..., 4H).
        before: the cells before, in pieces.
        after: the cells after, (..., H).
        out: by the gates before activation: of the cell after, and for the output gate of the hidden state; (..., 4H).
        through: of the hidden state by the cell after, (..., H).
        vectors: see there.
    """
    n = after.shape[-1]
    one = gates.dtype.type(1)
    np.subtract(vectors.ones, gates, out=out)
    out *= gates
    out[..., 2 * n : 3 * n] += one
    out[..., :n] *= gates[..., 2 * n : 3 * n]
    for place, cells in before:
        out[place, ..., n : 2 * n] *= cells
    out[..., 2 * n : 3 * n] *= gates[..., :n]
    np.tanh(after, out=through)
    out[..., 3 * n :] *= through
    np.multiply(through, through, out=through)
    np.subtract(one, through, out=through)
    through *= gates[..., 3 * n :]


def lstm_back(
    gates: Array, ct_hidden: Array, ct_cell: Array, out: Array, through: Array, spare: Array
) -> None:
    """Turn derivatives (`lstm_slopes`) in ``out`` to the cotangents of the gates, and ``ct_cell`` to that of the cell before.

    All are rows.
    """
    n = ct_cell.shape[1]
    np.multiply(ct_hidden, through, out=spare)
    ct_cell += spare
    three = out[:, : 3 * n].reshape(len(out), 3, n)
    three *= ct_cell[:, None]
    out[:, 3 * n :] *= ct_hidden
    ct_cell *= gates[:, n : 2 * n]


def gru_step(gates: Array, inputs: Array, before: Array, hidden: Array, spare: Array) -> None:
    """Activate the gates, and write the new hidden state.

    Args:
        gates: (rows, 4H): what reset gate, update gate and candidate have of the hidden state; the last quarter is to
            hold the candidate. Of reset and update gate half.
        inputs: what they have of the input, (rows, 3H). Of reset and update gate half.
        before: the hidden state.
        hidden: where the new one goes; may be ``before``.
        spare: memory for a state.
    """
    n = before.shape[1]
    half = gates.dtype.type(0.5)
    both, candidate = gates[:, : 2 * n], gates[:, 3 * n :]
    both += inputs[:, : 2 * n]
    np.tanh(both, out=both)
    both *= half
    both += half
    np.multiply(gates[:, :n], gates[:, 2 * n : 3 * n], out=candidate)
    candidate += inputs[:, 2 * n :]
    np.tanh(candidate, out=candidate)
    np.subtract(before, candidate, out=spare)
    spare *= gates[:, n : 2 * n]
    np.add(candidate, spare, out=hidden)


def gru_slopes(gates: Array, before: Pieces, out: Array, spare: Array) -> None:
    """Derivatives of a new hidden state by what `gru_step` takes.

    Args:
        gates: what `gru_step` has left, (..., 4H).
        before: the hidden states before, in pieces.
        out: by, in this order, what the candidate has of the input, reset and update gate, and what the candidate has of
            the hidden state, before activation, (..., 4H). The first three are the gates of the input, the last three
            those of the hidden state.
        spare: memory for (..., 2H).
    """
    n = gates.shape[-1] // 4
    one = gates.dtype.type(1)
    both, update, candidate = gates[..., : 2 * n], gates[..., n : 2 * n], gates[..., 3 * n :]
    first, last, kept = out[..., :n], out[..., 3 * n :], spare[..., :n]
    np.subtract(one, both, out=spare)
    np.multiply(spare, both, out=out[..., n : 3 * n])
    for place, states in before:
        out[place, ..., 2 * n : 3 * n] *= np.subtract(states, candidate[place], out=kept[place])
    np.multiply(candidate, candidate, out=first)
    np.subtract(one, first, out=first)
    first *= np.subtract(one, update, out=kept)
    np.multiply(first, gates[..., :n], out=last)
    out[..., n : 2 * n] *= np.multiply(first, gates[..., 2 * n : 3 * n], out=kept)


def gru_back(gates: Array, ct: Array, out: Array) -> None:
    """Turn derivatives (`gru_slopes`) in ``out`` to cotangents, and ``ct`` to what the state before has of its own.

    All are rows.
    """
    n = ct.shape[1]
    each = out.reshape(len(out), 4, n)
    each *= ct[:, None]
    ct *= gates[:, n : 2 * n]


# -- cells ------------------------------------------------------------------------------------------------


def _flat(x: Array) -> Array:
    width = x.shape[-1]
    return np.ascontiguousarray(x).reshape(x.size // max(1, width), width)


def _rooms(like: tuple[Array, ...], into: Any) -> tuple[list[Array], list[Array]]:
    """Where results of the shapes and dtypes of ``like`` go, and the same as rows."""
    places = slots(into, len(like))
    rooms = [contiguous(i, a.shape, a.dtype) for a, i in zip(like, places, strict=True)]
    return rooms, [_flat(r) for r in rooms]


def _given(rooms: list[Array], into: Any) -> tuple[Array, ...]:
    places = slots(into, len(rooms))
    return tuple(r if i is r else given(r, i) for r, i in zip(rooms, places, strict=True))


def _copy(x: Array, name: str) -> Array:
    """``x`` in float32 or float64, to compute in."""
    x = widened(x)
    buffer = scratch(name, x.shape, x.dtype)
    np.copyto(buffer, x)
    return buffer


def _lstm_halved(gates: Array, vectors: LSTMVectors) -> Array:
    gates = widened(gates)
    return np.multiply(gates, vectors.scale, out=scratch("recurrent.gates", gates.shape, gates.dtype))


@table(ops.lstm_gates)
@silent
def _(gates: Array, cell: Array, *, into: Any = None) -> tuple[Array, ...]:
    whole, before = _flat(gates), _flat(cell)
    rooms, (hidden, after) = _rooms((cell, cell), into)
    vectors = lstm_vectors(1, before.shape[1], widened(cell[:0]).dtype)

    def work(part: slice, _: Any) -> None:
        z, c = _lstm_halved(whole[part], vectors), _copy(before[part], "recurrent.0")
        h, spare = (scratch(f"recurrent.{i}", c.shape, c.dtype) for i in (1, 2))
        lstm_step(z, c, c, h, vectors, spare)
        hidden[part], after[part] = h, c

    in_rows(work, len(whole), whole.shape[1], 8)
    return _given(rooms, into)


@table(ops.lstm_gates.vjp)
@silent
def _(
    ct_hidden: Array, ct_cell_out: Array, gates: Array, cell: Array, cell_out: Array, *, into: Any = None
) -> tuple[Array, ...]:
    whole, before, after = _flat(gates), _flat(cell), _flat(cell_out)
    cts = _flat(ct_hidden), _flat(ct_cell_out)
    rooms, (found, states) = _rooms((gates, cell), into)
    vectors = lstm_vectors(1, before.shape[1], widened(cell[:0]).dtype)

    def work(part: slice, _: Any) -> None:
        z, c = _lstm_halved(whole[part], vectors), widened(before[part])
        activate(z, vectors)
        through, spare = (scratch(f"recurrent.{i}", c.shape, c.dtype) for i in (1, 2))
        ct_cell, out = _copy(cts[1][part], "recurrent.3"), scratch("recurrent.4", z.shape, z.dtype)
        lstm_slopes(z, [(slice(None), c)], widened(after[part]), out, through, vectors)
        lstm_back(z, widened(cts[0][part]), ct_cell, out, through, spare)
        found[part], states[part] = out, ct_cell

    in_rows(work, len(whole), whole.shape[1], 8)
    return _given(rooms, into)


def _gru_halved(inputs: Array, others: Array, n: int) -> tuple[Array, Array]:
    """What `gru_step` takes for its gates and inputs."""
    x, y = widened(inputs), widened(others)
    gates = scratch("recurrent.gates", (len(x), 4 * n), x.dtype)
    found = scratch("recurrent.inputs", x.shape, x.dtype)
    half = x.dtype.type(0.5)
    for place, source in ((found, x), (gates, y)):
        np.multiply(source[:, : 2 * n], half, out=place[:, : 2 * n])
        np.copyto(place[:, 2 * n : 3 * n], source[:, 2 * n :])
    return gates, found


@table(ops.gru_gates)
@silent
def _(input_gates: Array, hidden_gates: Array, h: Array, *, into: Array | None = None) -> Array:
    inputs, others, before = _flat(input_gates), _flat(hidden_gates), _flat(h)
    rooms, (hidden,) = _rooms((h,), into)

    def work(part: slice, _: Any) -> None:
        state = _copy(before[part], "recurrent.0")
        gates, own = _gru_halved(inputs[part], others[part], state.shape[1])
        gru_step(gates, own, state, state, scratch("recurrent.1", state.shape, state.dtype))
        hidden[part] = state

    in_rows(work, len(before), inputs.shape[1], 8)
    return _given(rooms, into)[0]


@table(ops.gru_gates.vjp)
@silent
def _(ct: Array, input_gates: Array, hidden_gates: Array, h: Array, *, into: Any = None) -> tuple[Array, ...]:
    inputs, others, before, cts = (_flat(a) for a in (input_gates, hidden_gates, h, ct))
    rooms, (found, hidden, states) = _rooms((input_gates, hidden_gates, h), into)
    n = before.shape[1]

    def work(part: slice, _: Any) -> None:
        state, c = widened(before[part]), _copy(cts[part], "recurrent.0")
        gates, own = _gru_halved(inputs[part], others[part], n)
        spare = scratch("recurrent.1", (len(state), 2 * n), state.dtype)
        gru_step(gates, own, state, scratch("recurrent.2", state.shape, state.dtype), spare[:, :n])
        out = scratch("recurrent.3", gates.shape, gates.dtype)
        gru_slopes(gates, [(slice(None), state)], out, spare)
        gru_back(gates, c, out)
        found[part, : 2 * n], found[part, 2 * n :] = out[:, n : 3 * n], out[:, :n]
        hidden[part], states[part] = out[:, n:], c

    in_rows(work, len(before), inputs.shape[1], 8)
    return _given(rooms, into)
