"""Recurrent layers over sequences: one large product of the inputs, then a launch a step, all put into the queue at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from plugrad import ops
from plugrad.generated.array import StridedArray, empty, permuted, sliced
from plugrad.generated.device import device_of
from plugrad.generated.kernels._product import BIASED, lined, multiply
from plugrad.generated.kernels._run import contiguous, copied, filled, given
from plugrad.generated.kernels._table import table
from plugrad.generated.kernels.reduction import reduce_axes
from plugrad.graph.source import Epilogue, Source
from plugrad.graph.source.recurrence import (
    gru_step,
    gru_step_back,
    lstm_step,
    lstm_step_back,
    rnn_step,
    rnn_step_back,
)
from plugrad.graph.source.tile import PLAIN

_ROWS: Final = {4: (6, 4, 2, 1), 3: (8, 6, 4, 2, 1), 2: (12, 10, 8, 4, 2, 1), 1: (12, 8, 4, 2, 1)}
"""Rows of a tile, by the vectors of one."""

_BOTH: Final = Epilogue("x = x + bias + other;", "x = x + bias + other;", (("bias", "c"), ("other", "c")))
_ADDED: Final = Epilogue("x = x + kept;", "x = x + kept;", (("kept", "c"),))


def _suits(x: Any, state: Any) -> bool:
    """Whether there are kernels for these specs, in vectors: the body serves few features, and what is only stored."""
    lanes = device_of(x.device).dialect.lanes.get(x.dtype, 0)
    return bool(1 < lanes <= state.shape[1] and x.shape[1] > 0 and x.shape[2] > 0)


def _forward(specs: Sequence[Any], attributes: Any) -> bool:
    del attributes
    return _suits(specs[0], specs[1])


class _Layer:
    """A layer of ``m`` features over (T, N, features) in one direction.

    Attributes:
        order: the steps in the order in which they are made.
        n, m: rows of the batch, features.
    """

    def __init__(self, x: StridedArray, hidden: StridedArray, reverse: bool) -> None:
        steps, (self.n, self.m) = x.shape[0], hidden.shape
        self.order = list(range(steps))[:: -1 if reverse else 1]
        self.dtype, self.device, self.reverse = x.dtype, x.device, reverse

    def room(self, *shape: int, into: StridedArray | None = None) -> StridedArray:
        """``into``, or a new array."""
        return empty(self.device, shape, self.dtype) if into is None else into

    def all_steps(self, gates: int, into: StridedArray | None = None) -> StridedArray:
        """``into``, or a new array (T, N, gates of each feature)."""
        return self.room(len(self.order), self.n, gates * self.m, into=into)

    def inputs(self, x: StridedArray, weight: StridedArray, *biases: StridedArray | None) -> StridedArray:
        """What the inputs of all steps come to, (T, N, gates)."""
        out = self.all_steps(weight.shape[0] // self.m)
        found = [b for b in biases if b is not None]
        multiply(_rows(x), _transposed(weight), _rows(out), (PLAIN, BIASED, _BOTH)[len(found)], found)
        return out

    def tile(self, vectors: int) -> int:
        """The rows of a tile of so many vectors."""
        fitting = [r for r in _ROWS[vectors] if r <= self.n]
        return min(fitting, key=lambda r: -(-self.n // r) * max(r * vectors, r + vectors))

    @property
    def pair(self) -> int:
        """The vectors of a tile over neighbouring features."""
        return 2 if self.m >= 2 * self.device.dialect.lanes[self.dtype] else 1

    def step(
        self,
        source: Source,
        vectors: int,
        left: StridedArray | None,
        weight: StridedArray,
        arrays: Sequence[StridedArray],
        bias: StridedArray | None = None,
    ) -> None:
        """Launch a step.

        Args:
            source: the kernel, of tiles of ``self.tile(vectors)`` rows.
            vectors: of a tile.
            left: the left operand of the product, (N, k), or None where there is none yet.
            weight: the right one, (k, columns), each row's elements side by side.
            arrays: what the step reads and writes, (N, columns) each.
            bias: what it adds to the product, or None.
        """
        k = weight.shape[0] if left is not None else 0
        arguments: list[Any] = []
        for x in (arrays[0] if left is None else left, weight, *arrays):
            arguments += [x.memory, x.start, x.strides[0]]
        if bias is not None:
            arguments += [bias.memory, bias.start]
        features = self.device.dialect.lanes[self.dtype] * (vectors if vectors <= 2 else 1)
        size = (-(-self.n // self.tile(vectors)), -(-self.m // features))
        self.device.launch(source, size, (1, 1), [*arguments, k, self.n, self.m])

    def results(
        self,
        wrt: tuple[str, ...],
        into: Any,
        states: dict[str, Callable[[], StridedArray]],
        inputs: StridedArray,
        hidden: StridedArray,
        x: StridedArray,
        before: tuple[StridedArray, StridedArray],
        weight: StridedArray,
    ) -> tuple[StridedArray, ...]:
        """The cotangents that are asked for.

        Args:
            wrt: their names.
            into: where they go, or None.
            states: how those of the first states are made.
            inputs: the cotangents of what the inputs come to, of all steps.
            hidden: those of the product with the state.
            x: the inputs.
            before: the states after all steps, and the first.
            weight: that of the inputs.
        """
        found = []
        for name, place in zip(wrt, (None,) * len(wrt) if into is None else into, strict=True):
            if name in states:
                found.append(given(states[name](), place))
                continue
            own = _rows(hidden if name.endswith("hh") else inputs)
            if name == "x":
                out = self.room(*x.shape, into=place)
                multiply(own, weight, _rows(out))
            elif name.startswith("weight"):
                right = _rows(x if name == "weight_ih" else self._states_before(*before))
                out = self.room(own.shape[1], right.shape[1], into=place)
                multiply(_transposed(own), right, out)
            else:
                out = reduce_axes("sum", own, [0], False, self.room(own.shape[1], into=place))
            found.append(out)
        return tuple(found)

    def _states_before(self, states: StridedArray, first: StridedArray) -> StridedArray:
        """The states before each step, in the order of time."""
        steps = states.shape[0]
        out = self.room(*states.shape)
        one, rest = (steps - 1, (0, steps - 1, 1)) if self.reverse else (0, (1, steps, 1))
        source = (1, steps, 1) if self.reverse else (0, steps - 1, 1)
        copied(first, _at(out, one))
        whole = [(0, n, 1) for n in states.shape[1:]]
        if steps > 1:
            copied(sliced(states, [source, *whole]), sliced(out, [rest, *whole]))
        return out


def _at(x: StridedArray, t: int) -> StridedArray:
    """A step of an array (T, ...)."""
    return x.view(x.shape[1:], x.strides[1:], x.start + t * x.strides[0])


def _rows(x: StridedArray) -> StridedArray:
    """(T, N, features) as rows."""
    t, n, m = x.shape
    return contiguous(x).view((t * n, m), (m, 1))


def _transposed(x: StridedArray) -> StridedArray:
    return permuted(x, (1, 0))


def _places(into: Any, count: int) -> Sequence[StridedArray | None]:
    return (None,) * count if into is None else into


@table(ops.lstm_sequence, when=_forward)
def _(
    x: StridedArray,
    hidden: StridedArray,
    cell: StridedArray,
    weight_ih: StridedArray,
    weight_hh: StridedArray,
    bias_ih: StridedArray | None,
    bias_hh: StridedArray | None,
    *,
    reverse: bool,
    residuals: bool,
    into: Any = None,
) -> tuple[StridedArray, ...]:
    layer = _Layer(x, hidden, reverse)
    places = _places(into, 4 if residuals else 2)
    outputs = layer.all_steps(1, places[0])
    last = layer.room(*cell.shape, into=places[1])
    gates = layer.all_steps(4, places[2]) if residuals else None
    cells = layer.all_steps(1, places[3]) if residuals else None
    inputs = layer.inputs(x, weight_ih, bias_ih, bias_hh)
    weight = lined(_transposed(weight_hh))
    source = lstm_step(x.dialect, x.dtype, layer.tile(4), residuals)
    state, before = contiguous(hidden), contiguous(cell)
    spare = [layer.room(*cell.shape) for _ in range(2)] if cells is None else []
    for number, t in enumerate(layer.order):
        if cells is not None and gates is not None:
            after, more = _at(cells, t), [_at(gates, t)]
        else:
            after, more = last if t == layer.order[-1] else spare[number % 2], []
        now = _at(outputs, t)
        layer.step(source, 4, state, weight, [_at(inputs, t), before, now, after, *more])
        state, before = now, after
    if cells is not None and gates is not None:
        return outputs, copied(before, last), gates, cells
    return outputs, last


@table(ops.lstm_sequence.vjp, when=lambda specs, _: _suits(specs[2], specs[3]))
def _(
    ct_outputs: StridedArray,
    ct_cell_out: StridedArray,
    x: StridedArray,
    hidden: StridedArray,
    cell: StridedArray,
    weight_ih: StridedArray,
    weight_hh: StridedArray,
    outputs: StridedArray,
    gates: StridedArray,
    cells: StridedArray,
    *,
    reverse: bool,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[StridedArray, ...]:
    layer = _Layer(x, hidden, reverse)
    ct_outputs, gates, cells, weight = (contiguous(a) for a in (ct_outputs, gates, cells, weight_hh))
    before, ct_after = contiguous(cell), contiguous(ct_cell_out)
    cts = layer.all_steps(4)
    source = lstm_step_back(x.dialect, x.dtype, layer.tile(layer.pair), layer.pair)
    spare = [layer.room(*cell.shape) for _ in range(2)]
    left = None
    for number, t in enumerate(reversed(layer.order)):
        old = before if t == layer.order[0] else _at(cells, t + (1 if reverse else -1))
        now, ct_before = _at(cts, t), spare[number % 2]
        arrays = [_at(ct_outputs, t), _at(gates, t), old, _at(cells, t), ct_after, now, ct_before]
        layer.step(source, layer.pair, left, weight, arrays)
        left, ct_after = now, ct_before
    ct_first = _at(cts, layer.order[0])
    states: dict[str, Callable[[], StridedArray]] = {
        "hidden": lambda: multiply(ct_first, weight, layer.room(*hidden.shape)),
        "cell": lambda: ct_after,
    }
    return layer.results(wrt, into, states, cts, cts, x, (outputs, hidden), weight_ih)


@table(ops.gru_sequence, when=_forward)
def _(
    x: StridedArray,
    hidden: StridedArray,
    weight_ih: StridedArray,
    weight_hh: StridedArray,
    bias_ih: StridedArray | None,
    bias_hh: StridedArray | None,
    *,
    reverse: bool,
    residuals: bool,
    into: Any = None,
) -> Any:
    layer = _Layer(x, hidden, reverse)
    places = into if residuals and into is not None else (into, None)
    outputs = layer.all_steps(1, places[0])
    gates = layer.all_steps(4, places[1]) if residuals else None
    inputs = layer.inputs(x, weight_ih, bias_ih)
    weight = lined(_transposed(weight_hh))
    bias = None if bias_hh is None else contiguous(bias_hh)
    source = gru_step(x.dialect, x.dtype, layer.tile(3), residuals, bias is not None)
    state = contiguous(hidden)
    for t in layer.order:
        now, more = _at(outputs, t), [] if gates is None else [_at(gates, t)]
        layer.step(source, 3, state, weight, [_at(inputs, t), state, now, *more], bias)
        state = now
    return outputs if gates is None else (outputs, gates)


@table(ops.gru_sequence.vjp, when=lambda specs, _: _suits(specs[1], specs[2]))
def _(
    ct: StridedArray,
    x: StridedArray,
    hidden: StridedArray,
    weight_ih: StridedArray,
    weight_hh: StridedArray,
    out: StridedArray,
    gates: StridedArray,
    *,
    reverse: bool,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[StridedArray, ...]:
    layer = _Layer(x, hidden, reverse)
    ct, gates, states, weight = (contiguous(a) for a in (ct, gates, out, weight_hh))
    first, passed = contiguous(hidden), filled(0, layer.room(*hidden.shape))
    inputs, others = layer.all_steps(3), layer.all_steps(3)
    source = gru_step_back(x.dialect, x.dtype, layer.tile(layer.pair), layer.pair)
    spare = [layer.room(*hidden.shape) for _ in range(2)]
    left = None
    for number, t in enumerate(reversed(layer.order)):
        old = first if t == layer.order[0] else _at(states, t + (1 if reverse else -1))
        now, passes = _at(others, t), spare[number % 2]
        arrays = [_at(ct, t), _at(gates, t), old, passed, _at(inputs, t), now, passes]
        layer.step(source, layer.pair, left, weight, arrays)
        left, passed = now, passes
    ct_first = _at(others, layer.order[0])
    made: dict[str, Callable[[], StridedArray]] = {
        "hidden": lambda: multiply(ct_first, weight, layer.room(*hidden.shape), _ADDED, [passed])
    }
    return layer.results(wrt, into, made, inputs, others, x, (states, hidden), weight_ih)


@table(ops.rnn_sequence, when=_forward)
def _(
    x: StridedArray,
    hidden: StridedArray,
    weight_ih: StridedArray,
    weight_hh: StridedArray,
    bias_ih: StridedArray | None,
    bias_hh: StridedArray | None,
    *,
    nonlinearity: str,
    reverse: bool,
    into: StridedArray | None = None,
) -> StridedArray:
    layer = _Layer(x, hidden, reverse)
    outputs = layer.all_steps(1, into)
    inputs = layer.inputs(x, weight_ih, bias_ih, bias_hh)
    weight, state = lined(_transposed(weight_hh)), contiguous(hidden)
    source = rnn_step(x.dialect, x.dtype, layer.tile(layer.pair), layer.pair, nonlinearity)
    for t in layer.order:
        now = _at(outputs, t)
        layer.step(source, layer.pair, state, weight, [_at(inputs, t), now])
        state = now
    return outputs


@table(ops.rnn_sequence.vjp, when=lambda specs, _: _suits(specs[1], specs[2]))
def _(
    ct: StridedArray,
    x: StridedArray,
    hidden: StridedArray,
    weight_ih: StridedArray,
    weight_hh: StridedArray,
    out: StridedArray,
    *,
    nonlinearity: str,
    reverse: bool,
    wrt: tuple[str, ...],
    into: Any = None,
) -> tuple[StridedArray, ...]:
    layer = _Layer(x, hidden, reverse)
    ct, states, weight = (contiguous(a) for a in (ct, out, weight_hh))
    cts = layer.all_steps(1)
    source = rnn_step_back(x.dialect, x.dtype, layer.tile(layer.pair), layer.pair, nonlinearity)
    left = None
    for t in reversed(layer.order):
        now = _at(cts, t)
        layer.step(source, layer.pair, left, weight, [_at(ct, t), _at(states, t), now])
        left = now
    ct_first = _at(cts, layer.order[0])
    made: dict[str, Callable[[], StridedArray]] = {
        "hidden": lambda: multiply(ct_first, weight, layer.room(*hidden.shape))
    }
    return layer.results(wrt, into, made, cts, cts, x, (states, hidden), weight_ih)
