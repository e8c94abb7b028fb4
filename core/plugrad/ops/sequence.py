"""Recurrent layers over sequences, each one op, so that a device keeps its own layout and makes few large products.

One layer in one direction. Formulas and gate order are those of the cells (`plugrad.ops.recurrent`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, ErrorSampler, Sample, Sampler, errors
from plugrad.dtypes import FLOATING
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops._rules import widened
from plugrad.ops.activation import relu
from plugrad.ops.broadcasting import sum
from plugrad.ops.casting import widen
from plugrad.ops.comparison import less, where
from plugrad.ops.creation import zeros_like
from plugrad.ops.linear import linear
from plugrad.ops.linear_algebra import matrix_product
from plugrad.ops.movement import concat, matrix_transpose, reshape, select, stack
from plugrad.ops.recurrent import activated, check_nonlinearity, gru_parts, gru_pulled, lstm_pulled, parts
from plugrad.ops.scan import narrow
from plugrad.ops.trigonometry import tanh
from plugrad.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugrad.tensor import Tensor


def _check(call: Any, gates: int, states: Sequence[str]) -> tuple[Spec, Spec]:
    """Raise unless the shapes fit; the specs of the outputs and of a state."""
    x: Spec = call.x
    first: Spec = getattr(call, states[0])
    if x.ndim != 3 or first.ndim != 2 or not x.shape[0]:
        raise ShapeError(
            f"{call.op.name}: x has shape {x.shape}, {states[0]} {first.shape}; takes (T, N, I) of at least one step, "
            "and (N, H)"
        )
    hidden = first.shape[1]
    wanted = {
        **dict.fromkeys(states, (x.shape[1], hidden)),
        "weight_ih": (gates * hidden, x.shape[2]),
        "weight_hh": (gates * hidden, hidden),
        "bias_ih": (gates * hidden,),
        "bias_hh": (gates * hidden,),
    }
    for name, shape in wanted.items():
        spec = getattr(call, name)
        if spec is not None and spec.shape != shape:
            raise ShapeError(
                f"{call.op.name}: {name} has shape {spec.shape}; takes {shape} for x of {x.shape} and {hidden} features"
            )
    return x.with_shape((*x.shape[:2], hidden)), first


def _kept(outputs: Spec, times: int) -> Spec:
    """A residual of ``times`` the features of the outputs."""
    return Spec((*outputs.shape[:2], times * outputs.shape[2]), widened(outputs.dtype), outputs.device)


def _samples(gates: int, states: int, *settings: dict[str, Any]) -> Sampler:
    def make(rng: np.random.Generator) -> list[Sample]:
        def operands(t: int, n: int, i: int, h: int) -> list[Any]:
            shapes = (
                [(t, n, i)] + [(n, h)] * states + [(gates * h, i), (gates * h, h), (gates * h,), (gates * h,)]
            )
            return [rng.standard_normal(s) for s in shapes]

        found = [Sample(*operands(3, 2, 4, 3), **s) for s in settings]
        whole = operands(2, 3, 1, 2)
        return [*found, Sample(*whole[:-2]), Sample(*whole[:-1]), Sample(*operands(1, 0, 2, 2), reverse=True)]

    return make


def _refused(gates: int, states: int, *more: ErrorSample) -> ErrorSampler:
    """No steps, and a state, a weight and a bias of another shape than they must have, one by one."""
    shapes = [(2, 3, 2), *[(3, 4)] * states, (gates * 4, 2), (gates * 4, 4), (gates * 4,), (gates * 4,)]

    def wrong(place: int, shape: tuple[int, ...]) -> ErrorSample:
        return ErrorSample(ShapeError, *map(np.zeros, [*shapes[:place], shape, *shapes[place + 1 :]]))

    return errors(
        wrong(0, (0, 3, 2)),
        wrong(states, (2, 4)),
        wrong(states + 2, (gates * 4, 2)),
        wrong(states + 4, (3,)),
        *more,
    )


def _order(x: Tensor, reverse: bool) -> list[int]:
    """The steps in the order in which they are made."""
    steps = list(range(x.shape[0]))
    return steps[::-1] if reverse else steps


def _in_time(found: list[Tensor], reverse: bool) -> Tensor:
    """What steps gave, in the order of time."""
    return stack(found[::-1] if reverse else found, axis=0)


def _before(states: Tensor, first: Tensor, reverse: bool) -> Tensor:
    """The states before each step, in the order of time."""
    first = reshape(first, (1, *first.shape))
    if reverse:
        return concat([narrow(states, 0, 1, None), first], axis=0)
    return concat([first, narrow(states, 0, None, -1)], axis=0)


def _rows(x: Tensor) -> Tensor:
    return reshape(x, (x.shape[0] * x.shape[1], x.shape[2]))


def _pulled(
    ct_inputs: Tensor,
    ct_hidden: Tensor,
    x: Tensor,
    before: Tensor,
    weight_ih: Tensor,
    states: dict[str, Tensor],
    wrt: tuple[str, ...],
) -> tuple[Tensor, ...]:
    """The cotangents in ``wrt``, from those of the gates of the input and of the hidden state, (T, N, gates) each."""
    inputs, hidden = _rows(ct_inputs), _rows(ct_hidden)
    found = dict(states)
    for name in wrt:
        if name == "x":
            found[name] = reshape(matrix_product(inputs, widen(weight_ih)), x.shape)
        elif name == "weight_ih":
            found[name] = matrix_product(matrix_transpose(inputs), _rows(widen(x)))
        elif name == "weight_hh":
            found[name] = matrix_product(matrix_transpose(hidden), _rows(widen(before)))
        elif name in ("bias_ih", "bias_hh"):
            found[name] = sum(inputs if name == "bias_ih" else hidden, axis=0)
    return tuple(found[name] for name in wrt)


def _lstm_specs(call: Any) -> Any:
    outputs, cell = _check(call, 4, ("hidden", "cell"))
    return (outputs, cell, _kept(outputs, 4), _kept(outputs, 1)) if call.residuals else (outputs, cell)


_BOTH: Final[tuple[dict[str, Any], ...]] = ({}, {"reverse": True})


@op(
    kind=Kind.OTHER,
    infer=_lstm_specs,
    dtypes=FLOATING,
    promote=("x", "hidden", "cell", "weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    outputs=("outputs", "cell_out"),
    residuals=("gates", "cells"),
    autocast=Autocast.LOW,
    samples=_samples(4, 2, *_BOTH),
    errors=_refused(4, 2),
)
def lstm_sequence(
    x: Tensor,
    hidden: Tensor,
    cell: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    reverse: bool = False,
    residuals: bool = False,
) -> tuple[Tensor, Tensor]:
    """A layer of an LSTM over a sequence: `lstm_cell` step by step.

    Args:
        x: (T, N, I), floating, of at least one step.
        hidden: the hidden state to begin with, (N, H).
        cell: the cell to begin with, (N, H).
        weight_ih: (4H, I): the gates in the order input, forget, candidate, output.
        weight_hh: (4H, H).
        bias_ih: (4H,), or None.
        bias_hh: (4H,), or None.
        reverse: go from the last step to the first.
        residuals: also give the gates after activation and the cells of all steps; set where the call is recorded.

    Returns:
        The hidden states after each step, (T, N, H), in the order of time, and the cell after the last step made,
        (N, H).

    Raises:
        ShapeError: if the shapes do not fit.
    """
    dtype = x.spec.dtype
    inputs = widen(linear(x, weight_ih, bias_ih))
    state, memory = hidden, widen(cell)
    outputs, gates, cells = [], [], []
    for t in _order(x, reverse):
        each = activated(select(inputs, t) + widen(linear(state, weight_hh, bias_hh)))
        i, f, g, o = each
        memory = f * memory + i * g
        state = (o * tanh(memory)).astype(dtype)
        outputs.append(state)
        if residuals:
            gates.append(concat(each, axis=-1))
            cells.append(memory)
    found = _in_time(outputs, reverse), memory.astype(dtype)
    if residuals:
        return (*found, _in_time(gates, reverse), _in_time(cells, reverse))  # type: ignore[return-value]
    return found


@lstm_sequence.defvjp()
def _(
    ct_outputs: Tensor,
    ct_cell_out: Tensor,
    x: Tensor,
    hidden: Tensor,
    cell: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    outputs: Tensor,
    gates: Tensor,
    cells: Tensor,
    *,
    reverse: bool,
    wrt: tuple[str, ...],
) -> Any:
    before = _before(cells, widen(cell), reverse)
    weight, ct_outputs = widen(weight_hh), widen(ct_outputs)
    ct_state, ct_cell = zeros_like(widen(hidden)), widen(ct_cell_out)
    found = []
    for t in _order(x, not reverse):
        ct_gates, ct_cell = lstm_pulled(
            select(ct_outputs, t) + ct_state,
            ct_cell,
            parts(select(gates, t), 4),
            select(before, t),
            select(cells, t),
        )
        ct_state = matrix_product(ct_gates, weight)
        found.append(ct_gates)
    each = _in_time(found, not reverse)
    states = {"hidden": ct_state, "cell": ct_cell}
    return _pulled(each, each, x, _before(outputs, hidden, reverse), weight_ih, states, wrt)


def _gru_specs(call: Any) -> Any:
    outputs, _ = _check(call, 3, ("hidden",))
    return (outputs, _kept(outputs, 4)) if call.residuals else outputs


@op(
    kind=Kind.OTHER,
    infer=_gru_specs,
    dtypes=FLOATING,
    promote=("x", "hidden", "weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    residuals=("gates",),
    autocast=Autocast.LOW,
    samples=_samples(3, 1, *_BOTH),
    errors=_refused(3, 1),
)
def gru_sequence(
    x: Tensor,
    hidden: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    reverse: bool = False,
    residuals: bool = False,
) -> Tensor:
    """A layer of a GRU over a sequence: `gru_cell` step by step.

    Args:
        x: (T, N, I), floating, of at least one step.
        hidden: the hidden state to begin with, (N, H).
        weight_ih: (3H, I): the gates in the order reset, update, candidate.
        weight_hh: (3H, H).
        bias_ih: (3H,), or None.
        bias_hh: (3H,), or None.
        reverse: go from the last step to the first.
        residuals: also give, of all steps, reset and update gate after activation, the hidden part of the candidate, and
            the candidate, side by side; set where the call is recorded.

    Returns:
        The hidden states after each step, (T, N, H), in the order of time.

    Raises:
        ShapeError: if the shapes do not fit.
    """
    inputs = widen(linear(x, weight_ih, bias_ih))
    state = hidden
    outputs, gates = [], []
    for t in _order(x, reverse):
        each = gru_parts(select(inputs, t), widen(linear(state, weight_hh, bias_hh)))
        reset, update, candidate, hidden_part = each
        state = (candidate + update * (widen(state) - candidate)).astype(x.spec.dtype)
        outputs.append(state)
        if residuals:
            # What is a sum of products with the state comes first, so that a device can make one product there.
            gates.append(concat([reset, update, hidden_part, candidate], axis=-1))
    out = _in_time(outputs, reverse)
    return (out, _in_time(gates, reverse)) if residuals else out  # type: ignore[return-value]


@gru_sequence.defvjp()
def _(
    ct: Tensor,
    x: Tensor,
    hidden: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    out: Tensor,
    gates: Tensor,
    *,
    reverse: bool,
    wrt: tuple[str, ...],
) -> Any:
    before = _before(widen(out), widen(hidden), reverse)
    weight, ct = widen(weight_hh), widen(ct)
    ct_state = zeros_like(widen(hidden))
    inputs, others = [], []
    for t in _order(x, not reverse):
        reset, update, hidden_part, candidate = parts(select(gates, t), 4)
        ct_inputs, ct_hidden, kept = gru_pulled(
            select(ct, t) + ct_state, reset, update, candidate, hidden_part, select(before, t)
        )
        ct_state = kept + matrix_product(ct_hidden, weight)
        inputs.append(ct_inputs)
        others.append(ct_hidden)
    both = _in_time(inputs, not reverse), _in_time(others, not reverse)
    return _pulled(*both, x, before, weight_ih, {"hidden": ct_state}, wrt)


@op(
    kind=Kind.OTHER,
    infer=lambda call: _check(call, 1, ("hidden",))[0],
    dtypes=FLOATING,
    promote=("x", "hidden", "weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    attributes={"nonlinearity": lambda call, value: check_nonlinearity(call.op.name, value)},
    autocast=Autocast.LOW,
    samples=_samples(1, 1, *_BOTH, {"nonlinearity": "relu"}),
    errors=_refused(
        1,
        1,
        ErrorSample(
            ArgumentError,
            np.zeros((2, 3, 2)),
            np.zeros((3, 4)),
            np.zeros((4, 2)),
            np.zeros((4, 4)),
            nonlinearity="sigmoid",
        ),
    ),
)
def rnn_sequence(
    x: Tensor,
    hidden: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
    reverse: bool = False,
) -> Tensor:
    """A layer of a plain recurrent network over a sequence: `rnn_cell` step by step.

    Args:
        x: (T, N, I), floating, of at least one step.
        hidden: the hidden state to begin with, (N, H).
        weight_ih: (H, I).
        weight_hh: (H, H).
        bias_ih: (H,), or None.
        bias_hh: (H,), or None.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        reverse: go from the last step to the first.

    Returns:
        The hidden states after each step, (T, N, H), in the order of time.

    Raises:
        ShapeError: if the shapes do not fit.
        ArgumentError: if there is no such nonlinearity.
    """
    inputs = widen(linear(x, weight_ih, bias_ih))
    state, outputs = hidden, []
    for t in _order(x, reverse):
        total = select(inputs, t) + widen(linear(state, weight_hh, bias_hh))
        state = (tanh(total) if nonlinearity == "tanh" else relu(total)).astype(x.spec.dtype)
        outputs.append(state)
    return _in_time(outputs, reverse)


@rnn_sequence.defvjp()
def _(
    ct: Tensor,
    x: Tensor,
    hidden: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    out: Tensor,
    *,
    nonlinearity: str,
    reverse: bool,
    wrt: tuple[str, ...],
) -> Any:
    states, weight, ct = widen(out), widen(weight_hh), widen(ct)
    ct_state = zeros_like(widen(hidden))
    found = []
    for t in _order(x, not reverse):
        state, inner = select(states, t), select(ct, t) + ct_state
        inner = inner * (1 - state * state) if nonlinearity == "tanh" else where(less(0, state), inner, 0.0)
        ct_state = matrix_product(inner, weight)
        found.append(inner)
    each = _in_time(found, not reverse)
    return _pulled(
        each, each, x, _before(states, widen(hidden), reverse), weight_ih, {"hidden": ct_state}, wrt
    )


__all__ = ["gru_sequence", "lstm_sequence", "rnn_sequence"]
