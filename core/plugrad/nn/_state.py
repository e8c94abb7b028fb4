"""What modules do with their tensors: take over the values of a state dict, and move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plugrad.backend import resolve_device
from plugrad.convert import asarray
from plugrad.dispatch.cells import rebind
from plugrad.dispatch.modes import changed
from plugrad.dispatch.record import Leaf
from plugrad.dispatch.tracing import array_of, refuse
from plugrad.dtypes import DType, as_dtype
from plugrad.errors import CheckpointError, DTypeError
from plugrad.nn._common import DeviceLike, DTypeLike
from plugrad.spec import Device
from plugrad.tensor import Tensor


def take_over(
    owner: str, own: Mapping[str, Tensor], state_dict: Any, strict: bool
) -> tuple[list[str], list[str]]:
    """`Module.load_state_dict` of the tensors ``own``, which a module of the class ``owner`` has.

    Returns:
        The names that are missing in the state dict, and those that are unexpected there.
    """
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(
            f"load_state_dict: takes tensors by name, got {type(state_dict).__name__}; nn.load reads a file"
        )
    found = {id(t) for name, t in own.items() if name in state_dict}
    missing = [name for name, t in own.items() if id(t) not in found]
    unexpected = [name for name in state_dict if name not in own]
    problems = []
    if strict and missing:
        problems.append(f"missing: {', '.join(missing)}")
    if strict and unexpected:
        problems.append(f"unexpected: {', '.join(map(str, unexpected))}")
    values: list[tuple[Tensor, Tensor]] = []
    with changed(recording=False):
        for name, t in own.items():
            if name in state_dict:
                try:
                    values.append((t, _fitting(t, state_dict[name])))
                except Exception as error:  # of a foreign array's own, too
                    problems.append(f"{name}: {error}")
        if problems:
            raise CheckpointError(
                f"load_state_dict: the state does not fit {owner}:\n  " + "\n  ".join(problems)
            )
        for t, value in values:
            t.assign(value)
    return missing, unexpected


def _fitting(t: Tensor, value: Any) -> Tensor:
    """``value`` as it is assigned to ``t``."""
    given = asarray(value, device=value.device if isinstance(value, Tensor) else t.device)
    if given.shape != t.shape:
        raise CheckpointError(f"has shape {given.shape}, takes {t.shape}")
    if given.dtype.is_floating != t.dtype.is_floating:
        raise CheckpointError(f"is {given.dtype}, takes {t.dtype}")
    return given.to_device(t.device).astype(t.dtype)


def move(
    owner: str,
    tensors: Iterable[Tensor],
    targets: Sequence[Device | DType | str],
    device: DeviceLike,
    dtype: DTypeLike,
) -> None:
    """`Module.to` of ``tensors``, which a module of the class ``owner`` has: all, or none and an error."""
    refuse(f"{owner}.to is called", "call it before", "where parameters stay what they are")
    place = None if device is None else resolve_device(device)
    kind = None if dtype is None else as_dtype(dtype)
    for target in targets:
        found = _dtype_or_device(target)
        if isinstance(found, DType):
            kind = found
        else:
            place = found
    if kind is not None and not kind.is_floating:
        raise DTypeError(f"{owner}.to: takes a floating dtype, got {kind}")

    def moved(t: Tensor) -> Tensor:
        if kind is not None and t.dtype.is_floating:
            t = t.astype(kind)
        return t if place is None else t.to_device(place)

    with changed(recording=False):
        values = [(t, moved(t), None if t.grad is None else moved(t.grad)) for t in tensors]
    for t, value, grad in values:
        if value is not t:
            _replace(t, value, grad)


def _dtype_or_device(target: Any) -> DType | Device:
    if isinstance(target, Device):
        return target
    try:
        return as_dtype(target)
    except DTypeError:
        if not isinstance(target, str):
            raise
    return resolve_device(target)


def _replace(t: Tensor, value: Tensor, grad: Tensor | None) -> None:
    """Bind ``t`` to a value of another dtype or device; a leaf stays one, of the new kind."""
    if t.requires_grad:
        leaf = Leaf(value.spec)
        leaf.grad = grad
        rebind(t, array_of(value), value.spec.tracked, leaf)
    else:
        rebind(t, array_of(value), value.spec, None)
