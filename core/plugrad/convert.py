"""Values between Python, the host's NumPy arrays and devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.backend import backend_of, resolve_device
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import local
from plugrad.dispatch.record import Function
from plugrad.dispatch.statement import register
from plugrad.dispatch.tracing import made_of_host, refuse
from plugrad.dtypes import DType, as_dtype, float32, iinfo, int64, promote, promote_scalar
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from plugrad.spec import Device, Spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        obj: a tensor, a NumPy array or scalar, a Python number, an object with a buffer, ``__array__`` or
            ``__dlpack__``, or nested sequences of numbers, arrays and tensors, all of one shape. Gradients flow
            to tensors in sequences.
        dtype: by default that of ``obj``. Python floats give float32 and ints int64. Floats go to integers by
            truncation.
        device: by default that of a tensor, else the current device.
        copy: True gives a tensor of its own; without it a tensor that needs no change is returned as it is. False
            raises where memory would be copied. Memory of the host always is.

    Raises:
        DTypeError: if the elements have no dtype of plugrad.
        ShapeError: if nested sequences are ragged.
        ArgumentError: if ``copy`` is False and a copy is needed, or a number has no value in the dtype.
    """
    target = None if dtype is None else as_dtype(dtype)
    if isinstance(obj, TensorData):
        return _of_tensor(obj, target, obj.spec.device if device is None else resolve_device(device), copy)
    if copy is False:
        raise ArgumentError("asarray: copy=False, but values of the host are always copied to a device")
    kinds = _kinds(obj)
    if any(issubclass(k, TensorData) for k in kinds):
        return _stacked(obj, target, None if device is None else resolve_device(device))
    where = resolve_device(device)
    if hasattr(obj, "__dlpack__") and not hasattr(obj, "__array__"):
        return _of_tensor(from_dlpack(obj, device=where, copy=True), target, where, None)
    host = _host(obj, kinds, target)
    own = as_dtype(host.dtype)
    backend = backend_of(where)
    if own not in backend.capabilities(where).dtypes:
        raise DTypeError(f"asarray: device {where} has no {own}; pass another dtype")
    return made_of_host(backend.from_host(host, where), Spec(host.shape, own, where))


def _of_tensor(x: Any, target: DType | None, device: Device, copy: bool | None) -> Tensor:
    moved = to_device(x, device)
    out: Tensor = moved if target in (None, moved.dtype) else register["astype"](moved, target)
    if out is x:
        return x.clone() if copy else x
    if copy is False:
        raise ArgumentError("asarray: copy=False, but another dtype or device needs a copy")
    return out


def _kinds(obj: Any) -> set[type]:
    """The types of what nested sequences hold, or of ``obj`` itself."""
    if not isinstance(obj, (list, tuple)):
        return {type(obj)}
    kinds = set(map(type, obj))
    if not any(issubclass(k, (list, tuple)) for k in kinds):
        return kinds
    return set().union(*map(_kinds, obj))


def _leaves(obj: Any) -> Iterator[Any]:
    """What nested sequences hold, in order."""
    if isinstance(obj, (list, tuple)):
        for value in obj:
            yield from _leaves(value)
    else:
        yield obj


def _stacked(obj: Any, target: DType | None, device: Device | None) -> Tensor:
    """Nested sequences with tensors in them, as one tensor."""
    leaves = list(_leaves(obj))
    tensors = [x for x in leaves if isinstance(x, TensorData)]
    if target is None:
        typed = [as_dtype(x.dtype) for x in leaves if hasattr(x, "dtype")]
        target = promote(*typed)
        for number in leaves:
            if isinstance(number, (bool, int, float)) and not isinstance(number, np.generic):
                target = promote_scalar(target, type(number))
    where = tensors[0].spec.device if device is None else device

    return _built(obj, target, where)  # type: ignore[no-any-return]


