"""Recurrent networks over sequences: RNN, LSTM, GRU."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from plugrad import ops
from plugrad.autograd import custom_vjp
from plugrad.errors import ArgumentError, ShapeError
from plugrad.nn import init
from plugrad.nn.dropout import Dropout
from plugrad.nn.linear import check_positive, empty_parameter
from plugrad.nn.module import Module
from plugrad.tensor import Tensor


@custom_vjp
def _steps(x: Tensor) -> list[Tensor]:
    """The parts of ``x`` along its first axis.

    Their cotangents are stacked; indexing each part would make zeros of the whole for each step.
    """
    return [x[t] for t in range(x.shape[0])]


def _steps_forward(x: Tensor) -> tuple[list[Tensor], None]:
    return [x[t] for t in range(x.shape[0])], None


def _steps_backward(_: None, cts: list[Tensor]) -> tuple[Tensor]:
    return (ops.stack(cts, axis=0),)


_steps.defvjp(_steps_forward, _steps_backward)


class _Recurrent(Module):
    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        check_positive(
            type(self).__name__, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers
        )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.between = Dropout(dropout)
        directions = 2 if bidirectional else 1
        for layer in range(num_layers):
            size = input_size if layer == 0 else hidden_size * directions
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (self.gates * hidden_size, size),
                    "weight_hh": (self.gates * hidden_size, hidden_size),
                }
                if bias:
                    shapes["bias_ih"] = shapes["bias_hh"] = (self.gates * hidden_size,)
                for name, shape in shapes.items():
                    self.register_parameter(f"{name}{suffix}", empty_parameter(shape, dtype, device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform(p, -bound, bound)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"] if self.bidirectional else [f"_l{layer}"]

    def step(
        self, inputs: Tensor, states: tuple[Tensor, ...], weight: Tensor, bias: Any
    ) -> tuple[Tensor, ...]:
        """The states after one step, from the step's input gates and the states before it."""
        raise NotImplementedError

    def _direction(
        self, x: Tensor, states: tuple[Tensor, ...], suffix: str, reverse: bool
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """One layer in one direction over (T, N, I): the outputs in the order of time, and the last states."""
        weight = getattr(self, f"weight_hh{suffix}")
        bias = getattr(self, f"bias_hh{suffix}", None)
        # One product for all steps: only what depends on the state is left to the loop.
        gates = ops.linear(x, getattr(self, f"weight_ih{suffix}"), getattr(self, f"bias_ih{suffix}", None))
        steps = _steps(gates)
        outputs: list[Tensor] = []
        for inputs in reversed(steps) if reverse else steps:
            states = self.step(inputs, states, weight, bias)
            outputs.append(states[0])
        if reverse:
            outputs.reverse()
        return outputs, states

    def _initial(self, given: Any, batch: int, like: Tensor) -> list[Tensor]:
        """The states to begin with, (layers * directions, N, H) each."""
        shape = (self.num_layers * (2 if self.bidirectional else 1), batch, self.hidden_size)
        if given is None:
            return [ops.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(self.states)]
        states = list(given) if self.states > 1 else [given]
        for state in states:
            if state.shape != shape:
                raise ShapeError(f"{type(self).__name__}: a state takes shape {shape}, got {state.shape}")
        return states

    def forward(self, x: Tensor, states: Any = None) -> tuple[Tensor, Any]:
        """Run over a sequence.

        Args:
            x: (T, N, I), or (N, T, I) with ``batch_first``, or (T, I) without a batch.
            states: (layers * directions, N, H), or a pair of these for an LSTM; zeros by default. Without a
                batch, without N.

        Returns:
            The outputs of the last layer, as ``x`` with directions * H in place of I, and the last states.

        Raises:
            ShapeError: if the shapes do not fit.
        """
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: takes (T, N, {self.input_size}), (N, T, {self.input_size}) with batch_first, "
                f"or (T, {self.input_size}); got shape {x.shape}"
            )
        single = x.ndim == 2
        if single:
            x = ops.expand_dims(x, axis=1)
            if states is not None:
                given = states if self.states > 1 else (states,)
                widened = tuple(ops.expand_dims(s, axis=1) for s in given)
                states = widened if self.states > 1 else widened[0]
        elif self.batch_first:
            x = ops.permute_dims(x, (1, 0, 2))
        if x.shape[0] == 0:
            raise ShapeError(f"{type(self).__name__}: the sequence has no steps")
        initial = self._initial(states, x.shape[1], x)
        last: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            outputs = []
            for d, suffix in enumerate(self._suffixes(layer)):
                own = tuple(s[len(last)] for s in initial)
                steps, final = self._direction(x, own, suffix, reverse=d == 1)
                outputs.append(ops.stack(steps, axis=0))
                last.append(final)
            x = outputs[0] if len(outputs) == 1 else ops.concat(outputs, axis=2)
            if layer + 1 < self.num_layers:
                x = self.between(x)
        finals = [ops.stack([s[i] for s in last], axis=0) for i in range(self.states)]
        if single:
            x = ops.squeeze(x, 1)
            finals = [ops.squeeze(f, 1) for f in finals]
        elif self.batch_first:
            x = ops.permute_dims(x, (1, 0, 2))
        return x, tuple(finals) if self.states > 1 else finals[0]

    def extra_repr(self) -> str:
        """Sizes, and what is not the default."""
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"
        for name in ("batch_first", "bidirectional"):
            if getattr(self, name):
                text += f", {name}=True"
        return text


class RNN(_Recurrent):
    """A plain recurrent network (Elman 1990).

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: of layer 0, and so on; ``_reverse`` for the other
            direction. Uniform in ±1 / sqrt(hidden_size) at first.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"RNN: nonlinearity takes 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )

    def step(
        self, inputs: Tensor, states: tuple[Tensor, ...], weight: Tensor, bias: Any
    ) -> tuple[Tensor, ...]:
        """One step."""
        total = inputs + ops.linear(states[0], weight, bias)
        return (ops.tanh(total) if self.nonlinearity == "tanh" else ops.relu(total),)


class _Gated(_Recurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Make the network.

        Args:
            input_size: features of a step of the input.
            hidden_size: features of the state.
            num_layers: layers, one on top of the other.
            bias: whether there are biases.
            batch_first: sequences are (N, T, I) instead of (T, N, I).
            dropout: probability of dropout between layers.
            bidirectional: run over the sequence in both directions.
            device: where the parameters are.
            dtype: of the parameters, float32 by default.
        """
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )


class LSTM(_Gated):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: of layer 0, gates in the order input, forget,
            candidate, output; and so on, ``_reverse`` for the other direction. Uniform in ±1 / sqrt(hidden_size).
    """

    gates = 4
    states = 2

    def step(
        self, inputs: Tensor, states: tuple[Tensor, ...], weight: Tensor, bias: Any
    ) -> tuple[Tensor, ...]:
        """One step."""
        return ops.lstm_gates(inputs + ops.linear(states[0], weight, bias), states[1])


class GRU(_Gated):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078).

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: of layer 0, gates in the order reset, update,
            candidate; and so on, ``_reverse`` for the other direction. Uniform in ±1 / sqrt(hidden_size).
    """

    gates = 3

    def step(
        self, inputs: Tensor, states: tuple[Tensor, ...], weight: Tensor, bias: Any
    ) -> tuple[Tensor, ...]:
        """One step."""
        return (ops.gru_gates(inputs, ops.linear(states[0], weight, bias), states[0]),)


__all__ = ["GRU", "LSTM", "RNN"]
