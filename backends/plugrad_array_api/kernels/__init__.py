"""The kernels, one file a family, written against the functions of the standard alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plugrad.backend.kernels import KernelTable
from plugrad_array_api.kernels import (
    creation,
    division,
    elementwise,
    indexing,
    linear_algebra,
    movement,
    power,
    reduction,
    scan,
    searching,
    selection,
    sorting,
    special,
)
from plugrad_array_api.kernels._library import Library
from plugrad_array_api.kernels._table import Kernels

_FAMILIES = (
    creation,
    division,
    elementwise,
    indexing,
    linear_algebra,
    movement,
    power,
    reduction,
    scan,
    searching,
    selection,
    sorting,
    special,
)


def kernels_of(
    xp: Any, *, dtypes: Mapping[str, Any] | None = None, devices: Sequence[Any] = (None,)
) -> KernelTable:
    """Kernels of all primitives, and of the ops that the standard has a function for, over a namespace.

    Nothing is asked of the library that the array API standard 2023.12 does not promise, and what the standard leaves
    open (integer division by 0, long shifts, the order of NaN, ...) is made what the ops say. What 2024.12 adds is used
    where it is there.

    Args:
        xp: the namespace.
        dtypes: its dtypes by plugrad's names; by default its attributes of these names.
        devices: its devices in the order of plugrad's indices; None is its default one.

    Raises:
        ArgumentError: if the namespace lacks a function of the standard.
    """
    library = Library(xp, dtypes, devices)
    kernels = Kernels()
    for family in _FAMILIES:
        family.add(kernels, library)
    return kernels.table


__all__ = ["kernels_of"]