def _built(value: Any, dtype: DType, device: Any) -> Any:
    """Nested sequences with tensors inside, stacked level by level."""
    if not isinstance(value, (list, tuple)):
        return asarray(value, dtype=dtype, device=device)
    if not value:
        return asarray([], dtype=dtype, device=device)
    parts = [_built(v, dtype, device) for v in value]
    if any(p.shape != parts[0].shape for p in parts):
        raise ShapeError(_RAGGED)
    return register["stack"](parts)


_RAGGED: Final = "asarray: the nested sequences are ragged: all of one level must have one length"


def _host(obj: Any, kinds: set[type], target: DType | None) -> np.ndarray[Any, Any]:
    """``obj`` as an array of the host, in ``target`` or the dtype that follows."""
    if isinstance(obj, np.ma.MaskedArray):
        raise DTypeError("asarray: a masked array would lose its mask; fill it first")
    try:
        host = np.asarray(obj)
    except ValueError:
        raise ShapeError(_RAGGED) from None
    python = kinds <= _PYTHON
    integers = python and float not in kinds and bool(kinds)
    if (host.dtype == object and python) or (integers and host.dtype.kind not in "biu"):
        # NumPy takes ints that need both uint64 and int64 for floats.
        exact = np.asarray(obj, object)
        if target is None or target.name != "uint64" or exact.min() < 0 or exact.max() >= 2**64:
            raise ArgumentError("asarray: ints lie outside the range of 64 bits; uint64 takes 0 to 2**64 - 1")
        host = exact.astype(np.uint64)
    if host.dtype == object:
        raise DTypeError(f"asarray: {type(obj).__name__} holds objects that are no numbers")
    own = as_dtype(host.dtype)
    if target is None:
        target = own if not python or own.name == "bool" else float32 if own.is_floating else int64
    if target.is_integer and own.name != "bool":
        _check_range(host, own, target)
    if host.dtype == target.numpy:
        return host
    with np.errstate(over="ignore", invalid="ignore"):
        return host.astype(target.numpy)


_PYTHON: Final = frozenset((bool, int, float))


def _check_range(host: np.ndarray[Any, Any], own: DType, target: DType) -> None:
    if own.is_floating and not np.isfinite(host).all():
        raise ArgumentError(f"asarray: NaN and infinities have no value in {target}")
    if not host.size:
        return
    info = iinfo(target)
    # As Python numbers, which compare exactly. A float is truncated.
    low, high = host.min().item(), host.max().item()
    if not (low > info.min - 1 and high < info.max + 1):
        raise ArgumentError(
            f"asarray: values lie outside the range of {target}, {info.min} to {info.max}: {low} to {high}"
        )


def to_host(x: TensorData, name: str = "") -> np.ndarray[Any, Any]:
    """The values of ``x`` as an array of the host that cannot be written to; ``name`` is what asks, for errors."""
    refuse(
        f"the value of a tensor is read{name and ', by ' + name + '()'}",
        "use where or a mask in the place of a branch, or return it and read it after the call",
    )
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
    return to_host(x, name).item()


def to_device(x: Any, device: Device) -> Tensor:
    """``x`` on ``device``, itself if it is there; gradients go back to where it was."""
    spec: Spec = x.spec
    if spec.device is device:
        return x  # type: ignore[no-any-return]
    refuse(
        f"a tensor moves to {device}", "a captured function stays on one device: move its arguments before"
    )
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

    Args:
        x: the object. Whoever owns its memory must not write to it while the tensor lives, as a tensor's value is
            immutable.
        device: by default that of a tensor, else the current device.
        copy: True makes a tensor independent of the memory; False and None share it.

    Raises:
        DTypeError: if the object has no ``__dlpack__``, or its elements no dtype of plugrad.
        DeviceError: if the memory is not one that the device can use.
    """
    if not hasattr(x, "__dlpack__"):
        raise DTypeError(f"from_dlpack: takes an object with __dlpack__, got {type(x).__name__}")
    where = x.spec.device if device is None and isinstance(x, TensorData) else resolve_device(device)
    array, shape, dtype = backend_of(where).from_dlpack(x, where, copy)
    return made_of_host(array, Spec(shape, dtype, where))


__all__ = ["asarray", "from_dlpack", "scalar_of", "to_device", "to_host"]
