"""Dropout as a layer."""

from __future__ import annotations

from plugrad import ops, random
from plugrad.errors import ArgumentError
from plugrad.nn.module import Module
from plugrad.tensor import Tensor


class Dropout(Module):
    """In training mode, each element 0 with probability ``p``, else divided by ``1 - p`` (Srivastava et al. 2014).

    The random bits are those of the tensor's device; see `plugrad.random`.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: p takes a probability in [0, 1], got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with elements dropped; ``x`` itself in evaluation mode."""
        if not self.training or self.p == 0:
            return x
        key, counter = random.draw(x.size, x.device)
        return ops.dropout(x, key, counter, p=self.p)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


__all__ = ["Dropout"]
