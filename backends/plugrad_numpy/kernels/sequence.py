"""Recurrent layers over sequences: what a step is, and what a step back is."""

from __future__ import annotations

from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._masks import keep
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._recurrence import Backward, Recurrence
from plugrad_numpy.kernels._rows import slots
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels.recurrent import (
    gru_back,
    gru_slopes,
    gru_step,
    lstm_back,
    lstm_slopes,
    lstm_step,
    lstm_vectors,
)

Array = Any


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
    s = Recurrence(x, hidden, 4, reverse)
    places = slots(into, 4 if residuals else 2)
    outputs = s.like_x(s.size, x.dtype, places[0])
    last = np.empty(cell.shape, x.dtype) if places[1] is None else places[1]
    gates: Any = s.kept(4, places[2]) if residuals else None
    cells: Any = s.kept(1, places[3]) if residuals else None
    vectors = lstm_vectors(s.rows, s.size, s.wide)
    pieces = [weight_hh.T, s.bias(bias_ih, bias_hh), weight_ih.T]
    weight = s.weight("forward", pieces, vectors.scale[0])

    def work(rows: slice, _: int) -> None:
        before, spare = s.scratch("cell", rows), s.scratch("0", rows)
        own = vectors.part(len(spare))
        z, after = s.scratch("gates", rows, 4), before
        np.copyto(before, cell[rows], casting="unsafe")
        for t, operand, state, _own in s.forth(rows, outputs):
            if residuals:
                z, after = gates[t, rows], cells[t, rows]
            weight.product(operand, z)
            lstm_step(z, before, after, state, own, spare)
            before = after
        np.copyto(last[rows], before, casting="unsafe")

    s.run(work)
    found = (outputs, last, gates, cells) if residuals else (outputs, last)
    return tuple(r if r is p else given(r, p) for r, p in zip(found, places, strict=True))


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
    s = Recurrence(x, hidden, 4, reverse)
    back = Backward(s, outputs, weight_ih, weight_hh, wrt, into)
    first = widened(cell)
    vectors = lstm_vectors(s.rows, s.size, s.wide)
    states = {name: np.empty(hidden.shape, s.wide) for name in ("hidden", "cell")}

    def work(rows: slice, thread: int) -> None:
        ct_state, ct_cell, spare = (s.scratch(name, rows) for name in ("ct_state", "ct_cell", "0"))
        ct_state[...] = 0
        np.copyto(ct_cell, ct_cell_out[rows], casting="unsafe")
        own = vectors.part(len(spare))
        through: dict[int, Array] = {}

        def slopes(span: slice, out: Array) -> None:
            memory = scratch("sequence.through", (*out.shape[:2], s.size), s.wide)
            lstm_slopes(
                gates[span, rows], s.before(span, rows, cells, first), cells[span, rows], out, memory, own
            )
            through.update(zip(range(span.start, span.stop), memory, strict=True))

        for t, cts in back.steps(rows, thread, slopes):
            ct_state += ct_outputs[t, rows]
            lstm_back(gates[t, rows], ct_state, ct_cell, cts, through[t], spare)
            back.pull(cts, ct_state)
        states["hidden"][rows], states["cell"][rows] = ct_state, ct_cell

    s.run(work)
    return back.results(states)


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
    s = Recurrence(x, hidden, 3, reverse)
    places = slots(into, 2 if residuals else 1)
    outputs = s.like_x(s.size, x.dtype, places[0])
    gates: Any = s.kept(4, places[1]) if residuals else None
    n = s.size
    halves = np.ones(3 * n, s.wide)
    halves[: 2 * n] = 0.5
    weight = s.weight("forward", [weight_hh.T, s.bias(bias_hh)], halves)
    input_weight = s.weight("inputs", [s.bias(bias_ih), weight_ih.T], halves)

    def work(rows: slice, _: int) -> None:
        spare = s.scratch("0", rows)
        z = s.scratch("gates", rows, 4)

        def inputs(operands: Array) -> Array:
            flat = operands.reshape(-1, s.depth)[:, n:]
            found = scratch("sequence.inputs", (len(flat), 3 * n), s.wide)
            input_weight.product(flat, found)
            return found.reshape(*operands.shape[:2], 3 * n)

        for t, operand, state, own in s.forth(rows, outputs, inputs):
            if residuals:
                z = gates[t, rows]
            weight.product(operand[:, : n + 1], z[:, : 3 * n])
            gru_step(z, own, operand[:, :n], state, spare)

    s.run(work)
    found = (outputs, gates) if residuals else (outputs,)
    results = tuple(r if r is p else given(r, p) for r, p in zip(found, places, strict=True))
    return results if residuals else results[0]


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
    s = Recurrence(x, hidden, 3, reverse)
    back = Backward(s, out, weight_ih, weight_hh, wrt, into, gru=True)
    states = {"hidden": np.empty(hidden.shape, s.wide)}

    def work(rows: slice, thread: int) -> None:
        ct_state, product = s.scratch("ct_state", rows), s.scratch("0", rows)
        ct_state[...] = 0

        def slopes(span: slice, found: Array) -> None:
            spare = scratch("sequence.spare", (*found.shape[:2], 2 * s.size), s.wide)
            gru_slopes(gates[span, rows], s.before(span, rows, out, hidden), found, spare)

        for t, cts in back.steps(rows, thread, slopes):
            ct_state += ct[t, rows]
            gru_back(gates[t, rows], ct_state, cts)
            back.pull(cts, product)
            ct_state += product
        states["hidden"][rows] = ct_state

    s.run(work)
    return back.results(states)


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
    s = Recurrence(x, hidden, 1, reverse)
    outputs = s.like_x(s.size, x.dtype, into)
    weight = s.weight("forward", [weight_hh.T, s.bias(bias_ih, bias_hh), weight_ih.T])

    def work(rows: slice, _: int) -> None:
        z, zero = s.scratch("gates", rows), s.scratch("0", rows)
        zero[...] = 0
        for _t, operand, state, _own in s.forth(rows, outputs):
            weight.product(operand, z)
            if nonlinearity == "tanh":
                np.tanh(z, out=state)
            else:
                np.maximum(z, zero, out=state)

    s.run(work)
    return outputs if outputs is into else given(outputs, into)


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
    s = Recurrence(x, hidden, 1, reverse)
    back = Backward(s, out, weight_ih, weight_hh, wrt, into)
    states = {"hidden": np.empty(hidden.shape, s.wide)}

    def work(rows: slice, thread: int) -> None:
        ct_state = s.scratch("ct_state", rows)
        ct_state[...] = 0

        def slopes(span: slice, found: Array) -> None:
            states = widened(out[span, rows])
            np.multiply(states, states, out=found)
            np.subtract(s.wide.type(1), found, out=found)

        squashed = nonlinearity == "tanh"
        for t, cts in back.steps(rows, thread, slopes if squashed else None):
            ct_state += ct[t, rows]
            if squashed:
                cts *= ct_state
            else:
                keep(ct_state, widened(out[t, rows]) > 0, cts)
            back.pull(cts, ct_state)
        states["hidden"][rows] = ct_state

    s.run(work)
    return back.results(states)
