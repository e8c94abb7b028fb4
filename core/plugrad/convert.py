"""Values between Python, the host's NumPy arrays and devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.backend import backend_of, resolve_device
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import local
from plugrad.dispatch.record import Function
from plugrad.dispatch.statement import register
from plugrad.dtypes import DType, as_dtype, float32
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from plugrad.spec import Device, Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugrad.tensor import Tensor


def asarray(
    obj: Any,
    /,
    *,
    dtype: DType | str | None = None,
    device: Device | str | None = None,
    copy: bool | None = None,
) -> Tensor:
    """A tensor of ``obj`` (array API `asarray`).

    Args:
        obj: a tensor, a NumPy array or scalar, a Python number, or nested sequences of these, all of one shape.
        dtype: by default that of ``obj``. Python floats give float32 and ints int64.
        device: by default that of a tensor, else the current device.
        copy: None and True may be left out, as values are immutable; False raises where memory would
            be copied.

    Raises:
        DTypeError: if the elements have no dtype of plugrad.
        ShapeError: if nested sequences are ragged.
        ArgumentError: if ``copy`` is False and a copy is needed.
    """
    target = None if dtype is None else as_dtype(dtype)
    if isinstance(obj, TensorData):
        where = obj.spec.device if device is None else resolve_device(device)
        moved = to_device(obj, where)
        if target is not None and target is not moved.dtype:
            moved = register["astype"](moved, target)
        if copy is False and moved is not obj:
            raise ArgumentError("asarray: copy=False, but another dtype or device needs a copy")
        return moved
    if copy is False:
        raise ArgumentError("asarray: copy=False, but values of the host are always copied to a device")
    host = _host(obj, target)
    where = resolve_device(device)
    own = as_dtype(host.dtype)
    backend = backend_of(where)
    if own not in backend.capabilities(where).dtypes:
        raise DTypeError(f"asarray: device {where} has no {own}; pass another dtype")
    return wrap(backend.from_host(host, where), Spec(host.shape, own, where))


def _host(obj: Any, target: DType | None) -> np.ndarray[Any, Any]:
    """``obj`` as an array of the host, in ``target`` or the dtype that follows."""
    plain = not isinstance(obj, (np.ndarray, np.generic))
    if plain and isinstance(obj, (list, tuple)):
        obj = _nested(obj)
    try:
        host = np.asarray(obj)
    except ValueError:
        raise ShapeError(
            "asarray: the nested sequences are ragged: all of one level must have one length"
        ) from None
    if host.dtype == object:
        raise DTypeError(f"asarray: {type(obj).__name__} holds objects that are no numbers")
    if target is None:
        if plain and host.dtype == np.float64 and _python_floats(obj):
            target = float32
        else:
            target = as_dtype(host.dtype)
    if target.is_integer and host.dtype.kind == "f" and not np.isfinite(host).all():
        raise ArgumentError(f"asarray: NaN and infinities have no value in {target}")
    if target.is_integer and host.dtype.kind in "iu" and host.size:
        info = np.iinfo(target.numpy)
        if host.min() < info.min or host.max() > info.max:
            raise ArgumentError(
                f"asarray: values lie outside the range of {target}, {info.min} to {info.max}"
            )
    return host.astype(target.numpy, copy=False)


def _nested(obj: Any) -> Any:
    """Nested sequences with their tensors brought to the host."""
    if isinstance(obj, TensorData):
        return to_host(obj)
    return [_nested(o) for o in obj] if isinstance(obj, (list, tuple)) else obj


def _python_floats(obj: Any) -> bool:
    """Whether the innermost elements are Python's own numbers, whose dtype is the default one."""
    while isinstance(obj, (list, tuple)):
        if not obj:
            return True
        kept = [o for o in obj if isinstance(o, (list, tuple, np.ndarray, np.generic))]
        if any(isinstance(o, (np.ndarray, np.generic)) for o in kept):
            return False
        obj = kept[0] if kept else obj[0]
    return not isinstance(obj, (np.ndarray, np.generic))


def to_host(x: TensorData) -> np.ndarray[Any, Any]:
    """The values of ``x`` as an array of the host that cannot be written to."""
    host = np.asarray(backend_of(x.spec.device).to_host(x._array)).view()
    host.flags.writeable = False
    return host


def scalar_of(x: TensorData, name: str) -> Any:
    """The value of a tensor of one element.

    Raises:
        ShapeError: if it has another number of elements.
    """
    if x.spec.size != 1:
        raise ShapeError(f"{name}: takes a tensor of one element, got shape {x.spec.shape}")
    return to_host(x).item()


def to_device(x: Any, device: Device) -> Tensor:
    """``x`` on ``device``, itself if it is there; gradients go back to where it was."""
    spec: Spec = x.spec
    if spec.device is device:
        return x  # type: ignore[no-any-return]
    source, target = backend_of(spec.device), backend_of(device)
    if spec.dtype not in target.capabilities(device).dtypes:
        raise DTypeError(f"to: device {device} has no {spec.dtype}; cast it with astype first")
    if source is target and source.capabilities(device).copy:
        array = source.copy_from(x._array, spec.device, device)
    else:
        array = target.from_host(source.to_host(x._array), device)
    moved = Spec(spec.shape, spec.dtype, device)
    if x._node is None or not local.modes.recording:
        return wrap(array, moved)

    def back(cts: Sequence[Tensor], create: bool) -> list[Tensor]:
        del create
        return [to_device(cts[0], spec.device)]

    return wrap(array, moved, Function("to", (x._node,), (moved,), back))


def from_dlpack(x: Any, /, *, device: Device | str | None = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of an object with ``__dlpack__`` (array API `from_dlpack`).

    Whoever owns the memory must not write to it while the tensor lives, as a tensor's value is immutable;
    ``copy=True`` makes one independent of it.

    Raises:
        DTypeError: if the object has no ``__dlpack__``.
    """
    if not hasattr(x, "__dlpack__"):
        raise DTypeError(f"from_dlpack: takes an object with __dlpack__, got {type(x).__name__}")
    where = resolve_device(device)
    array, shape, dtype = backend_of(where).from_dlpack(x, where, copy)
    return wrap(array, Spec(shape, dtype, where))


__all__ = ["asarray", "from_dlpack", "scalar_of", "to_device", "to_host"]
