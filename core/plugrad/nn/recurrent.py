"""Recurrent networks over sequences: RNN, LSTM, GRU."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar, Final

from plugrad import ops
from plugrad.errors import ArgumentError, ShapeError
from plugrad.nn import init
from plugrad.nn._common import DeviceLike, DTypeLike, check_positive, zero_parameter
from plugrad.nn.dropout import check_probability, dropped
from plugrad.nn.module import Module
from plugrad.tensor import Tensor

States = tuple[Tensor, ...]

_WEIGHTS: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


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
        device: DeviceLike,
        dtype: DTypeLike,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_positive(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.dropout = check_probability(f"{name}: dropout", dropout)
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            features = hidden_size * self._directions() if layer else input_size
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, features),
                    "weight_hh": (rows, hidden_size),
                }
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                for key, shape in shapes.items():
                    self.register_parameter(f"{key}{suffix}", zero_parameter(shape, dtype, device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform(p, -bound, bound)

    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions()]

    @abstractmethod
    def _run(self, x: Tensor, states: States, weights: list[Any], reverse: bool) -> tuple[Tensor, States]:
        """One layer in one direction: from (T, N, I) and states (N, H) the outputs (T, N, H) and the last states."""

    def forward(self, x: Tensor, states: Any = None) -> tuple[Tensor, Any]:
        """Run over a sequence.

        Args:
            x: (T, N, I), or (N, T, I) with ``batch_first``, or (T, I) without a batch.
            states: (num_layers * directions, N, H), or a pair of these for an LSTM; zeros by default. Without a
                batch, without N.

        Returns:
            The outputs of the last layer, as ``x`` with directions * H in place of I, and the last states, of the form
            of ``states``.

        Raises:
            ShapeError: if the shapes do not fit.
            ArgumentError: if ``states`` is no tensor, for an LSTM no pair of tensors.
        """
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: takes (T, N, {self.input_size}), (N, T, {self.input_size}) with batch_first, "
                f"or (T, {self.input_size}); got shape {x.shape}"
            )
        single = x.ndim == 2
        if single:
            x = ops.expand_dims(x, axis=1)
        elif self.batch_first:
            x = ops.permute_dims(x, (1, 0, 2))
        if not x.shape[0]:
            raise ShapeError(f"{type(self).__name__}: the sequence has no steps")
        first = self._first_states(x, states, single)
        last: list[States] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = dropped(x, self.dropout)
            outputs = []
            for reverse, suffix in enumerate(self._suffixes(layer)):
                weights = [getattr(self, f"{name}{suffix}", None) for name in _WEIGHTS]
                out, final = self._run(x, first[len(last)], weights, bool(reverse))
                outputs.append(out)
                last.append(final)
            x = outputs[0] if len(outputs) == 1 else ops.concat(outputs, axis=2)
        final_states = [ops.stack(s, axis=0) for s in zip(*last, strict=True)]
        if single:
            x = ops.squeeze(x, 1)
            final_states = [ops.squeeze(s, 1) for s in final_states]
        elif self.batch_first:
            x = ops.permute_dims(x, (1, 0, 2))
        return x, tuple(final_states) if self.states > 1 else final_states[0]

    def _first_states(self, x: Tensor, given: Any, single: bool) -> list[States]:
        """The states to begin with, (N, H) each, for each layer and direction."""
        count, batch, hidden = self.num_layers * self._directions(), x.shape[1], self.hidden_size
        if given is None:
            zero = ops.zeros((batch, hidden), dtype=x.dtype, device=x.device)
            return [(zero,) * self.states] * count
        name = type(self).__name__
        states = given if self.states > 1 else (given,)
        good = isinstance(states, (tuple, list)) and len(states) == self.states
        if not good or not all(isinstance(s, Tensor) for s in states):
            takes = "a pair of tensors (hidden, cell)" if self.states > 1 else "a tensor"
            raise ArgumentError(f"{name}: states takes {takes}, got {type(given).__name__}")
        shape = (count, hidden) if single else (count, batch, hidden)
        for state in states:
            if state.shape != shape:
                raise ShapeError(f"{name}: a state takes shape {shape}, got {state.shape}")
        parts = [ops.unstack(s.reshape((count, batch, hidden)), axis=0) for s in states]
        return list(zip(*parts, strict=True))

    def extra_repr(self) -> str:
        """Sizes, and what is not the default."""
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        return text + "".join(
            f", {n}={getattr(self, n)}" for n, d in defaults.items() if getattr(self, n) != d
        )


def _end(outputs: Tensor, reverse: bool) -> Tensor:
    """The output of the step that was made last."""
    return outputs[0 if reverse else -1]


class RNN(_Recurrent):
    """A plain recurrent network (Elman 1990): see `plugrad.rnn_sequence`.

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
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        """Make the network; ``nonlinearity`` is ``"tanh"`` or ``"relu"``, the other arguments are those of `LSTM`."""
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"RNN: nonlinearity takes 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )

    def _run(self, x: Tensor, states: States, weights: list[Any], reverse: bool) -> tuple[Tensor, States]:
        out = ops.rnn_sequence(x, *states, *weights, nonlinearity=self.nonlinearity, reverse=reverse)
        return out, (_end(out, reverse),)


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
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        """Make the network.

        Args:
            input_size: features I of a step of the input.
            hidden_size: features H of the state.
            num_layers: layers, one on top of the other.
            bias: whether there are biases.
            batch_first: sequences are (N, T, I) instead of (T, N, I).
            dropout: probability of dropout between layers, in training mode.
            bidirectional: run over the sequence in both directions.
            device: where the parameters are.
            dtype: of the parameters, float32 by default.
        """
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )


class LSTM(_Gated):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000): see `plugrad.lstm_sequence`.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: of layer 0, gates in the order input, forget,
            candidate, output; and so on, ``_reverse`` for the other direction. Uniform in ±1 / sqrt(hidden_size).
    """

    gates = 4
    states = 2

    def _run(self, x: Tensor, states: States, weights: list[Any], reverse: bool) -> tuple[Tensor, States]:
        out, cell = ops.lstm_sequence(x, *states, *weights, reverse=reverse)
        return out, (_end(out, reverse), cell)


class GRU(_Gated):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078): see `plugrad.gru_sequence`.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: of layer 0, gates in the order reset, update,
            candidate; and so on, ``_reverse`` for the other direction. Uniform in ±1 / sqrt(hidden_size).
    """

    gates = 3

    def _run(self, x: Tensor, states: States, weights: list[Any], reverse: bool) -> tuple[Tensor, States]:
        out = ops.gru_sequence(x, *states, *weights, reverse=reverse)
        return out, (_end(out, reverse),)


__all__ = ["GRU", "LSTM", "RNN"]
