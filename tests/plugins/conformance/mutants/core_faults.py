"""Faults of the core: of what stands between a backend's kernels and the user. Each is a block in which it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from plugrad.autograd import engine
from plugrad.dispatch import call
from plugrad.dispatch.pullback import BoundRule
from plugrad.dispatch.statement import all_ops, register
from plugrad.spec import Spec


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """A block in which an attribute is another one; nothing that was settled without it is used."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    forget()
    try:
        yield
    finally:
        setattr(owner, name, before)
        forget()


def forget() -> None:
    """Forget every settled signature."""
    for op in all_ops().values():
        op.cache.clear()


def _unsummed(rule: BoundRule, ct: Any, spec: Spec) -> Any:
    """The cotangent in the operand's dtype, and in the shape of the result."""
    del rule
    return ct if ct.spec.dtype is spec.dtype else register["astype"](ct, spec.dtype)


def _first_row(rule: BoundRule, ct: Any, spec: Spec) -> Any:
    """One of the cotangents that were to be summed."""
    wide = _unsummed(rule, ct, spec)
    if wide.shape == spec.shape:
        return wide
    lead = wide.ndim - len(spec.shape)
    index = [0] * lead + [slice(0, 1) if n == 1 else slice(None) for n in spec.shape]
    return wide[tuple(index)]


def _twice(a: Any, b: Any) -> Any:
    add = register["add"]
    return add(add(a, b), b)


def _last(a: Any, b: Any) -> Any:
    del a
    return b


@contextmanager
def stale(*kinds: type) -> Iterator[None]:
    """A block in which attributes of some types are not part of signatures."""
    scopes = [type(op).__call__.__globals__ for op in all_ops().values()]

    def key(value: Any) -> Any:
        return None if type(value) in kinds else call.attribute_key(value)

    for scope in scopes:
        scope["attribute_key"] = key
    forget()
    try:
        yield
    finally:
        for scope in scopes:
            scope["attribute_key"] = call.attribute_key
        forget()


CORE_FAULTS: Final[dict[str, tuple[Callable[[], AbstractContextManager[None]], tuple[str, ...]]]] = {
    "broadcast gradients are not summed": (
        lambda: replaced(BoundRule, "fit", _unsummed),
        ("vjp/add/float32",),
    ),
    "of broadcast gradients one is taken": (
        lambda: replaced(BoundRule, "fit", _first_row),
        ("vjp/add/float32",),
    ),
    "a cotangent is counted twice": (lambda: replaced(engine, "add", _twice), ("vjp/var/float32",)),
    "a cotangent is lost": (lambda: replaced(engine, "add", _last), ("vjp/var/float32",)),
    "a stale signature: an axis is not part of it": (
        lambda: stale(int, type(None)),
        ("forward/softmax/float32",),
    ),
    "a stale signature: axes are not part of it": (lambda: stale(tuple), ("forward/permute_dims/float32",)),
    "a stale signature: a switch is not part of it": (
        lambda: stale(bool),
        ("forward/lstm_sequence/float32",),
    ),
    "a stale signature: a number is not part of it": (lambda: stale(float), ("forward/elu/float32",)),
    "a stale signature: a word is not part of it": (lambda: stale(str), ("forward/mse_loss/float32",)),
}
"""By what is wrong: what makes the block, and cases that notice it."""
