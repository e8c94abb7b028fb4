"""The fast road: how a call of an op becomes a signature, and the signature a settled runner.

Everything that depends only on the op, the specs of its operands, the static attributes and the modes is
settled once (`plugrad.dispatch.settle`) and kept under that signature. A later call of the same signature
costs the look-up and the runner.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.backend import resolve_device
from plugrad.dispatch.data import TensorData
from plugrad.dispatch.modes import local
from plugrad.dispatch.settle import settle
from plugrad.dtypes import DType
from plugrad.errors import ArgumentError, DTypeError
from plugrad.spec import Device, Spec

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op
    from plugrad.dispatch.statement import Operand

CACHE_SIZE: Final = 4096
"""Signatures kept per op; beyond it the oldest goes."""

_PLAIN: Final = frozenset((str, type(None), DType, Device, Spec))
_EXACT: Final = frozenset((int, str, type(None)))
"""Types whose values a tuple of nothing else is compared by: shapes, axes, bounds."""


def attribute_key(value: Any) -> Any:
    """What stands for a static attribute in a signature: equal keys mean the same attribute.

    ``1`` is not ``True``, floats count by their bits, a list is a tuple, and NumPy scalars are Python's.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int or kind is bool:
        return kind, value
    if kind is float:
        return float, value.hex()
    if kind is tuple or kind is list:
        if _EXACT.issuperset(map(type, value)):
            return value if kind is tuple else tuple(value)
        return tuple, *map(attribute_key, value)
    if isinstance(value, np.generic):
        return attribute_key(value.item())
    if isinstance(value, TensorData):
        raise ArgumentError(
            "a tensor stands where a static attribute is taken: pass Python numbers (tensor.item())"
        )
    if isinstance(value, np.ndarray):
        raise ArgumentError("a NumPy array stands where a static attribute is taken: pass Python numbers")
    if isinstance(value, slice):
        return slice, *map(attribute_key, (value.start, value.stop, value.step))
    return kind, value


def operand_key(op: Op[..., Any], operand: Operand, value: Any) -> Any:
    """What stands for an operand that is no tensor in a signature: the type of a Python scalar, or None.

    Raises:
        DTypeError: if the op does not take such a value there.
    """
    if operand.scalar:
        if isinstance(value, bool):
            return bool
        if isinstance(value, int):
            return int
        if isinstance(value, float):
            return float
    if value is None and operand.optional:
        return None
    if operand.sequence:
        try:
            return tuple([v._key for v in value])
        except AttributeError:
            return tuple(v._key if isinstance(v, TensorData) else _refuse(op, operand, v) for v in value)
    return _refuse(op, operand, value)


def _refuse(op: Op[..., Any], operand: Operand, value: Any) -> Any:
    takes = "a tensor or a Python number" if operand.scalar else "a tensor"
    if operand.sequence:
        takes = "a sequence of tensors"
    if operand.optional:
        takes += " or None"
    fix = (
        ": wrap it with plugrad.asarray"
        if isinstance(value, (np.ndarray, np.generic, list, tuple, int, float))
        else ""
    )
    raise DTypeError(f"{op.name}: {operand.name} takes {takes}, got {type(value).__name__}{fix}")


def as_sequence(op: Op[..., Any], name: str, values: Any) -> list[Any]:
    """The tensors of a sequence operand as a list."""
    if type(values) is list:
        return values
    if isinstance(values, TensorData) or not isinstance(values, Iterable):
        raise DTypeError(f"{op.name}: {name} takes a sequence of tensors, got {type(values).__name__}")
    return list(values)


def settle_and_keep(op: Op[..., Any], key: Any, attributes: dict[str, Any]) -> Any:
    """Settle a signature that was not met before, and keep it."""
    run = settle(op, key[: len(op.operands)], attributes)
    cache = op.cache
    if len(cache) >= CACHE_SIZE:
        cache.pop(next(iter(cache)), None)
    cache[key] = run
    return run


_SOURCE: Final = """\
def __call__(self, {signature}):
{prepare}    _key = ({key} local.modes)
    try:
        _run = cache[_key]
    except KeyError:
        _run = settle(self, _key, dict({attributes}))
    return _run({operands})
"""


def make_call(op: Op[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """The ``__call__`` of an op: bind the arguments as the stated function does, look up, run.

    The source is written out for the op's own signature, so that binding, defaults and the errors for a
    missing or unknown argument are Python's own.
    """
    operands = {o.name: o for o in op.operands}
    scope: dict[str, Any] = {
        "TensorData": TensorData,
        "attribute_key": attribute_key,
        "operand_key": operand_key,
        "as_sequence": as_sequence,
        "settle": settle_and_keep,
        "local": local,
        "resolve_device": resolve_device,
        "cache": op.cache,
    }
    parameters: list[inspect.Parameter] = []
    prepare = ""
    for p in inspect.signature(function).parameters.values():
        if p.name == "residuals":
            continue
        if p.default is not p.empty:
            scope[f"default_{p.name}"] = p.default
            p = p.replace(default=_Name(f"default_{p.name}"))
        parameters.append(p.replace(annotation=p.empty))
        if p.name in operands:
            scope[f"stated_{p.name}"] = operands[p.name]
            if operands[p.name].sequence:
                prepare += f"    {p.name} = as_sequence(self, {p.name!r}, {p.name})\n"
        elif p.name == "device":
            prepare += "    device = resolve_device(device)\n"
    key = "".join(
        f"{n}._key if isinstance({n}, TensorData) else operand_key(self, stated_{n}, {n}), " for n in operands
    ) + "".join(f"attribute_key({n}), " for n in op.attributes)
    source = _SOURCE.format(
        signature=str(inspect.Signature(parameters))[1:-1],
        prepare=prepare,
        key=key,
        operands="".join(f"{n}, " for n in operands),
        attributes=", ".join(f"{n}={n}" for n in op.attributes),
    ).replace("(self, )", "(self)")
    exec(compile(source, f"<call of {op.name}>", "exec"), scope)
    return scope["__call__"]  # type: ignore[no-any-return]


class _Name:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name
