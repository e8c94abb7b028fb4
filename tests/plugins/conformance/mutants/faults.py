"""The kinds of fault that a kernel may have: each says where it can apply, by the op's record, and wraps a kernel.

A kernel here is one of the NumPy kind: arrays, scalars, None and lists by position, attributes by name, ``into=``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from plugins.conformance.mutants import record
from plugins.conformance.mutants.backend import Run, Signature, Wrap, copied
from plugrad.dispatch.op import Op
from plugrad.dtypes import float64

Host = np.ndarray[Any, Any]

GARBAGE: Final = 85
"""What stands in memory that is nobody's."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: its name.
        meaning: what a kernel with it does.
        places: where it can apply in an op: names of operands, results, attributes; the empty name for all of it.
        wrap: the kernel with it, from a signature, the correct kernel, and the place.
        of_values: it shows in the values of the result, so that there is none where these are always zero.
    """

    name: str
    meaning: str
    places: Callable[[Op[..., Any]], tuple[str, ...]]
    wrap: Callable[[Signature, Run, str], Run]
    of_values: bool = True


@dataclass(frozen=True, slots=True)
class Mutant:
    """An op, a fault, and the place.

    Attributes:
        op: the op.
        fault: the fault.
        place: one of the fault's places in the op.
    """

    op: Op[..., Any]
    fault: Fault
    place: str

    @property
    def id(self) -> str:
        """The name: ``op: fault`` and the place where there is one."""
        return f"{self.op.name}: {self.fault.name}" + (f" ({self.place})" if self.place else "")

    @property
    def wrap(self) -> Wrap:
        """What makes its kernels of correct ones."""
        return lambda signature, run: self.fault.wrap(signature, run, self.place)


def mutants() -> Iterator[Mutant]:
    """Every one: each op and rule that may have a kernel, with each fault, in each place where it can apply."""
    for op in record.targets():
        for fault in FAULTS:
            if fault.of_values and record.vanishes(op):
                continue
            for place in fault.places(op):
                yield Mutant(op, fault, place)


# -- results --------------------------------------------------------------------------------------------------


def on_result(change: Callable[[Host], Host]) -> Callable[[Signature, Run, str], Run]:
    """A fault that changes the result of a name; of one that is a sequence each array, None stays."""

    def each(value: Any) -> Any:
        if value is None:
            return None
        return (
            tuple(each(v) for v in value) if isinstance(value, (tuple, list)) else change(np.asarray(value))
        )

    def wrap(signature: Signature, run: Run, place: str) -> Run:
        op = signature.op

        def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
            out = run(*arrays, **attributes)
            if not record.gives_tuple(op, attributes):
                return copied(each(out), into)
            names = record.result_names(op, attributes)
            return copied(tuple(each(v) if n == place else v for n, v in zip(names, out, strict=True)), into)

        return kernel

    return wrap


def _without_tail(value: Host) -> Host:
    """Size 4 is the width of a vector: where that is more than all, nothing is the tail."""
    if value.size <= 4 or value.size % 4 == 0:
        return value
    out = np.array(value, order="C")
    out.reshape(-1)[-(value.size % 4) :] = 0
    return out


def _without_nan(value: Host) -> Host:
    if value.dtype.kind in "biu":
        return value
    return np.where(np.isnan(value), value.dtype.type(0), value)


def _tenth_digit(value: Host) -> Host:
    return value * np.float64(1 + 1e-10) if value.dtype == np.float64 else value


def _other_dtype(value: Host) -> Host:
    kind, size = value.dtype.kind, value.dtype.itemsize
    if kind == "b":
        return value.astype(np.uint8)
    if kind in "iu":
        return value.astype(np.int32 if size == 8 else np.int64)
    with np.errstate(all="ignore"):
        return value.astype(np.float64 if value.dtype == np.float32 else np.float32)


# -- operands -------------------------------------------------------------------------------------------------


def on_operand(change: Callable[[Any], Any]) -> Callable[[Signature, Run, str], Run]:
    """A fault that computes with something else in place of an operand's array."""

    def each(value: Any) -> Any:
        if isinstance(value, list):
            return [each(v) for v in value]
        return value if value is None or isinstance(value, (bool, int, float)) else change(value)

    def wrap(signature: Signature, run: Run, place: str) -> Run:
        names = [o.name for o in signature.op.operands]

        def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
            given = [each(a) if place in ("", n) else a for n, a in zip(names, arrays, strict=True)]
            return copied(run(*given, **attributes), into)

        return kernel

    return wrap


