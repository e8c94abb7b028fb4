"""What operands are brought to before an op runs: one device, promoted dtypes, the device's own forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad import dtypes
from plugrad.backend import backend_of
from plugrad.dispatch.data import wrap
from plugrad.dispatch.modes import local
from plugrad.dispatch.statement import Autocast, Kind, register
from plugrad.dtypes import DType, bfloat16, float16, float32, iinfo, promote, promote_scalar
from plugrad.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from plugrad.spec import Device, Spec, Tracked, broadcast_shapes

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.modes import Modes
    from plugrad.dispatch.op import Op

Run = Callable[..., Any]


def spec_of(key: Any) -> Any:
    """The spec in what stands for an operand in a signature; a scalar's type and None stay as they are."""
    if isinstance(key, tuple):
        return tuple(k.spec for k in key)
    return key.spec if isinstance(key, (Spec, Tracked)) else key


def flat(specs: Sequence[Any]) -> list[Spec]:
    """The specs in ``specs``, sequences taken apart, what is no spec left out."""
    return [s for x in specs for s in (x if isinstance(x, tuple) else (x,)) if isinstance(s, Spec)]


def device_of(op: Op[..., Any], keys: Sequence[Any], attributes: dict[str, Any]) -> Device:
    """The one device of the operands, or the one that the attribute names where there are none."""
    devices = {s.device: None for s in flat([spec_of(k) for k in keys])}
    if len(devices) > 1:
        raise DeviceError(
            f"{op.name}: the operands are on {' and '.join(map(str, devices))}; move them to one device with .to(device)"
        )
    if devices:
        return next(iter(devices))
    if "device" not in op.attributes:
        if any(isinstance(k, type) for k in keys):
            raise DTypeError(
                f"{op.name}: at least one operand must be a tensor; wrap a number with plugrad.asarray"
            )
        raise ShapeError(f"{op.name}: takes at least one tensor, got an empty sequence")
    given: Device = attributes["device"]
    return given


def promotion(op: Op[..., Any], specs: Sequence[Any], modes: Modes) -> list[Any]:
    """The dtype that each operand is brought to; None for an absent one, a tuple for a sequence."""
    group = [s for o, s in zip(op.operands, specs, strict=True) if o.name in op.promoted and s is not None]
    common: DType | None = None
    tensors = [s.dtype for s in flat(group)]
    if tensors:
        try:
            common = promote(*tensors)
        except DTypeError as error:
            raise DTypeError(f"{op.name}: {error}") from None
        for s in group:
            if isinstance(s, type):
                common = promote_scalar(common, s)
    elif group:
        common = promote(*(d for d in (_SCALAR[s] for s in group)))

    def target(name: str, spec: Any) -> Any:
        if spec is None:
            return None
        if isinstance(spec, tuple):
            return tuple(target(name, s) for s in spec)
        own = common if name in op.promoted else (spec.dtype if isinstance(spec, Spec) else _SCALAR[spec])
        assert own is not None
        if modes.autocast is not None and own in (float16, bfloat16, float32):
            if op.autocast is Autocast.LOW:
                return modes.autocast
            if op.autocast is Autocast.FULL:
                return float32
        return own

    return [target(o.name, s) for o, s in zip(op.operands, specs, strict=True)]


_SCALAR: Final[dict[type, DType]] = {bool: dtypes.bool, int: dtypes.int64, float: float32}


