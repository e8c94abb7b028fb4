"""What captured functions read of Python objects, and whether it may have changed.

An object that a captured function may have read attributes of, a module or an optimizer, notes itself with the trace
and counts its changes here. As long as the count stands, nothing has changed; else the objects are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from plugrad.dispatch.modes import local as mode
from plugrad.dispatch.tracing import current

_PLAIN: Final = (str, int, float, bool, type(None))


class Guarded(Protocol):
    """An object with attributes that a captured function reads."""

    def __guard__(self) -> object:
        """What the function may have read, such that equal ones lead to the same graph."""


class _Epoch:
    def __init__(self) -> None:
        self.count = 0


EPOCH: Final = _Epoch()
"""Counts the changes of guarded objects of the process."""


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
    return [(k, (type(v), v) if isinstance(v, _PLAIN) else _Same(v)) for k, v in attributes.items()]


def note(guarded: Guarded) -> None:
    """Tell the capture on this thread, if there is one, that it reads ``guarded``."""
    if mode.modes.capturing:
        current().note(guarded)
