"""Dropout as a layer."""

from __future__ import annotations

from plugrad import ops, random
from plugrad.errors import ArgumentError
from plugrad.nn.module import Module
from plugrad.ops.dropout import dropout_words
from plugrad.tensor import Tensor


def check_probability(name: str, p: float) -> float:
    """``p``, a probability of dropout.

    Raises:
        ArgumentError: if it is none.
    """
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise ArgumentError(f"{name} takes a probability in [0, 1], got {p!r}")
    return float(p)


def dropped(x: Tensor, p: float) -> Tensor:
    """`plugrad.dropout` with the next random numbers of the default generator on the tensor's device."""
    key, counter = random.draw(dropout_words(x.size), x.device)
    return ops.dropout(x, key, counter, p=p)


class Dropout(Module):
    """In training mode, each element 0 with probability ``p``, else divided by ``1 - p`` (Srivastava et al. 2014).

    The random bits are those of the tensor's device; see `plugrad.random`.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = check_probability("Dropout: p", p)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with elements dropped; ``x`` itself in evaluation mode."""
        return dropped(x, self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


__all__ = ["Dropout"]
