"""Small sets made on the spot: truth tables and samples of a curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.data._generator import check_int
from plugrad.data.dataset import ArrayDataset
from plugrad.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["curve", "logic", "xor"]

Array = np.ndarray[Any, Any]

_PAIRS: Final = ((0, 0), (0, 1), (1, 0), (1, 1))
_TABLES: Final[dict[str, tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]]] = {
    "and": (_PAIRS, (0, 0, 0, 1)),
    "or": (_PAIRS, (0, 1, 1, 1)),
    "not": (((0,), (1,)), (1, 0)),
    "xor": (_PAIRS, (0, 1, 1, 0)),
}


def logic(name: str) -> ArrayDataset:
    """The truth table of a logical function: ``"and"``, ``"or"``, ``"not"`` or ``"xor"``.

    Returns:
        Examples (inputs, output) of zeros and ones, float32 of shapes (2,) and (1,); for "not" (1,) and (1,).

    Raises:
        ArgumentError: for another name.
    """
    if name not in _TABLES:
        raise ArgumentError(f"logic: got {name!r}, takes {', '.join(map(repr, _TABLES))}")
    inputs, outputs = _TABLES[name]
    return ArrayDataset(np.array(inputs, np.float32), np.array(outputs, np.float32)[:, np.newaxis])


def xor() -> ArrayDataset:
    """The truth table of exclusive or, which no single neuron learns: ``logic("xor")``."""
    return logic("xor")


def curve(function: Callable[[Array], Any], n: int, low: float, high: float) -> ArrayDataset:
    """Evenly spaced samples of a function of one variable, both ends included.

    Args:
        function: elementwise on a float64 array of shape (n, 1), such as `numpy.sin`.
        n: how many samples, at least 2.
        low: where the samples begin.
        high: where they end, above ``low``.

    Returns:
        Examples (x, function(x)), float32 of shape (1,) each.

    Raises:
        ArgumentError: for another ``n``, ends that are no such numbers, or a value that is not finite.
        ShapeError: if ``function`` does not keep the shape.
    """
    n = check_int("curve: n", n, 2)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ArgumentError(
            f"curve: got the ends {low!r} and {high!r}, takes finite numbers, the first smaller"
        )
    x = np.linspace(low, high, n)[:, np.newaxis]
    y = np.asarray(function(x), np.float64)
    if y.shape != x.shape:
        raise ShapeError(
            f"curve: the function made shape {y.shape} of {x.shape}, takes one that is elementwise"
        )
    if not np.isfinite(y).all():
        at = float(x[~np.isfinite(y)][0])
        raise ArgumentError(f"curve: the function is not finite at {at:g}; take ends between which it is")
    return ArrayDataset(x.astype(np.float32), y.astype(np.float32))