def memory_of(array: Host) -> Host:
    """The buffer that an array is part of, as one axis."""
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    flat = base if base.flags.c_contiguous else base.T
    return flat.reshape(-1) if flat.flags.c_contiguous else np.ascontiguousarray(array).reshape(-1)


def _at(array: Host) -> int:
    return int(array.__array_interface__["data"][0])


def contiguous(array: Any) -> Any:
    """The elements from the first one on, one after the other, as if the array were contiguous."""
    if not isinstance(array, np.ndarray) or array.flags.c_contiguous or not array.size:
        return array
    memory = memory_of(array)
    start = (_at(array) - _at(memory)) // memory.itemsize
    read = memory[start : start + array.size].view(array.dtype)
    beyond = np.full(array.size - read.size, GARBAGE).astype(array.dtype)
    return np.concatenate((read, beyond)).reshape(array.shape)


def _lower(array: Any) -> Any:
    """Rounded to the next narrower dtype; what is too large for it stays."""
    value = np.asarray(array)
    narrow = {"float64": np.float32, "float32": np.float16}.get(value.dtype.name)
    if narrow is None:
        return array
    with np.errstate(all="ignore"):
        rounded = value.astype(narrow).astype(value.dtype)
    return np.where(np.isfinite(rounded), rounded, value)


def _mutating(signature: Signature, run: Run, place: str) -> Run:
    """Compute, and leave the last element of an operand changed."""
    at = [o.name for o in signature.op.operands].index(place)

    def each(value: Any) -> None:
        if isinstance(value, list):
            for v in value:
                each(v)
        elif isinstance(value, np.ndarray) and value.size and value.flags.writeable:
            last = (-1,) * value.ndim
            value[last] = not value[last] if value.dtype.kind == "b" else value[last] + value.dtype.type(1)

    def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
        out = run(*arrays, **attributes)
        # A view of the operand would be changed with it, and the result is to be right.
        out = (
            tuple(np.array(o) if isinstance(o, np.ndarray) else o for o in out)
            if isinstance(out, tuple)
            else out
        )
        out = np.array(out) if isinstance(out, np.ndarray) else out
        each(arrays[at])
        return copied(out, into)

    return kernel


