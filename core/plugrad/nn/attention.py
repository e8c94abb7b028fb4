"""Attention with several heads."""

from __future__ import annotations

import math
from typing import Any

from plugrad import ops
from plugrad.errors import ArgumentError, ShapeError
from plugrad.nn import init
from plugrad.nn.dropout import Dropout
from plugrad.nn.linear import Linear, check_positive, empty_parameter
from plugrad.nn.module import Module
from plugrad.tensor import Tensor


class MultiheadAttention(Module):
    """Attention of queries to keys and values in several heads at once (Vaswani et al. 2017, arXiv:1706.03762).

    Attributes:
        in_proj_weight: (3E, E), the projections of query, key and value one above the other.
        in_proj_bias: (3E,); None without bias.
        out_proj: the last projection, E to E.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Make the layer.

        Args:
            embed_dim: features E of queries, keys, values and results.
            num_heads: heads, which divide E.
            dropout: probability of dropout on the weights, in training mode.
            bias: whether the projections have biases.
            batch_first: sequences are (N, L, E) instead of (L, N, E).
            device: where the parameters are.
            dtype: of the parameters, float32 by default.
        """
        super().__init__()
        check_positive("MultiheadAttention", embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: num_heads must divide embed_dim, got {num_heads} and {embed_dim}"
            )
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.weight_dropout = Dropout(dropout)
        self.in_proj_weight = empty_parameter((3 * embed_dim, embed_dim), dtype, device)
        self.in_proj_bias: Tensor | None = None
        self.register_parameter(
            "in_proj_bias", empty_parameter((3 * embed_dim,), dtype, device) if bias else None
        )
        self.out_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        init.xavier_uniform(self.in_proj_weight)
        if self.out_proj.bias is not None:
            init.zeros(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query: (L, N, E), or (N, L, E) with ``batch_first``, or (L, E) without a batch.
            key: (S, N, E), likewise.
            value: as ``key``.
            key_padding_mask: bool (N, S), True where a key is left out.
            need_weights: also return the weights; without them a fused kernel may run.
            attn_mask: bool (L, S) or (N * num_heads, L, S), True where a key is left out; or floating, added
                to the scores.
            average_attn_weights: return the mean of the weights over the heads.
            is_causal: a query attends to the keys up to its own place.

        Returns:
            The result, of the shape of ``query``, and the weights (N, L, S), or (N, heads, L, S), or None.

        Raises:
            ShapeError: if the shapes do not fit.
        """
        single = query.ndim == 2
        if single:
            query, key, value = (ops.expand_dims(t, axis=0) for t in (query, key, value))
            if key_padding_mask is not None:
                key_padding_mask = ops.expand_dims(key_padding_mask, axis=0)
        elif not self.batch_first:
            query, key, value = (ops.permute_dims(t, (1, 0, 2)) for t in (query, key, value))
        for name, t in (("query", query), ("key", key), ("value", value)):
            if t.ndim != 3 or t.shape[-1] != self.embed_dim:
                raise ShapeError(
                    f"MultiheadAttention: {name} takes 2 or 3 axes, the last of size {self.embed_dim}; got {t.shape}"
                )
        e, heads = self.embed_dim, self.num_heads
        n, length = query.shape[:2]
        bias = self.in_proj_bias

        def projected(t: Tensor, part: int) -> Tensor:
            rows = slice(part * e, (part + 1) * e)
            y = ops.linear(t, self.in_proj_weight[rows], None if bias is None else bias[rows])
            return ops.permute_dims(y.reshape(n, t.shape[1], heads, e // heads), (0, 2, 1, 3))

        q, k, v = projected(query, 0), projected(key, 1), projected(value, 2)
        mask = self._mask(key_padding_mask, attn_mask, n, length, key.shape[1])
        weights = None
        if need_weights or (self.training and self.weight_dropout.p):
            scores = ops.matmul(q, ops.matrix_transpose(k)) * (1 / math.sqrt(e // heads))
            if is_causal:
                causal = ops.tril(ops.ones((length, key.shape[1]), dtype="bool", device=q.device))
                scores = ops.where(causal, scores, -math.inf)
            if mask is not None:
                scores = scores + mask if mask.dtype.is_floating else ops.where(mask, scores, -math.inf)
            weights = ops.softmax(scores, axis=-1)
            out = ops.matmul(self.weight_dropout(weights), v)
        else:
            out = ops.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
        out = self.out_proj(ops.permute_dims(out, (0, 2, 1, 3)).reshape(n, length, e))
        if weights is not None:
            weights = ops.mean(weights, axis=1) if average_attn_weights else weights
        if single:
            out = ops.squeeze(out, 0)
            weights = None if weights is None else ops.squeeze(weights, 0)
        elif not self.batch_first:
            out = ops.permute_dims(out, (1, 0, 2))
        return out, weights if need_weights else None

    def _mask(
        self, padding: Tensor | None, mask: Tensor | None, n: int, length: int, keys: int
    ) -> Tensor | None:
        """Both masks as one that broadcasts to (N, heads, L, S): bool, True where a key takes part, or added."""
        if mask is not None:
            if mask.ndim == 3:
                mask = mask.reshape(n, self.num_heads, length, keys)
            if not mask.dtype.is_floating:
                mask = ops.logical_not(mask)
        if padding is None:
            return mask
        kept = ops.logical_not(padding).reshape(n, 1, 1, keys)
        if mask is None:
            return kept
        if mask.dtype.is_floating:
            return ops.where(kept, mask, -math.inf)
        return ops.logical_and(kept, mask)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"


__all__ = ["MultiheadAttention"]
