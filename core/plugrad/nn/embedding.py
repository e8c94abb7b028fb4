"""Rows of a table, named by integers."""

from __future__ import annotations

from plugrad import ops
from plugrad.dispatch.modes import changed
from plugrad.errors import ArgumentError
from plugrad.nn import init
from plugrad.nn._common import DeviceLike, DTypeLike, check_positive, zero_parameter
from plugrad.nn.module import Module
from plugrad.tensor import Tensor


class Embedding(Module):
    """Integers (...) to rows (..., embedding_dim) of a table.

    Attributes:
        weight: (num_embeddings, embedding_dim), standard normal at first, 0 at ``padding_idx``, whose row gets
            no gradient.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        super().__init__()
        check_positive("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ArgumentError(
                    f"Embedding: padding_idx {padding_idx} is out of range for {num_embeddings} embeddings"
                )
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx
        self.weight = zero_parameter((num_embeddings, embedding_dim), dtype, device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.normal(self.weight)
        if self.padding_idx is not None:
            with changed(recording=False):
                self.weight[self.padding_idx] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """The rows."""
        return ops.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """Sizes."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"


__all__ = ["Embedding"]
