"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.factors import Factor
from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import BOOLEAN, FLOATING
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops._rules import widened
from plugrad.ops.broadcasting import sum, sum_to
from plugrad.ops.comparison import equal, where
from plugrad.ops.creation import iota
from plugrad.ops.linear_algebra import matrix_product
from plugrad.ops.movement import matrix_transpose, reshape
from plugrad.ops.reduction import max
from plugrad.ops.transcendental import exp, log
from plugrad.spec import Shape, Spec, broadcast_shapes

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

_NAME = "scaled_dot_product_attention"


def _attended(call: Any) -> Any:
    query: Spec = call.query
    key: Spec = call.key
    value: Spec = call.value
    mask: Spec | None = call.attn_mask
    if (
        any(x.ndim < 2 for x in (query, key, value))
        or query.shape[-1] != key.shape[-1]
        or key.shape[-2] != value.shape[-2]
    ):
        raise ShapeError(
            f"{_NAME}: got query {query.shape}, key {key.shape}, value {value.shape}; "
            "takes (..., L, E), (..., S, E), (..., S, Ev)"
        )
    batch = broadcast_shapes(_NAME, [x.shape[:-2] for x in (query, key, value)])
    rows = (*batch, query.shape[-2])
    scores = (*rows, key.shape[-2])
    if mask is not None and broadcast_shapes(f"{_NAME}: attn_mask", [mask.shape, scores]) != scores:
        raise ShapeError(f"{_NAME}: attn_mask has shape {mask.shape}, takes one that broadcasts to {scores}")
    out = query.with_shape((*rows, value.shape[-1]))
    return (out, Spec(rows, widened(query.dtype), query.device)) if call.residuals else out


def _scale(call: Any, value: Any) -> float:
    if value is None:
        width = call.query.shape[-1] if call.query.ndim else 0
        return 1 / math.sqrt(width) if width else 1.0
    if (
        isinstance(value, (bool, np.bool_))
        or not isinstance(value, (int, float, np.number))
        or not math.isfinite(value)
    ):
        raise ArgumentError(f"{_NAME}: scale takes a finite number or None, got {value!r}")
    return float(value)


def _causal(call: Any, value: Any) -> bool:
    del call
    if not isinstance(value, bool):
        raise ArgumentError(f"{_NAME}: is_causal takes True or False, got {value!r}")
    return value


def _samples(rng: np.random.Generator) -> list[Sample]:
    n = rng.standard_normal

    def qkv(*batch: int, rows: int = 4, columns: int = 5, width: int = 3, out: int = 2) -> list[Any]:
        return [n((*batch, rows, width)), n((*batch, columns, width)), n((*batch, columns, out))]

    some = rng.random((2, 1, 4, 5)) < 0.6
    some[0, 0, 1] = False
    cut = n((4, 5))
    cut[rng.random((4, 5)) < 0.3] = 0
    return [
        Sample(*qkv()),
        Sample(*qkv(2, 3), None, is_causal=True),
        Sample(*qkv(2, columns=3), None, is_causal=True, scale=0.5),
        Sample(*qkv(2, 3), some),
        Sample(*qkv(2, 3), cut),
        Sample(*qkv(2, 3), n((2, 1, 1, 5))),
        Sample(*qkv(2, 3), n((3, 4, 1)), is_causal=True),
        Sample(*qkv(2, 2, rows=3, columns=3), rng.random((3, 3)) < 0.7, is_causal=True),
        Sample(n((2, 1, 4, 3)), n((3, 5, 3)), n((2, 3, 5, 2))),
        Sample(*qkv(0)),
        Sample(*qkv(2, columns=0)),
        Sample(*qkv(2, rows=0)),
        Sample(*qkv(2, width=0)),
    ]


def _factors(call: Any, results: Sequence[Spec]) -> Iterable[Factor]:
    """The leading axes that all have; a mask where it has them too."""
    query: Spec = call.query
    same = [n for n in ("query", "key", "value", "ct", "out", "log_sum") if hasattr(call, n)]
    for axis in range(query.ndim - 2):
        size, axes = query.shape[axis], dict.fromkeys(same, axis)
        if size < 2 or any(getattr(call, n).shape[: axis + 1] != query.shape[: axis + 1] for n in same):
            continue
        if call.attn_mask is not None:
            own = axis - query.ndim + call.attn_mask.ndim
            if own >= 0 and call.attn_mask.shape[own] != 1:
                axes["attn_mask"] = own
            elif "attn_mask" in getattr(call, "wrt", ()):
                continue
        if all(r.shape[: axis + 1] == query.shape[: axis + 1] for r in results):
            yield Factor(axes, (axis,) * len(results))


