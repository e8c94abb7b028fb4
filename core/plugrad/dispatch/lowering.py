"""What computes an op's arrays on a device: a kernel, the op's body, or the fallback that a user switched on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from plugrad.backend import get_backend
from plugrad.dispatch.conversion import flat, scalar_tensor
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import Modes, changed
from plugrad.dispatch.observer import Source
from plugrad.errors import PlugradError, UnsupportedOp
from plugrad.spec import Device, Spec

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.op import Op
    from plugrad.dtypes import DType

Run = Callable[..., Any]

MakeOfBody = Callable[["Op[..., Any]", Sequence[Any], dict[str, Any], Any, "Backend", Modes], Run]
"""From an op, the specs of its operands, its attributes, the specs of its results in their structure, the backend and the
modes, what computes arrays from arrays as the body does. Raises `PlugradError` for a body that it cannot take."""


class _Bodies:
    """What makes kernels of bodies where a device generates them: `plugrad.graph.bodies`, once it is there."""

    make: MakeOfBody | None = None


bodies: Final = _Bodies()

fallbacks: Final[Counter[str]] = Counter()
"""How often each op ran on the device that `plugrad.fallback` names, by op."""


def with_modes(attributes: dict[str, Any], modes: Modes) -> dict[str, Any]:
    """The attributes as a kernel's ``when`` sees them: with the modes that kernels are chosen by."""
    return {**attributes, "matmul_precision": modes.matmul_precision}


def find_kernel(
    op: Op[..., Any],
    specs: Sequence[Any],
    attributes: dict[str, Any],
    backend: Backend,
    device: Device,
    modes: Modes,
    results: tuple[Spec, ...],
) -> Callable[..., Any]:
    """What computes arrays from arrays: the backend's kernel, the body, or what the user switched on."""
    run: Run | None = own_kernel(op, specs, attributes, backend, device, modes)
    if run is None and op.body is not None:
        form = results[0] if len(results) == 1 else results
        run = generated_body(op, specs, attributes, form, backend, device, modes)
        run = run or _body_kernel(op, specs, results)
        run = observed(op, Source.BODY, run, specs, attributes, device, modes)
    elif run is None and modes.fallback is not None and modes.fallback != device:
        run = _fallback_kernel(op, specs, attributes, backend, device, modes)
        run = observed(op, Source.FALLBACK, run, specs, attributes, device, modes)
    if run is not None:
        return run
    raise UnsupportedOp(
        f"{op.name}: device {device} has no kernel for {', '.join(map(str, flat(specs)))}, and {op.name} is a "
        "primitive, without a body; plugrad.fallback(device) runs such ops on another device"
    )


def own_kernel(
    op: Op[..., Any],
    specs: Sequence[Any],
    attributes: dict[str, Any],
    backend: Backend,
    device: Device,
    modes: Modes,
) -> Any:
    """The backend's own kernel, or None."""
    found = backend.kernels.find(op, specs, with_modes(attributes, modes))
    if found is None:
        return None
    return observed(op, Source.KERNEL, found.function, specs, attributes, device, modes)


def observed(
    op: Op[..., Any],
    source: Source,
    run: Callable[..., Any] | None,
    specs: Sequence[Any],
    attributes: dict[str, Any],
    device: Device,
    modes: Modes,
) -> Any:
    """What computes the op, once the observer, if there is one, was told."""
    if modes.observer is None:
        return run
    return modes.observer.settled(op, source, run, specs, attributes, device)


def generated_body(
    op: Op[..., Any],
    specs: Sequence[Any],
    attributes: dict[str, Any],
    results: Any,
    backend: Backend,
    device: Device,
    modes: Modes,
) -> Run | None:
    """The body as generated kernels, where the device has them; None where it runs op by op.

    It does under a fallback, which single ops are counted by, and where the body is none that can be captured.
    """
    if bodies.make is None or not backend.capabilities(device).generating or modes.fallback is not None:
        return None
    try:
        return bodies.make(op, specs, attributes, results, backend, modes)
    except PlugradError:
        return None


