"""The oracle of scaled dot-product attention."""

from __future__ import annotations

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle


@oracle("scaled_dot_product_attention")
@np.errstate(all="ignore")
def _attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None, *, is_causal: bool, scale: float
) -> Array:
    scores = np.matmul(query, np.swapaxes(key, -1, -2)) * scale
    rows, columns = scores.shape[-2:]
    seen = np.ones((rows, columns), np.bool_)
    if is_causal:
        seen = np.tril(seen)
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        seen = seen & attn_mask
    elif attn_mask is not None:
        scores = scores + attn_mask
    scores = np.where(seen, scores, -np.inf)
    top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
    # A row in which nothing takes part has weights 0, and the sum of them is 0.
    weights = np.exp(scores - np.where(top == -np.inf, 0.0, top))
    total = np.sum(weights, axis=-1, keepdims=True)
    return np.asarray(np.matmul(weights / np.where(total == 0, 1.0, total), value))
