"""What captured functions read of Python objects, and whether it may have changed.

An object that a captured function may have read attributes of, a module or an optimizer, notes itself with the trace
and counts its changes here. As long as the count stands, nothing has changed; else the objects are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from plugrad.dispatch.modes import local as mode
from plugrad.dispatch.tracing import current

_PLAIN: Final = (str, int, float, bool, type(None))


class Guarded(Protocol):
    """An object with attributes that a captured function reads."""

    def __guard__(self) -> object:
        """What the function may have read, such that equal ones lead to the same graph."""


class Settable(Guarded, Protocol):
    """Such an object whose attributes are set through `changing`."""

    def __attribute__(self, name: str) -> tuple[object, Callable[[], None]]:
        """What an attribute is, a mark of its own where there is none, and what sets it back to that."""


class _Epoch:
    def __init__(self) -> None:
        self.count = 0


EPOCH: Final = _Epoch()
"""Counts the changes of guarded objects of the process."""


def made(guarded: Settable) -> None:
    """An object is new: what a captured function makes itself, it may change."""
    if mode.modes.capturing:
        current().made(guarded)


def changing(guarded: Settable, name: str) -> None:
    """The attribute ``name`` of an object is about to get another value, after which `changes` is called.

    Inside a captured function it is set back afterwards, and is an error where the function does not do that itself.
    """
    if mode.modes.capturing:
        current().setting(guarded, name)


def changes() -> None:
    """An attribute of a guarded object has another value."""
    EPOCH.count += 1


class _Same:
    """Compares an object by its identity, and keeps it, so that no other one gets that."""

    __slots__ = ("value",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


def snapshot(attributes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Attributes such that two snapshots are equal if they were read alike: numbers by value, objects by identity."""
    return [(k, _plain(v) if type(v) in _PLAIN else _Same(v)) for k, v in attributes.items()]


def _plain(value: Any) -> Any:
    """A number or string with its type; a float by its bits, as NaN equals nothing and 0.0 equals -0.0."""
    return type(value), value.hex() if type(value) is float else value


def alike(a: object, b: object) -> bool:
    """Whether two values of an attribute are read alike."""
    return snapshot({"": a}) == snapshot({"": b})


def note(guarded: Guarded) -> None:
    """Tell the capture on this thread, if there is one, that it reads ``guarded``."""
    if mode.modes.capturing:
        current().note(guarded)
