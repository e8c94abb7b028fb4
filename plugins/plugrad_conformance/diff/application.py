"""`Application`: one application of an op with its inputs on the host, and how any device computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from plugrad.backend import backend_of, use_device
from plugrad.backend.interface import Backend, Capabilities
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.lowering import apply_body, find_kernel, flatten, own_kernel
from plugrad.dispatch.modes import changed, local
from plugrad.dispatch.observer import Observer, Source
from plugrad.dispatch.op import Op
from plugrad.dispatch.statement import Kind, register
from plugrad.dtypes import DType, as_dtype, finfo
from plugrad.errors import DTypeError
from plugrad.spec import Device, Spec, broadcast_shapes

Host = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Number:
    """An operand that is a Python number, and the dtype that it counts as."""

    value: bool | int | float
    dtype: DType

    def array(self) -> Host:
        """It as a 0-d array."""
        return np.asarray(self.value, self.dtype.numpy)


@dataclass(frozen=True, slots=True)
class Application:
    """One application of an op, on no device.

    Attributes:
        op: the op, or that of a rule.
        inputs: for each operand its elements, a `Number`, None for an absent one, or a tuple of arrays for a
            sequence of tensors.
        attributes: the static attributes, normalised. A device among them, or that of a spec, stands for whichever
            device computes the application.
        precision: the mode ``matmul_precision``.
        dtypes: for a rule, those of its results, in order: the core casts what its body gives; else None.
    """

    op: Op[..., Any]
    inputs: tuple[Any, ...]
    attributes: Mapping[str, Any]
    precision: str
    dtypes: tuple[DType | None, ...] | None = None

    @classmethod
    def of(
        cls,
        op: Op[..., Any],
        arrays: Sequence[Any],
        specs: Sequence[Any],
        attributes: Mapping[str, Any],
        backend: Backend,
        dtypes: tuple[DType | None, ...] | None = None,
    ) -> Application:
        """What a kernel of ``backend`` is given, copied to the host."""

        def host(value: Any, spec: Any) -> Any:
            if value is None:
                return None
            if isinstance(spec, tuple):
                return tuple(host(v, s) for v, s in zip(value, spec, strict=True))
            if isinstance(value, (bool, int, float)):
                return Number(value, spec.dtype)
            return np.array(backend.to_host(value))

        inputs = tuple(host(a, s) for a, s in zip(arrays, specs, strict=True))
        return cls(op, inputs, dict(attributes), local.modes.matmul_precision, dtypes)

    @property
    def arrays(self) -> list[Host]:
        """The arrays among the inputs, those of sequences included."""
        return [
            a for i in self.inputs for a in (i if isinstance(i, tuple) else (i,)) if isinstance(a, np.ndarray)
        ]

    def nudged(self, rng: np.random.Generator) -> Application:
        """This application to its floating inputs, each element moved by a rounding, up or down at random."""

        def nudge(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(nudge, value))
            if not isinstance(value, np.ndarray) or not as_dtype(value.dtype).is_floating:
                return value
            step = rng.choice([-1.0, 1.0], value.shape) * finfo(as_dtype(value.dtype)).eps
            with np.errstate(all="ignore"):
                return (value.astype(np.float64) * (1 + step)).astype(value.dtype)

        return replace(self, inputs=tuple(map(nudge, self.inputs)))


@dataclass(frozen=True, slots=True)
class Computed:
    """What a device gives for an application: its results in order, None where it gives none, and by what."""

    results: tuple[Host | None, ...]
    source: Source


def body_of(
    op: Op[..., Any], specs: Sequence[Any], dtypes: Sequence[DType | None] | None = None
) -> Callable[..., Any]:
    """What computes an op or a rule by its body, called as a kernel is; ``dtypes`` as those of `Application`."""

    def tensor(value: Any, spec: Any) -> Any:
        if value is None:
            return None
        if isinstance(spec, tuple):
            return [wrap(v, s) for v, s in zip(value, spec, strict=True)]
        if isinstance(value, (bool, int, float)):
            value = backend_of(spec.device).from_host(np.asarray(value, spec.dtype.numpy), spec.device)
        return wrap(value, spec)

    def array(value: Any, wanted: Iterator[DType | None]) -> Any:
        if isinstance(value, (tuple, list)):
            return tuple([array(v, wanted) for v in value])
        dtype = next(wanted, None)
        if dtype is not None and value is not None and value.spec.dtype is not dtype:
            value = register["astype"](value, dtype)
        return value._array if isinstance(value, TensorData) else value

    def run(*arrays: Any, **attributes: Any) -> Any:
        operands = [tensor(a, s) for a, s in zip(arrays, specs, strict=True)]
        with changed(recording=False, anomaly=False, autocast=None):
            return array(apply_body(op, operands, attributes), iter(dtypes or ()))

    return run


def on_host(results: Any, backend: Backend) -> tuple[Host | None, ...]:
    """Copies of the arrays that a kernel of ``backend`` gives, in order."""
    several = flatten(results) if isinstance(results, (tuple, list)) else [results]
    return tuple(None if r is None else np.array(backend.to_host(r)) for r in several)


def compute(application: Application, device: Device, observer: Observer | None = None) -> Computed:
    """Have a device compute an application: by its kernel, or, where it has none, by the op's body.

    Args:
        application: the application.
        device: the device.
        observer: who is told of the ops that the body is made of.

    Raises:
        DTypeError: if the device lacks a dtype.
        UnsupportedOp: if it has no kernel, and the op no body.
        Exception: whatever a kernel raises.
    """
    op, backend = application.op, backend_of(device)
    can = backend.capabilities(device)
    attributes = {k: _placed(v, device) for k, v in application.attributes.items()}
    inputs = _taken(application, can)
    specs: list[Any] = [_spec(i, device) for i in inputs]
    for dtype in (s.dtype for given in specs for s in (given if isinstance(given, tuple) else (given,)) if s):
        if dtype not in can.dtypes:
            raise DTypeError(f"{op.name}: device {device} has no {dtype}")

    def array(value: Any) -> Any:
        if isinstance(value, tuple):
            return [array(v) for v in value]
        if isinstance(value, np.ndarray):
            return backend.from_host(value, device)
        return value.value if isinstance(value, Number) else value

    modes = {"recording": False, "anomaly": False, "autocast": None, "fallback": None, "observer": None}
    with use_device(device), changed(**modes, matmul_precision=application.precision):
        run = own_kernel(op, specs, attributes, backend, device, local.modes)
        source = Source.BODY if run is None else Source.KERNEL
        if run is None:
            # A primitive has neither: the core's own error says so.
            run = (
                find_kernel(op, specs, attributes, backend, device, local.modes, ())
                if op.primitive
                else body_of(op, specs, application.dtypes)
            )
        watched = changed(observer=observer) if source is Source.BODY else nullcontext()
        with watched:
            results = run(*map(array, inputs), **attributes)
        return Computed(on_host(results, backend), source)


def _placed(value: Any, device: Device) -> Any:
    """An attribute with ``device`` in the place of whatever device it names."""
    if isinstance(value, Device):
        return device
    if isinstance(value, Spec):
        return Spec(value.shape, value.dtype, device)
    return tuple(_placed(v, device) for v in value) if isinstance(value, tuple) else value


def _taken(application: Application, can: Capabilities) -> tuple[Any, ...]:
    """The inputs in the form that the device's kernels take: as the core would have brought them to it."""
    if application.op.kind is not Kind.ELEMENTWISE or (can.broadcasting and can.scalars):
        return application.inputs
    shape = broadcast_shapes(application.op.name, [a.shape for a in application.arrays])

    def taken(value: Any) -> Any:
        if isinstance(value, Number):
            if can.scalars:
                return value
            value = value.array()
        if value is None or can.broadcasting:
            return value
        return np.broadcast_to(value, shape)

    return tuple(map(taken, application.inputs))


def _spec(value: Any, device: Device) -> Any:
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(_spec(v, device) for v in value)
    if isinstance(value, Number):
        return Spec((), value.dtype, device)
    return Spec(value.shape, as_dtype(value.dtype), device)


__all__ = ["Application", "Computed", "Host", "Number", "body_of", "compute", "on_host"]
