"""What a key in ``x[key]`` means for a shape: slices, new axes and arrays, by NumPy's rules.

A key is an item or a tuple of items: integers, slices, ``...``, None for a new axis, masks, and arrays of
integers, as tensors, NumPy arrays or lists.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType, NoneType
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.convert import asarray
from plugrad.dispatch.data import TensorData
from plugrad.dtypes import int32, int64
from plugrad.errors import ArgumentError, AxisError, DTypeError, IndexRangeError, ShapeError
from plugrad.ops.slicing import WHOLE, Bound
from plugrad.spec import Shape, Spec

ALL: Final = slice(None)
"""The item that selects all of an axis."""

_BASIC: Final = frozenset((int, slice, NoneType, EllipsisType))
_KEPT: Final = 4096
"""Plans of keys without arrays that are kept."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a key means for a shape: first a slice and a reshape, then the indexing by arrays, if there are any.

    Attributes:
        bounds: the slice of each axis of ``x``, ``WHOLE`` where it selects all; an integer is one of length 1.
        whole: they select all of ``x``.
        region: the shape that the bounds select.
        shape: that without the axes of integers, with the new ones.
        kept: for each axis of ``shape`` the axis of ``x`` that it is, None for a new one.
        single: (axis, index) where the key is one integer and nothing else.
        advanced: the arrays of integers, by the axis of ``shape`` that each indexes.
        order: how the axes of ``shape`` are permuted before the arrays index them, one after the other.
        start: the first of these axes then.
    """

    bounds: tuple[Bound, ...]
    whole: bool
    region: Shape
    shape: Shape
    kept: tuple[int | None, ...]
    single: tuple[int, int] | None
    advanced: dict[int, Any]
    order: tuple[int, ...]
    start: int


_plans: Final[dict[Any, Plan]] = {}


def plan_of(x: Spec, key: Any) -> Plan:
    """The plan of ``x[key]``; of a key without arrays it is made once.

    Raises:
        As `plugrad.subscript.getitem`.
    """
    given = key if type(key) is tuple else (key,)
    if not _BASIC.issuperset(map(type, given)):
        return make_plan(x, items_of(x, key))
    form = (x.shape, *[(i.start, i.stop, i.step) if type(i) is slice else i for i in given])
    try:
        return _plans[form]
    except (KeyError, TypeError):  # the parts of a slice may be anything
        plan = make_plan(x, items_of(x, key))
    if all(type(i) is not slice or {type(i.start), type(i.stop), type(i.step)} <= _BASIC for i in given):
        if len(_plans) >= _KEPT:
            _plans.clear()
        _plans[form] = plan
    return plan


def bound_of(item: slice, size: int) -> Bound:
    """A slice of an axis of ``size`` as static numbers; `WHOLE` where it selects all."""
    if item.step == 0:
        raise ArgumentError("x[key]: a slice has step 0; takes a positive or negative step")
    try:
        start, stop, step = (
            None if n is None else operator.index(n) for n in (item.start, item.stop, item.step)
        )
    except TypeError:
        raise DTypeError(f"x[key]: a slice takes integers or None, got {item}") from None
    bound = start, stop, step
    return WHOLE if slice(*bound).indices(size) == (0, size, 1) else bound


def items_of(x: Spec, key: Any) -> list[Any]:
    """The items of a key, None, int, slice or array each, one or more for every axis; the ellipsis written out."""
    given = key if type(key) is tuple else (key,)
    items = [_item(item) for item in given]
    used = 0
    for item in items:
        if item is None or item is Ellipsis:
            continue
        used += item.ndim if is_mask(item) else 1
    if used > x.ndim:
        raise AxisError(f"x[key]: the key indexes {used} axes, the tensor has {x.ndim}, shape {x.shape}")
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("x[key]: the key has two ellipses (...); takes one")
    at = dots[0] if dots else len(items)
    # An ellipsis of no axes stays, as it keeps the arrays on its sides apart.
    return [*items[:at], *([ALL] * (x.ndim - used) or items[at : at + 1]), *items[at + 1 :]]


def is_mask(item: Any) -> bool:
    """Whether an item is an array of bool."""
    if isinstance(item, TensorData):
        return item.spec.dtype.name == "bool"
    return isinstance(item, np.ndarray) and item.dtype == np.bool_


def _item(item: Any) -> Any:
    """An item in one of its forms: None, ``...``, int, slice, tensor or NumPy array (of bool or integers)."""
    if item is None or isinstance(item, (slice, EllipsisType)):
        return item
    if isinstance(item, TensorData):
        dtype = item.spec.dtype
        if dtype.is_floating:
            raise DTypeError(
                f"x[key]: indices are {dtype}; takes integers or a mask of bool; cast with astype"
            )
        if dtype.is_integer and dtype not in (int32, int64):
            return ops.astype(item, int64)  # type: ignore[arg-type]
        return item
    if isinstance(item, (bool, np.bool_)):
        return np.asarray(item)
    if isinstance(item, (list, tuple, range)) and _holds_tensors(item):
        return _item(asarray(item))
    if isinstance(item, (np.ndarray, list, tuple, range)):
        try:
            array = np.asarray(item)
        except ValueError:
            raise ShapeError("x[key]: a list of indices is ragged") from None
        if not array.size and not isinstance(item, np.ndarray):
            array = array.astype(np.int64)
        if array.dtype.kind not in "iub":
            raise DTypeError(f"x[key]: indices are {array.dtype}; takes integers or a mask of bool")
        return array if array.ndim or array.dtype == np.bool_ else int(array)
    try:
        return operator.index(item)
    except TypeError:
        shown = repr(item) if isinstance(item, (float, str)) else type(item).__name__
        raise DTypeError(
            f"x[key]: takes integers, slices, ..., None, masks and arrays of integers, got {shown}"
        ) from None


def _holds_tensors(item: Any) -> bool:
    return any(
        isinstance(i, TensorData) or (isinstance(i, (list, tuple)) and _holds_tensors(i)) for i in item
    )


def make_plan(x: Spec, items: Sequence[Any]) -> Plan:
    """The plan of a key that is taken apart into ``items``."""
    bounds: list[Bound] = []
    region: list[int] = []
    shape: list[int] = []
    kept: list[int | None] = []
    advanced: dict[int, Any] = {}
    integers: list[tuple[int, int]] = []
    places: list[int] = []  # of the items that NumPy counts among the arrays: arrays, masks, integers

    def keep(bound: Bound, length: int) -> None:
        kept.append(len(bounds))
        bounds.append(bound)
        region.append(length)
        shape.append(length)

    for place, item in enumerate(items):
        axis = len(bounds)
        if item is None:
            shape.append(1)
            kept.append(None)
        elif type(item) is slice:
            bound = bound_of(item, x.shape[axis])
            keep(bound, len(range(*slice(*bound).indices(x.shape[axis]))))
        elif type(item) is int:
            index = _checked(item, axis, x.shape[axis])
            bounds.append(WHOLE if x.shape[axis] == 1 else (index, index + 1, 1))
            region.append(1)
            integers.append((axis, index))
            places.append(place)
        elif item is not Ellipsis:
            places.append(place)
            if is_mask(item) and not item.ndim:
                advanced[len(shape)] = np.zeros(1 if bool(item) else 0, np.int64)
                shape.append(1)
                kept.append(None)
                continue
            for array in _arrays(item, axis, x.shape):
                axis, n = len(bounds), x.shape[len(bounds)]
                advanced[len(shape)] = _in_range(array, axis, n) if isinstance(array, np.ndarray) else array
                keep(WHOLE, n)
    single = None
    if len(integers) == 1 and not advanced:
        at = integers[0][0]
        others = [i for i in range(x.ndim) if i != at]
        if kept == others and all(bounds[i] is WHOLE for i in others):
            single = integers[0]
    axes = list(advanced)
    together = not places or places[-1] - places[0] == len(places) - 1
    start = axes[0] if axes and together else 0
    rest = [i for i in range(len(shape)) if i not in advanced]
    return Plan(
        bounds=tuple(bounds),
        whole=all(b is WHOLE for b in bounds),
        region=tuple(region),
        shape=tuple(shape),
        kept=tuple(kept),
        single=single,
        advanced=advanced,
        order=(*rest[:start], *axes, *rest[start:]),
        start=start,
    )


def _checked(index: int, axis: int, size: int) -> int:
    if not -size <= index < size:
        raise IndexRangeError(f"x[key]: index {index} is out of range for axis {axis} of size {size}")
    return index % size


def _in_range(array: np.ndarray[Any, Any], axis: int, size: int) -> np.ndarray[Any, Any]:
    """Indices of the host, checked, from 0."""
    if not array.size:
        return array.astype(np.int64)
    low = int(array.min())
    _checked(low, axis, size)
    _checked(int(array.max()), axis, size)
    array = array.astype(np.int64, copy=False)
    return np.where(array < 0, array + size, array) if low < 0 else array


def _arrays(item: Any, axis: int, shape: Shape) -> list[Any]:
    """An array as it is, a mask as the arrays of the indices where it holds, one for each axis that it covers."""
    if not is_mask(item):
        return [item]
    check_mask(item, axis, shape)
    return list(np.nonzero(item) if isinstance(item, np.ndarray) else ops.nonzero(item))


def check_mask(mask: Any, axis: int, shape: Shape) -> None:
    """Raise if a mask has not the shape of the axes from ``axis`` on."""
    covered = shape[axis : axis + mask.ndim]
    if mask.shape != covered:
        raise ShapeError(
            f"x[key]: a mask of shape {mask.shape} does not cover axes {axis} to {axis + mask.ndim - 1} "
            f"of shape {shape}, whose sizes are {covered}"
        )
