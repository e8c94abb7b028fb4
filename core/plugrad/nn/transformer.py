"""The layer that transformers are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from plugrad import ops
from plugrad.errors import ArgumentError
from plugrad.nn._common import DeviceLike, DTypeLike, check_positive
from plugrad.nn.attention import MultiheadAttention
from plugrad.nn.dropout import Dropout
from plugrad.nn.linear import Linear
from plugrad.nn.module import Module
from plugrad.nn.normalization import LayerNorm
from plugrad.tensor import Tensor

Activation = Callable[[Tensor], Tensor]

_ACTIVATIONS: Final[dict[str, Activation]] = {"relu": ops.relu, "gelu": ops.gelu}


class TransformerEncoderLayer(Module):
    """Attention of a sequence to itself, then two linear layers, each added to what it was given.

    (T, N, E), or (N, T, E) with ``batch_first``, or (T, E) without a batch, to the same shape. Source: Vaswani et
    al. 2017, arXiv:1706.03762; ``norm_first``: Xiong et al. 2020, arXiv:2002.04745.

    Attributes:
        self_attn: the attention.
        linear1: E to ``dim_feedforward``.
        linear2: and back.
        norm1: the normalisation of the attention's part.
        norm2: that of the linear layers' part.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        """Make the layer.

        Args:
            d_model: features E.
            nhead: heads of the attention, which divide E.
            dim_feedforward: features between the two linear layers.
            dropout: probability of dropout after each part, on the attention's weights and between the linear layers.
            activation: ``"relu"``, ``"gelu"`` or a function of a tensor.
            layer_norm_eps: keeps the divisor of the normalisations from 0.
            batch_first: sequences are (N, T, E) instead of (T, N, E).
            norm_first: normalise what goes into each part, instead of the sum.
            bias: whether linear layers and normalisations have biases.
            device: where the parameters are.
            dtype: of the parameters, float32 by default.
        """
        super().__init__()
        name = type(self).__name__
        check_positive(name, d_model=d_model, nhead=nhead, dim_feedforward=dim_feedforward)
        function = _ACTIVATIONS.get(activation) if isinstance(activation, str) else activation
        if not callable(function):
            raise ArgumentError(f"{name}: activation takes 'relu', 'gelu' or a function, got {activation!r}")
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, device=device, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, device=device, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device=device, dtype=dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.activation: Activation = function

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Run the layer.

        Args:
            src: the sequence.
            src_mask: ``attn_mask`` of `MultiheadAttention`.
            src_key_padding_mask: ``key_padding_mask`` of it.
            is_causal: each place attends to those up to itself.
        """

        def attend(x: Tensor) -> Tensor:
            out, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            return self.dropout1(out)  # type: ignore[no-any-return]

        def forth_and_back(x: Tensor) -> Tensor:
            inner = self.dropout(self.activation(self.linear1(x)))
            return self.dropout2(self.linear2(inner))  # type: ignore[no-any-return]

        if self.norm_first:
            src = src + attend(self.norm1(src))
            return src + forth_and_back(self.norm2(src))
        src = self.norm1(src + attend(src))
        return self.norm2(src + forth_and_back(src))  # type: ignore[no-any-return]


__all__ = ["TransformerEncoderLayer"]