@op(
    kind=Kind.CONTRACTION,
    infer=_attended,
    dtypes={"query": FLOATING, "key": FLOATING, "value": FLOATING, "attn_mask": (*BOOLEAN, *FLOATING)},
    promote=("query", "key", "value"),
    attributes={"is_causal": _causal, "scale": _scale},
    residuals=("log_sum",),
    factors=_factors,
    autocast=Autocast.LOW,
    samples=_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((4, 3)), np.zeros((5, 2)), np.zeros((5, 2))),
        ErrorSample(ShapeError, np.zeros((4, 3)), np.zeros((5, 3)), np.zeros((5, 2)), np.zeros((4, 4))),
        ErrorSample(ArgumentError, np.zeros((4, 3)), np.zeros((5, 3)), np.zeros((5, 2)), scale=math.inf),
        ErrorSample(ArgumentError, np.zeros((4, 3)), np.zeros((5, 3)), np.zeros((5, 2)), is_causal=1),
    ),
)
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    residuals: bool = False,
) -> Tensor:
    """``softmax(query @ key.T * scale + mask) @ value`` (`torch.nn.functional.scaled_dot_product_attention`).

    Args:
        query: (..., L, E), a floating dtype.
        key: (..., S, E).
        value: (..., S, Ev). The leading axes of the three broadcast, their dtypes promote.
        attn_mask: bool, True where a position takes part, or floating, added to the scores; it broadcasts to
            (..., L, S). A floating mask has a gradient. None for none.
        is_causal: position i of the query sees the positions up to i of the key alone, and of these those that
            ``attn_mask`` lets take part.
        scale: what the products are multiplied by, ``1 / sqrt(E)`` by default.
        residuals: also give the logarithm of each row's sum of exponentials, (..., L), 0 where no position takes
            part; set where the call is recorded.

    Returns:
        (..., L, Ev), of the common dtype. Rows in which no position takes part are 0.

    Raises:
        ShapeError: if the shapes do not fit together.
        ArgumentError: if ``scale`` is no finite number.

    There is no dropout of the weights: `dropout` takes its random numbers from outside, and so would this.
    16-bit floats are computed in float32. Source: Vaswani et al., "Attention is all you need" (2017), section 3.2.1.
    """
    assert scale is not None
    dtype = query.dtype
    scores = _scores(query, key, attn_mask, is_causal, scale)
    if scores.shape[-1] == 0:
        # Nothing takes part: the sums over nothing are the zeros.
        out, log_sum = matrix_product(scores, _wide(value)), sum(scores, axis=-1)
    else:
        top = max(scores, axis=-1, keepdims=True)
        top = where(equal(top, -math.inf), 0.0, top)
        weights = exp(scores - top)
        total = sum(weights, axis=-1, keepdims=True)
        total = where(equal(total, 0.0), 1.0, total)
        out = matrix_product(weights, _wide(value)) / total
        log_sum = reshape(top + log(total), scores.shape[:-1])
    out = out.astype(dtype)
    return (out, log_sum) if residuals else out  # type: ignore[return-value]


def _wide(x: Tensor) -> Tensor:
    return x.astype(widened(x.dtype))


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    """The scaled products, minus infinity where a position takes no part."""
    scores = matrix_product(_wide(query) * scale, matrix_transpose(_wide(key)))
    rows, columns = scores.shape[-2:]
    taking: Tensor | None = None
    if is_causal:
        device = query.device
        taking = iota(columns, device=device) <= reshape(iota(rows, device=device), (rows, 1))
    if mask is not None and mask.dtype is dtypes.bool:
        taking = mask if taking is None else taking & mask
    elif mask is not None:
        scores = scores + mask.astype(scores.dtype)
    return scores if taking is None else where(taking, scores, -math.inf)


@scaled_dot_product_attention.defvjp(factors=_factors)
def _(
    ct: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    out: Tensor,
    log_sum: Tensor,
    *,
    is_causal: bool,
    scale: float,
    wrt: tuple[str, ...],
) -> Any:
    scores = _scores(query, key, attn_mask, is_causal, scale)
    weights = exp(scores - reshape(log_sum, (*log_sum.shape, 1)))
    ct = _wide(ct)
    cts: list[Tensor] = []
    # Of the scores: the softmax's own rule, where the sum over a row is that of ct * out.
    slope = matrix_product(ct, matrix_transpose(_wide(value))) - sum(ct * _wide(out), axis=-1, keepdims=True)
    slope = weights * slope
    for name in wrt:
        if name == "query":
            cts.append(_down(matrix_product(slope, _wide(key)) * scale, query))
        elif name == "key":
            cts.append(_down(matrix_product(matrix_transpose(slope), _wide(query) * scale), key))
        elif name == "value":
            cts.append(_down(matrix_product(matrix_transpose(weights), ct), value))
        else:
            assert attn_mask is not None
            cts.append(_down(slope, attn_mask))
    return tuple(cts)


def _down(ct: Tensor, operand: Tensor) -> Tensor:
    """``ct`` summed down to the shape of ``operand``, and in its dtype."""
    shape: Shape = operand.shape
    return (ct if ct.shape == shape else sum_to(ct, shape)).astype(operand.dtype)


__all__ = ["scaled_dot_product_attention"]
