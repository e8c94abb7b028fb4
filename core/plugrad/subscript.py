"""``x[key]`` and ``x[key] = value``, with the meaning that NumPy gives a key, in ops.

Slices, integers and new axes are one `strided_slice` and one `reshape`, or one `select`; arrays then are one
`gather_nd` or `update_nd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import ops
from plugrad._key import ALL, Plan, bound_of, check_mask, is_mask, items_of, plan_of
from plugrad.backend import backend_of
from plugrad.convert import asarray
from plugrad.dispatch.conversion import scalar_tensor
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dtypes import int64
from plugrad.errors import DTypeError, ShapeError
from plugrad.ops.indexing import INDEX
from plugrad.ops.slicing import WHOLE
from plugrad.spec import Shape, Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def getitem(x: Tensor, key: Any) -> Tensor:
    """``x[key]``.

    Raises:
        AxisError: if the key indexes more axes than there are.
        IndexRangeError: if an integer is outside its axis.
        ShapeError: if a mask has another shape than the axes that it covers, or indices do not broadcast.
        DTypeError: for what is no index, such as a float.
        ArgumentError: for a step of 0.
    """
    kind, shape = type(key), x._key.spec.shape
    if kind is int and shape:
        return ops.select(x, key)
    if kind is slice and shape:
        return ops.strided_slice(x, (bound_of(key, shape[0]), *(WHOLE,) * (len(shape) - 1)))
    if isinstance(key, TensorData) and shape and key.spec.dtype in INDEX:
        return ops.take(x, key, axis=0)  # type: ignore[arg-type]
    plan = plan_of(x._key.spec, key)
    if plan.single is not None:
        return ops.select(x, plan.single[1], axis=plan.single[0])
    part = _part(x, plan)
    if not plan.advanced:
        return part
    return ops.gather_nd(_ordered(part, plan.order), _places(plan, x), axis=plan.start)


def setitem(x: Tensor, key: Any, value: Any) -> Tensor:
    """What ``x[key] = value`` binds ``x`` to.

    The value broadcasts to the shape of ``x[key]`` and is cast to the dtype of ``x``. Where the key names a place
    several times, the last element of the value stays.

    Raises:
        DTypeError: for a floating value where ``x`` is not floating.
        ShapeError: if the value does not broadcast.
        As `getitem`.
    """
    value = _value(x.spec, value)
    out = _masked(x, key, value)
    if out is not None:
        return out
    plan = plan_of(x.spec, key)
    if not plan.advanced:
        return _replaced(x, plan, _fitted(value, plan))
    indices = _places(plan, x)
    part = _ordered(_part(x, plan), plan.order)
    place = (*part.shape[: plan.start], *indices[0].shape, *part.shape[plan.start + len(indices) :])
    part = ops.update_nd(part, indices, _trimmed(value, place), axis=plan.start)
    part = _ordered(part, tuple(plan.order.index(i) for i in range(part.ndim)))
    return _replaced(x, plan, ops.reshape(part, plan.region))


def _part(x: Tensor, plan: Plan) -> Tensor:
    """``x`` at the slices, integers and new axes of the key."""
    if not plan.whole:
        x = ops.strided_slice(x, plan.bounds)
        if plan.shape == plan.region:
            return x
    return ops.reshape(x, plan.shape)


def _ordered(x: Tensor, order: tuple[int, ...]) -> Tensor:
    return x if order == tuple(range(len(order))) else ops.permute_dims(x, order)


def _places(plan: Plan, x: Tensor) -> list[Tensor]:
    """The arrays of the key, broadcast together, on the device of ``x``."""
    arrays = list(plan.advanced.values())
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        raise ShapeError(
            f"x[key]: indices of shapes {', '.join(str(tuple(a.shape)) for a in arrays)} do not broadcast together"
        ) from None
    return [_placed(a, shape, x) for a in arrays]


def _placed(array: Any, shape: Shape, x: Tensor) -> Tensor:
    if isinstance(array, np.ndarray):
        device = x.device
        return wrap(
            backend_of(device).from_host(np.broadcast_to(array, shape), device), Spec(shape, int64, device)
        )
    out: Tensor = array if array.shape == shape else ops.broadcast_to(array, shape)
    return out


def _value(x: Spec, value: Any) -> Tensor:
    """What is assigned as a tensor of the dtype of ``x``."""
    if isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):
        if isinstance(value, float) and not x.dtype.is_floating:
            raise DTypeError(f"x[key] = value: x is {x.dtype}, the value the float {value}; cast one of them")
        number: Tensor = scalar_tensor(value, x.dtype, x.device, "x[key] = value")
        return number
    if not isinstance(value, TensorData):
        sequence = not isinstance(value, (np.ndarray, np.generic))
        value = asarray(value, dtype=x.dtype if sequence and x.dtype.is_floating else None, device=x.device)
    dtype = value.spec.dtype
    if dtype.is_floating and not x.dtype.is_floating:
        raise DTypeError(f"x[key] = value: x is {x.dtype}, the value {dtype}; cast one of them with astype")
    out: Tensor = value if dtype is x.dtype else ops.astype(value, x.dtype)
    return out


def _trimmed(value: Tensor, place: Shape) -> Tensor:
    """``value`` without the leading axes of size 1 that ``place`` has not; checked to broadcast to it."""
    extra = value.ndim - len(place)
    shape = value.shape
    if extra > 0 and all(n == 1 for n in shape[:extra]):
        value, shape = ops.reshape(value, shape[extra:]), shape[extra:]
    if len(shape) > len(place) or any(
        n not in (1, m) for n, m in zip(reversed(shape), reversed(place), strict=False)
    ):
        raise ShapeError(f"x[key] = value: a value of shape {value.shape} does not broadcast to {place}")
    return value


def _fitted(value: Tensor, plan: Plan) -> Tensor:
    """A value for ``x[key]`` with the axes that ``x`` has: those of integers of size 1, the new ones gone."""
    value = _trimmed(value, plan.shape)
    if plan.shape == plan.region or not value.ndim:
        return value
    sizes = (1,) * (len(plan.shape) - value.ndim) + value.shape
    by_axis = dict(zip(plan.kept, sizes, strict=True))
    return ops.reshape(value, tuple(by_axis.get(axis, 1) for axis in range(len(plan.region))))


def _replaced(x: Tensor, plan: Plan, value: Tensor) -> Tensor:
    """``x`` with ``value`` in the region of the plan."""
    if plan.whole:
        return ops.broadcast_to(value, x.shape)
    return ops.update_slice(x, value, plan.bounds)


def _masked(x: Tensor, key: Any, value: Tensor) -> Tensor | None:
    """``x`` with ``value`` where a mask holds, if the key is one mask and the value is the same at all of its
    places: then their number, which depends on the mask, does not matter. Else None.
    """
    given = key if type(key) is tuple else (key,)
    if not any(isinstance(i, (TensorData, np.ndarray, list)) for i in given):
        return None
    items = [item for item in items_of(x.spec, key) if item is not Ellipsis]
    others = [i for i, item in enumerate(items) if not (type(item) is slice and item == ALL)]
    if len(others) != 1 or not is_mask(items[others[0]]) or not items[others[0]].ndim:
        return None
    axis, mask = others[0], items[others[0]]
    rest = x.shape[axis + mask.ndim :]
    if value.ndim > len(rest):
        return None
    check_mask(mask, axis, x.shape)
    value = _trimmed(value, rest)
    holds: Tensor = asarray(mask, device=x.device) if isinstance(mask, np.ndarray) else mask
    covering = ops.reshape(holds, (*(1,) * axis, *holds.shape, *(1,) * len(rest)))
    return ops.where(covering, value, x)


def contains(x: Tensor, value: Any) -> bool:
    """Whether an element of ``x`` equals ``value``, as ``value in x`` asks."""
    if not isinstance(value, (TensorData, bool, int, float)):
        value = asarray(value, dtype=x.dtype, device=x.device)
    return bool(ops.any(ops.equal(x, value)))


__all__ = ["contains", "getitem", "setitem"]
