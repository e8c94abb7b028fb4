"""The distinct elements of a tensor (array API standard 2024.12, "Set functions").

How many there are depends on the values, so none of these can be called by a captured function. Elements are
distinct where ``!=`` holds: 0 is not distinct from -0, and each NaN is one of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.sample import Sample
from plugrad.ops.creation import full
from plugrad.ops.indexing import take
from plugrad.ops.movement import concat, reshape
from plugrad.ops.scan import cumulative_sum, narrow
from plugrad.ops.searching import nonzero
from plugrad.ops.sorting import argsort, sort
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


class UniqueAll(NamedTuple):
    """What `unique_all` gives."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What `unique_counts` gives."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What `unique_inverse` gives."""

    values: Tensor
    inverse_indices: Tensor


class _Runs:
    """The elements of a tensor in ascending order, in which equal ones stand side by side.

    Attributes:
        order: where each element was in the flattened tensor; only if it is asked for.
        ordered: the elements.
        fresh: whether an element differs from the one before it.
        starts: the indices of those that do.
    """

    def __init__(self, x: Tensor, *, places: bool) -> None:
        flat = reshape(x.detach(), (x.spec.size,))
        device = x.spec.device
        self.shape = x.spec.shape
        if places:
            self.order = argsort(flat)
            self.ordered = take(flat, self.order)
        else:
            self.ordered = sort(flat)
        changes = narrow(self.ordered, 0, 1, None) != narrow(self.ordered, 0, None, -1)
        first = full((min(x.spec.size, 1),), True, device=device)
        self.fresh = concat([first, changes], axis=0)
        (self.starts,) = nonzero(self.fresh)

    @property
    def values(self) -> Tensor:
        return take(self.ordered, self.starts)

    @property
    def indices(self) -> Tensor:
        return take(self.order, self.starts)

    @property
    def inverse(self) -> Tensor:
        # The rank of an element, brought back to where it was.
        rank = cumulative_sum(self.fresh) - 1
        return reshape(take(rank, argsort(self.order)), self.shape)

    @property
    def counts(self) -> Tensor:
        starts = self.starts
        n = starts.spec.size
        end = full((min(n, 1),), self.ordered.spec.size, dtype=dtypes.int64, device=starts.spec.device)
        return concat([narrow(starts, 0, 1, None), end], axis=0) - starts


def _samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.integers(0, 4, (3, 5))),
        Sample(rng.standard_normal((2, 3))),
        Sample(rng.random(6) < 0.5),
        Sample(np.zeros((0, 2), np.int64)),
        Sample(rng.integers(0, 4, ())),
    ]


def _specs(*names: str) -> Any:
    def infer(call: Any) -> Any:
        # Sizes depend on the values; they are read from the results.
        specs = tuple(
            Spec((0,), call.x.dtype if n == "values" else dtypes.int64, call.x.device) for n in names
        )
        return specs if len(specs) > 1 else specs[0]

    return infer


@op(
    kind=Kind.SORTING,
    infer=_specs("values", "indices", "inverse_indices", "counts"),
    outputs=("values", "indices", "inverse_indices", "counts"),
    differentiable=False,
    data_dependent=True,
    samples=_samples,
)
def unique_all(x: Tensor, /) -> UniqueAll:
    """The distinct elements of ``x``, where they are and how many of each (array API `unique_all`).

    Args:
        x: any shape, any dtype.

    Returns:
        A named tuple of ``values`` (u,), ascending, of the dtype of ``x``; ``indices`` (u,), int64, the first
        place of each in the flattened tensor; ``inverse_indices``, int64 of the shape of ``x``, which element
        of ``values`` each is; ``counts`` (u,), int64.
    """
    runs = _Runs(x, places=True)
    return UniqueAll(runs.values, runs.indices, runs.inverse, runs.counts)


@op(
    kind=Kind.SORTING,
    infer=_specs("values", "counts"),
    outputs=("values", "counts"),
    differentiable=False,
    data_dependent=True,
    samples=_samples,
)
def unique_counts(x: Tensor, /) -> UniqueCounts:
    """The distinct elements of ``x`` and how many of each (array API `unique_counts`).

    Args:
        x: any shape, any dtype.

    Returns:
        A named tuple of ``values`` (u,), ascending, of the dtype of ``x``, and ``counts`` (u,), int64.
    """
    runs = _Runs(x, places=False)
    return UniqueCounts(runs.values, runs.counts)


@op(
    kind=Kind.SORTING,
    infer=_specs("values", "inverse_indices"),
    outputs=("values", "inverse_indices"),
    differentiable=False,
    data_dependent=True,
    samples=_samples,
)
def unique_inverse(x: Tensor, /) -> UniqueInverse:
    """The distinct elements of ``x`` and which of them each element is (array API `unique_inverse`).

    Args:
        x: any shape, any dtype.

    Returns:
        A named tuple of ``values`` (u,), ascending, of the dtype of ``x``, and ``inverse_indices``, int64 of the
        shape of ``x``, with ``values[inverse_indices] == x`` but for NaN.
    """
    runs = _Runs(x, places=True)
    return UniqueInverse(runs.values, runs.inverse)


@op(
    kind=Kind.SORTING,
    infer=_specs("values"),
    differentiable=False,
    data_dependent=True,
    samples=_samples,
)
def unique_values(x: Tensor, /) -> Tensor:
    """The distinct elements of ``x`` (array API `unique_values`).

    Args:
        x: any shape, any dtype.

    Returns:
        (u,), ascending, of the dtype of ``x``.
    """
    return _Runs(x, places=False).values


__all__ = [
    "UniqueAll",
    "UniqueCounts",
    "UniqueInverse",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]
