"""Splitting a dataset into parts that share no example."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.data._generator import Purpose, check_seed, permutation
from plugrad.data.dataset import Subset, as_dataset, host_array
from plugrad.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["random_split", "stratified_split"]


def random_split(dataset: Any, parts: Sequence[float], *, seed: int = 0) -> tuple[Subset, ...]:
    """Parts of ``dataset``, drawn at random without regard to what the examples are.

    The rule is fixed: the numbers of the examples are shuffled by the seed, and the parts are cut from the
    front one after another, in shuffled order. It is the same on every machine.

    Args:
        dataset: a `Dataset`, or a list of examples.
        parts: the size of each part: integers that add up to the length, or floats that add up to 1. A part
            given by a float ends at the nearest integer to its cumulated fraction of the length, so that none
            is left over.
        seed: from 0 to 2**64 - 1.

    Raises:
        ArgumentError: if the parts do not add up, or one would be empty.
    """
    source = as_dataset("random_split", dataset)
    sizes = _sizes("random_split", parts, len(source))
    order = permutation(len(source), check_seed("random_split", seed), Purpose.SPLIT)
    return tuple(Subset(source, p) for p in np.split(order, np.cumsum(sizes)[:-1]))


def stratified_split(
    dataset: Any, labels: Any, parts: Sequence[float], *, seed: int = 0
) -> tuple[Subset, ...]:
    """Parts of ``dataset`` in each of which every class has about the share that it has in the whole.

    The rule is fixed: the numbers of the examples are shuffled by the seed and then sorted by class, keeping
    the shuffled order within one. A part of c of the m examples not yet given away takes those at the
    positions k where floor((k + 1) c / m) > floor(k c / m): evenly spaced, exactly c in all, and of a class
    with s of the m examples floor(s c / m) or ceil(s c / m). The parts take their turns from last to first,
    and each lists its examples in shuffled order. It is the same on every machine.

    Args:
        dataset: a `Dataset`, or a list of examples.
        labels: the class of each example, integers, booleans or strings of shape (N,).
        parts: the size of each part, as for `random_split`.
        seed: from 0 to 2**64 - 1.

    Raises:
        ArgumentError: if the parts do not add up, or one would be empty.
        ShapeError: if there is not one label per example.
        DTypeError: if the labels are floating.
    """
    source = as_dataset("stratified_split", dataset)
    n = len(source)
    sizes = _sizes("stratified_split", parts, n)
    order = permutation(n, check_seed("stratified_split", seed), Purpose.SPLIT)
    classes = _classes(labels, n)
    rest = np.argsort(classes[order], kind="stable")  # positions in `order`, sorted by class
    chosen = []
    for size in reversed(sizes):
        marks = np.arange(len(rest) + 1) * size // len(rest)
        turn = marks[1:] > marks[:-1]
        chosen.append(Subset(source, order[np.sort(rest[turn])]))
        rest = rest[~turn]
    return tuple(reversed(chosen))


def _classes(labels: Any, n: int) -> np.ndarray[Any, Any]:
    array = np.asarray(labels)
    if array.dtype.kind not in "US":
        array = host_array("stratified_split: labels", labels)
    if array.shape != (n,):
        raise ShapeError(
            f"stratified_split: got labels of shape {array.shape}, takes one per example, ({n},)"
        )
    if array.dtype.kind not in "iubUS":
        raise DTypeError(
            f"stratified_split: got labels of dtype {array.dtype}, takes integers, booleans or strings"
        )
    return np.unique(array, return_inverse=True)[1]


def _sizes(what: str, parts: Sequence[float], n: int) -> list[int]:
    values = list(parts)
    takes = f"takes integers that add up to {n} or floats that add up to 1"
    if values and all(isinstance(p, (int, np.integer)) and not isinstance(p, bool) for p in values):
        sizes = [int(p) for p in values]
        if sum(sizes) != n:
            raise ArgumentError(f"{what}: the parts {sizes} add up to {sum(sizes)}, not to the {n} examples")
    elif values and all(isinstance(p, (float, np.floating)) for p in values):
        total = math.fsum(values)
        if not abs(total - 1) <= 1e-6:
            raise ArgumentError(f"{what}: the parts {values} add up to {total:g}, {takes}")
        ends = [math.floor(math.fsum(values[: i + 1]) * n + 0.5) for i in range(len(values))]
        ends[-1] = n
        sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    else:
        raise ArgumentError(f"{what}: got the parts {values}, {takes}")
    if min(sizes) < 1:
        raise ArgumentError(
            f"{what}: the parts {values} of {n} examples come to {sizes}; each needs at least one"
        )
    return sizes
