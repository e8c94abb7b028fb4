"""Dropout, from random bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugrad.dispatch.op import op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import FLOATING, uint32
from plugrad.errors import ArgumentError
from plugrad.ops.comparison import greater_equal, where
from plugrad.ops.creation import zeros_like
from plugrad.ops.drawing import random_bits

if TYPE_CHECKING:
    import numpy as np

    from plugrad.tensor import Tensor


def _samples(rng: np.random.Generator) -> list[Sample]:
    import numpy as np

    key = np.array([1, 2], np.uint32)
    counter = np.array([3, 0, 0, 0], np.uint32)
    return [
        Sample(rng.standard_normal(shape), key, counter, p=p)
        for shape, p in (((3, 4), 0.5), ((5,), 0.0), ((2, 3), 1.0), ((), 0.2), ((0, 2), 0.3))
    ]


@op(dtypes={"x": FLOATING, "key": (uint32,), "counter": (uint32,)}, samples=_samples)
def dropout(x: Tensor, key: Tensor, counter: Tensor, *, p: float = 0.5) -> Tensor:
    """Each element 0 with probability ``p``, else divided by ``1 - p`` (Srivastava et al. 2014).

    The same key and counter give the same mask, on every backend. `plugrad.nn.Dropout` takes them from the
    random numbers of the device.

    Args:
        x: floating, of any shape.
        key: uint32, (2,); see `random_bits`.
        counter: uint32, (4,): the first block of random bits that is used.
        p: in [0, 1].

    Raises:
        ArgumentError: if ``p`` is outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p takes a probability in [0, 1], got {p}")
    if p == 0:
        return x * 1.0
    if p == 1:
        return zeros_like(x)
    kept = greater_equal(random_bits(key, counter, shape=x.shape), round(p * 2**32))
    return where(kept, x * (1 / (1 - p)), 0.0)


__all__ = ["dropout"]
