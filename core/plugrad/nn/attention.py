"""Attention with several heads."""

from __future__ import annotations

import math

from plugrad import ops
from plugrad.errors import ArgumentError, ShapeError
from plugrad.nn import init
from plugrad.nn._common import DeviceLike, DTypeLike, check_positive, zero_parameter
from plugrad.nn.dropout import check_probability, dropped
from plugrad.nn.linear import Linear
from plugrad.nn.module import Module
from plugrad.tensor import Tensor


class MultiheadAttention(Module):
    """Attention of queries to keys and values in several heads at once (Vaswani et al. 2017, arXiv:1706.03762).

    Attributes:
        in_proj_weight: (3E, E), the projections of query, key and value one above the other, of Glorot's uniform
            distribution at first; None where keys or values have other features than E.
        q_proj_weight: (E, E), instead of it; None otherwise, as the next two.
        k_proj_weight: (E, kdim).
        v_proj_weight: (E, vdim).
        in_proj_bias: (3E,), 0 at first; None without bias.
        out_proj: the last projection, E to E.
    """

    in_proj_weight: Tensor | None
    q_proj_weight: Tensor | None
    k_proj_weight: Tensor | None
    v_proj_weight: Tensor | None
    in_proj_bias: Tensor | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        """Make the layer.

        Args:
            embed_dim: features E of queries and results.
            num_heads: heads, which divide E.
            dropout: probability of dropout on the weights, in training mode.
            bias: whether the projections have biases.
            kdim: features of keys, E by default.
            vdim: features of values, E by default.
            batch_first: sequences are (N, L, E) instead of (L, N, E).
            device: where the parameters are.
            dtype: of the parameters, float32 by default.
        """
        super().__init__()
        e = embed_dim
        kdim, vdim = e if kdim is None else kdim, e if vdim is None else vdim
        check_positive("MultiheadAttention", embed_dim=e, num_heads=num_heads, kdim=kdim, vdim=vdim)
        if e % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: num_heads must divide embed_dim, got {num_heads} and {e}"
            )
        self.embed_dim, self.num_heads, self.kdim, self.vdim = e, num_heads, kdim, vdim
        self.batch_first = batch_first
        self.dropout = check_probability("MultiheadAttention: dropout", dropout)
        joint = kdim == vdim == e
        shapes = {
            "in_proj_weight": (3 * e, e) if joint else None,
            "q_proj_weight": None if joint else (e, e),
            "k_proj_weight": None if joint else (e, kdim),
            "v_proj_weight": None if joint else (e, vdim),
            "in_proj_bias": (3 * e,) if bias else None,
        }
        for name, shape in shapes.items():
            self.register_parameter(name, None if shape is None else zero_parameter(shape, dtype, device))
        self.out_proj = Linear(e, e, bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform(weight)
        self.out_proj.reset_parameters()
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros(bias)

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
            key: (S, N, kdim), likewise.
            value: (S, N, vdim), likewise.
            key_padding_mask: (N, S), or (S,) without a batch: bool, True where a key is left out, or floating, added
                to the scores.
            need_weights: also return the weights; without them a fused kernel may run.
            attn_mask: (L, S) or (N * num_heads, L, S), likewise.
            average_attn_weights: return the mean of the weights over the heads.
            is_causal: a query attends to the keys up to its own place.

        Returns:
            The result, of the shape of ``query``, and the weights (N, L, S), or (N, num_heads, L, S), or None. The
            results of a query to which no key is left are NaN with ``need_weights``, as in PyTorch, and 0 without.

        Raises:
            ShapeError: if the shapes do not fit.
        """
        single = query.ndim == 2
        shared = query is key and key is value
        if single:
            query, key, value = (ops.expand_dims(t, axis=0) for t in (query, key, value))
            if key_padding_mask is not None:
                key_padding_mask = ops.expand_dims(key_padding_mask, axis=0)
        elif not self.batch_first and query.ndim == key.ndim == value.ndim == 3:
            query, key, value = (ops.permute_dims(t, (1, 0, 2)) for t in (query, key, value))
        self._check(query, key, value)
        n, length, e = query.shape
        if shared and self.in_proj_weight is not None:
            q, k, v = self._projected_jointly(query)
        else:
            q, k, v = (self._projected(t, part) for part, t in enumerate((query, key, value)))
        mask = self._mask(key_padding_mask, attn_mask, n, length, key.shape[1])
        weights = None
        dropout = self.dropout if self.training else 0.0
        if need_weights or dropout:
            weights = _weights(q, k, mask, is_causal)
            out = ops.matmul(dropped(weights, dropout) if dropout else weights, v)
        else:
            out = ops.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
        out = self.out_proj(ops.permute_dims(out, (0, 2, 1, 3)).reshape(n, length, e))
        if not need_weights:
            weights = None
        elif weights is not None and average_attn_weights:
            weights = ops.mean(weights, axis=1)
        if single:
            return ops.squeeze(out, 0), None if weights is None else ops.squeeze(weights, 0)
        return out if self.batch_first else ops.permute_dims(out, (1, 0, 2)), weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Raise ShapeError unless the three, batch first, fit together."""
        widths = (self.embed_dim, self.kdim, self.vdim)
        fits = all(t.ndim == 3 and t.shape[2] == w for t, w in zip((query, key, value), widths, strict=True))
        if not fits or key.shape[:2] != value.shape[:2] or query.shape[0] != key.shape[0]:
            raise ShapeError(
                f"MultiheadAttention: query, key and value have, batch first, the shapes {query.shape}, {key.shape} and "
                f"{value.shape}; takes (N, L, {widths[0]}), (N, S, {widths[1]}) and (N, S, {widths[2]})"
            )

    def _projected_jointly(self, x: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value of one input, (N, heads, L, E / heads) each, by one product."""
        assert self.in_proj_weight is not None
        n, length, e = x.shape
        y = ops.linear(x, self.in_proj_weight, self.in_proj_bias)
        y = y.reshape(n, length, 3, self.num_heads, e // self.num_heads)
        return ops.unstack(ops.permute_dims(y, (2, 0, 3, 1, 4)), axis=0)

    def _projected(self, x: Tensor, part: int) -> Tensor:
        """Query (part 0), key (1) or value (2), (N, heads, length, E / heads)."""
        e = self.embed_dim
        rows = slice(part * e, (part + 1) * e)
        if self.in_proj_weight is not None:
            weight: Tensor | None = self.in_proj_weight[rows]
        else:
            weight = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[part]
        assert weight is not None
        y = ops.linear(x, weight, None if self.in_proj_bias is None else self.in_proj_bias[rows])
        y = y.reshape(x.shape[0], x.shape[1], self.num_heads, e // self.num_heads)
        return ops.permute_dims(y, (0, 2, 1, 3))

    def _mask(
        self, padding: Tensor | None, mask: Tensor | None, n: int, length: int, keys: int
    ) -> Tensor | None:
        """Both masks as one that broadcasts to (N, heads, L, S): bool, True where a key takes part, or added."""
        heads = self.num_heads
        if mask is not None:
            if mask.shape not in ((length, keys), (n * heads, length, keys)):
                raise ShapeError(
                    f"MultiheadAttention: attn_mask has shape {mask.shape}; takes {(length, keys)} or "
                    f"{(n * heads, length, keys)}"
                )
            mask = mask.reshape(n, heads, length, keys) if mask.ndim == 3 else mask
        if padding is not None:
            if padding.shape != (n, keys):
                raise ShapeError(
                    f"MultiheadAttention: key_padding_mask has shape {padding.shape}; takes {(n, keys)}"
                )
            padding = padding.reshape(n, 1, 1, keys)
        given = [m if m.dtype.is_floating else ops.logical_not(m) for m in (mask, padding) if m is not None]
        if len(given) < 2:
            return given[0] if given else None
        first, second = given
        if not first.dtype.is_floating and not second.dtype.is_floating:
            return ops.logical_and(first, second)
        if first.dtype.is_floating and second.dtype.is_floating:
            return first + second
        added, kept = (first, second) if first.dtype.is_floating else (second, first)
        return ops.where(kept, added, -math.inf)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """What `scaled_dot_product_attention` weighs the values with, (N, heads, L, S)."""
    scores = ops.matmul(query * (1 / math.sqrt(query.shape[-1])), ops.matrix_transpose(key))
    if is_causal:
        causal = ops.tril(ops.ones(scores.shape[-2:], dtype="bool", device=scores.device))
        scores = ops.where(causal, scores, -math.inf)
    if mask is not None:
        scores = scores + mask if mask.dtype.is_floating else ops.where(mask, scores, -math.inf)
    return ops.softmax(scores, axis=-1)


__all__ = ["MultiheadAttention"]