def _body_kernel(op: Op[..., Any], specs: Sequence[Any], results: tuple[Spec, ...]) -> Callable[..., Any]:
    def as_tensor(array: Any, spec: Any) -> Any:
        if isinstance(spec, tuple):
            return [wrap(a, s) for a, s in zip(array, spec, strict=True)]
        if isinstance(array, (bool, int, float)):
            return scalar_tensor(array, spec.dtype, spec.device, op.name)
        return None if spec is None else wrap(array, spec)

    def kernel(*arrays: Any, **attributes: Any) -> Any:
        with changed(recording=False, anomaly=False, autocast=None):
            out = apply_body(op, [as_tensor(a, s) for a, s in zip(arrays, specs, strict=True)], attributes)
        several = flatten(out) if isinstance(out, (tuple, list)) else [out]
        for tensor, spec in zip(several, results, strict=True):
            if tensor._key is not spec:
                raise PlugradError(
                    f"{op.name}: its body gives {tensor.spec!r}, its rule {spec!r}: the op is stated wrongly"
                )
        return several[0]._array if len(several) == 1 else tuple(t._array for t in several)

    return kernel


def apply_body(op: Op[..., Any], operands: Sequence[Any], attributes: dict[str, Any]) -> Any:
    """Run the body of an op on tensors, its parameters given as they were stated."""
    assert op.body is not None
    positional = dict(zip((o.name for o in op.operands), operands, strict=True))
    args = [positional.pop(n) if n in positional else attributes[n] for n in op.positional]
    rest = {k: v for k, v in attributes.items() if k not in op.positional}
    return op.body(*args, **positional, **rest)


def inlined(op: Op[..., Any], attributes: dict[str, Any]) -> Run:
    """A runner that runs the body in the caller's place."""
    body, count = op.body, len(op.operands)
    assert body is not None
    if op.positional[:count] != tuple(o.name for o in op.operands):
        return lambda *operands: apply_body(op, operands, attributes)
    args = tuple(attributes[n] for n in op.positional[count:])
    rest = {k: v for k, v in attributes.items() if k not in op.positional}
    return lambda *operands: body(*operands, *args, **rest)


def flatten(values: Any) -> list[Any]:
    """The results in nested lists and tuples, in order."""
    return [v for x in values for v in (flatten(x) if isinstance(x, (tuple, list)) else [x])]


def _fallback_kernel(
    op: Op[..., Any],
    specs: Sequence[Any],
    attributes: dict[str, Any],
    backend: Backend,
    device: Device,
    modes: Modes,
) -> Callable[..., Any]:
    target = modes.fallback
    assert target is not None
    other = get_backend(target.name)

    def moved(spec: Any) -> Any:
        if isinstance(spec, tuple):
            return tuple(moved(s) for s in spec)
        return spec if spec is None else Spec(spec.shape, spec.dtype, target)

    there = {k: target if isinstance(v, Device) else v for k, v in attributes.items()}
    unobserved = replace(modes, observer=None)
    kernel = find_kernel(op, [moved(s) for s in specs], there, other, target, unobserved, ())

    def move(value: Any) -> Any:
        if isinstance(value, list):
            return [move(v) for v in value]
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return other.from_host(backend.to_host(value), target)

    def run(*arrays: Any, **_: Any) -> Any:
        fallbacks[op.name] += 1
        out = kernel(*(move(a) for a in arrays), **there)
        if isinstance(out, tuple):
            return tuple(backend.from_host(other.to_host(o), device) for o in out)
        return backend.from_host(other.to_host(out), device)

    return run


def data_dependent(
    op: Op[..., Any],
    specs: Sequence[Any],
    attributes: dict[str, Any],
    backend: Backend,
    device: Device,
    modes: Modes,
    dtypes: Sequence[DType],
) -> Run:
    """A runner that reads the shapes of the results, which depend on the values, from the results."""
    kernel = own_kernel(op, specs, attributes, backend, device, modes)
    if kernel is None:
        if op.body is not None:
            observed(op, Source.BODY, None, specs, attributes, device, modes)
            return lambda *operands: apply_body(op, operands, attributes)
        raise UnsupportedOp(
            f"{op.name}: device {device} has no kernel for it, and the shape of its result depends on the values; "
            "move the tensor to another device with .to(device)"
        )

    def run(*operands: Any) -> Any:
        out = kernel(*(x._array if isinstance(x, TensorData) else x for x in operands), **attributes)
        arrays = out if len(dtypes) > 1 else (out,)
        tensors = tuple(
            wrap(a, Spec(backend.shape(a), d, device)) for a, d in zip(arrays, dtypes, strict=True)
        )
        return tensors if len(dtypes) > 1 else tensors[0]

    return run