def converted(
    op: Op[..., Any],
    specs: Sequence[Any],
    targets: Sequence[Any],
    attributes: dict[str, Any],
    backend: Backend,
    device: Device,
) -> Run | None:
    """A runner that brings operands to their dtypes and applies the op again, or None if none needs it.

    The conversions are ops themselves, so that they are recorded, differentiated and captured like any other.
    """
    can = backend.capabilities(device)
    needs_tensors = not can.scalars or op.kind is not Kind.ELEMENTWISE or op.transparent
    shape = None
    if op.kind is Kind.ELEMENTWISE and not can.broadcasting:
        shape = broadcast_shapes(
            op.name, [() if isinstance(s, type) else s.shape for s in specs if s is not None]
        )

    def conversion(spec: Any, target: Any) -> Callable[[Any], Any] | None:
        if spec is None:
            return None
        if isinstance(spec, tuple):
            each = [conversion(s, t) for s, t in zip(spec, target, strict=True)]
            if not any(each):
                return None
            return lambda xs: [x if c is None else c(x) for x, c in zip(xs, each, strict=True)]
        steps: list[Callable[[Any], Any]] = []
        if isinstance(spec, type):
            if needs_tensors:
                steps.append(lambda v: scalar_tensor(v, target, device, op.name))
        elif spec.dtype is not target:
            steps.append(lambda x: register["astype"](x, target))
        if (
            shape is not None
            and (steps or not isinstance(spec, type))
            and shape != getattr(spec, "shape", ())
        ):
            steps.append(lambda x: register["broadcast_to"](x, shape))
        if not steps:
            return None

        def convert(x: Any) -> Any:
            for step in steps:
                x = step(x)
            return x

        return convert

    conversions = [conversion(s, t) for s, t in zip(specs, targets, strict=True)]
    if not any(conversions):
        return None

    names = tuple(o.name for o in op.operands)
    together = op.positional[: len(names)] == names

    def run(*operands: Any) -> Any:
        given = [x if c is None else c(x) for x, c in zip(operands, conversions, strict=True)]
        if together:
            return op(*given, **attributes)
        return op(**dict(zip(names, given, strict=True)), **attributes)

    return run


def scalar_tensor(value: Any, dtype: DType, device: Device, name: str) -> Any:
    """A Python scalar as a 0-d tensor.

    Raises:
        ArgumentError: for an int outside the range of an integer dtype.
    """
    check_scalar(name, value, dtype)
    if local.modes.capturing:
        return register["full"](shape=(), fill_value=value, dtype=dtype, device=device)
    array = backend_of(device).from_host(np.asarray(value, dtype.numpy), device)
    return wrap(array, Spec((), dtype, device))


def check_scalar(name: str, value: Any, dtype: DType) -> None:
    """Raise if an integer dtype does not hold the Python int ``value``."""
    if dtype.is_integer and not isinstance(value, float):
        info = iinfo(dtype)
        if not info.min <= value <= info.max:
            raise ArgumentError(f"{name}: {value} is outside the range of {dtype}, {info.min} to {info.max}")


def checking_scalars(run: Run, op: Op[..., Any], keys: Sequence[Any], specs: Sequence[Any]) -> Run:
    """``run`` with a look at each int that goes to an integer dtype: a signature holds its type, not its value."""
    checks = [
        (i, s.dtype)
        for i, (k, s) in enumerate(zip(keys, specs, strict=True))
        if k is int and s.dtype.is_integer
    ]
    if not checks:
        return run

    def run_checked(*operands: Any) -> Any:
        for i, dtype in checks:
            check_scalar(op.name, operands[i], dtype)
        return run(*operands)

    return run_checked


def check_dtypes(op: Op[..., Any], specs: Sequence[Any], backend: Backend, device: Device) -> None:
    """Raise if the op or the device does not take the dtype of an operand."""
    supported = backend.capabilities(device).dtypes
    for operand, spec in zip(op.operands, specs, strict=True):
        for s in flat([spec]):
            if s.dtype not in op.dtypes[operand.name]:
                takes = ", ".join(d.name for d in op.dtypes[operand.name])
                raise DTypeError(
                    f"{op.name}: {operand.name} is {s.dtype}; takes {takes}; cast it with astype"
                )
            if s.dtype not in supported:
                raise DTypeError(
                    f"{op.name}: device {device} has no {s.dtype}; cast {operand.name} with astype"
                )


def check_results(op: Op[..., Any], results: Sequence[Spec], backend: Backend, device: Device) -> None:
    """Raise if the device does not have the dtype of a result."""
    supported = backend.capabilities(device).dtypes
    for spec in results:
        if spec.dtype not in supported:
            raise DTypeError(f"{op.name}: device {device} has no {spec.dtype}, which the result has")