def _one_buffer(signature: Signature, run: Run, place: str) -> Run:
    """Write the results of every call into the same memory."""
    del signature, place
    made: list[Any] = []

    def again(new: Any, old: Any) -> Any:
        if isinstance(new, (tuple, list)):
            return tuple(again(n, o) for n, o in zip(new, old, strict=True))
        if new is None or np.shape(new) != old.shape:
            return new
        np.copyto(old, new)
        return old

    def own(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return tuple(own(v) for v in value)
        return None if value is None else np.array(value)

    def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
        out = run(*arrays, **attributes)
        if into is not None:
            return copied(out, into)
        if not made:
            made.append(own(out))
        return again(out, made[0])

    return kernel


# -- into -----------------------------------------------------------------------------------------------------


def _past_the_end(signature: Signature, run: Run, place: str) -> Run:
    del signature, place

    def each(into: Any) -> None:
        if isinstance(into, tuple):
            for i in into:
                each(i)
            return
        memory = memory_of(into)
        after = (_at(into) - _at(memory)) // memory.itemsize + into.size
        if after < memory.size:
            memory[after] = not memory[after] if memory.dtype.kind == "b" else 0

    def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
        out = copied(run(*arrays, **attributes), into)
        if into is not None:
            each(into)
        return out

    return kernel


def _into_ignored(signature: Signature, run: Run, place: str) -> Run:
    del signature, place

    def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
        del into
        return run(*arrays, **attributes)

    return kernel


# -- attributes -----------------------------------------------------------------------------------------------


def with_attribute(signature: Signature, name: str, value: Any) -> Run:
    """The kernel for another value of an attribute, whatever it is called with."""
    run = signature.find({**signature.attributes, name: value})

    def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
        return copied(run(*arrays, **{**attributes, name: value}), into)

    return kernel


def _attribute_ignored(signature: Signature, run: Run, place: str) -> Run:
    del run
    value = record.other_value(signature.op, place, signature.specs, signature.attributes)
    return with_attribute(signature, place, value)


def _next_axis(signature: Signature, run: Run, place: str) -> Run:
    del run
    shapes = [s.shape for s in (*signature.specs, *signature.attributes.values()) if hasattr(s, "shape")]
    shapes += [s.shape for each in signature.specs if isinstance(each, tuple) for s in each]
    ndim = max((len(s) for s in shapes), default=0)
    value = signature.attributes[place]
    if ndim > 1 and value is not None:
        value = tuple((a + 1) % ndim for a in value) if isinstance(value, tuple) else (value + 1) % ndim
    return with_attribute(signature, place, value)


# -- wrt ------------------------------------------------------------------------------------------------------


def _all_gradients(signature: Signature, run: Run, place: str) -> Run:
    """Give every gradient that there is, whichever are asked for."""
    del run, place
    op = signature.op
    rule = record.rule_of(op)
    assert rule is not None
    absent = {o.name for o, s in zip(op.operands, signature.specs, strict=True) if s is None}
    return with_attribute(signature, "wrt", tuple(n for n in rule.wrt if n not in absent))


def _other_order(signature: Signature, run: Run, place: str) -> Run:
    """Give the gradients that are asked for in the opposite order."""
    del place

    def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
        return copied(tuple(reversed(run(*arrays, **attributes))), into)

    return kernel


# -- the list -------------------------------------------------------------------------------------------------


def _on_nan(op: Op[..., Any]) -> tuple[str, ...]:
    return record.floating_results(op) if record.floating_operands(op) else ()


def _cotangents(op: Op[..., Any]) -> tuple[str, ...]:
    return tuple(o.name for o in op.operands if op.owner is not None and record.is_cotangent(o.name))


def _precise(op: Op[..., Any]) -> tuple[str, ...]:
    return record.floating_results(op) if record.takes(op, float64) else ()


def _axes(op: Op[..., Any]) -> tuple[str, ...]:
    return tuple(a for a in record.static_attributes(op) if a in ("axis", "axes"))


def _wrt(op: Op[..., Any]) -> tuple[str, ...]:
    rule = record.rule_of(op)
    return ("",) if rule is not None and "wrt" in op.attributes and len(rule.wrt) > 1 else ()


def _planned(op: Op[..., Any]) -> tuple[str, ...]:
    """No plan can allocate a result whose shape depends on data, or one for each array of a sequence."""
    rule = record.rule_of(op)
    several = rule is not None and any(o.sequence and o.name in rule.wrt for o in op.owner.operands)  # type: ignore[union-attr]
    return () if op.data_dependent or several else ("",)


FAULTS: Final = (
    Fault("zeroed", "a result is zeros", record.results, on_result(np.zeros_like)),
    Fault(
        "cotangent ignored",
        "a rule takes ones in place of a cotangent",
        _cotangents,
        on_operand(np.ones_like),
    ),
    Fault(
        "strides ignored",
        "an operand's memory is read as if it were contiguous",
        record.from_outside,
        on_operand(contiguous),
    ),
    Fault(
        "tail dropped",
        "the last elements of a result, where it is no multiple of four, are not computed",
        record.results,
        on_result(_without_tail),
    ),
    Fault("NaN swallowed", "a NaN in a result becomes zero", _on_nan, on_result(_without_nan)),
    Fault(
        "lower precision",
        "floating operands are computed with in the next narrower dtype",
        lambda op: ("",) if record.floating_operands(op) and record.floating_results(op) else (),
        on_operand(_lower),
    ),
    Fault("tenth digit", "a constant is wrong in its tenth digit", _precise, on_result(_tenth_digit)),
    Fault(
        "operand changed",
        "the result is right, and an operand is another one afterwards",
        lambda op: tuple(o.name for o in op.operands),
        _mutating,
        of_values=False,
    ),
    Fault(
        "one buffer",
        "every call writes its result into the same memory",
        lambda op: ("",) if op.operands else (),
        _one_buffer,
    ),
    Fault(
        "past the end",
        "an element after the end of the result is written",
        _planned,
        _past_the_end,
        of_values=False,
    ),
    Fault(
        "attribute ignored",
        "an attribute is taken for its default",
        record.static_attributes,
        _attribute_ignored,
    ),
    Fault("next axis", "an axis is off by one", _axes, _next_axis),
    Fault(
        "other dtype", "a result has another dtype", record.results, on_result(_other_dtype), of_values=False
    ),
    Fault("wrt ignored", "a rule gives every gradient, whichever are asked for", _wrt, _all_gradients),
    Fault("wrt reversed", "a rule gives the gradients in another order", _wrt, _other_order),
    Fault(
        "into ignored", "the result is not where it was asked to be", _planned, _into_ignored, of_values=False
    ),
)
"""Every kind of fault."""
