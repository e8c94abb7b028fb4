"""What the device is asked, in order, for those who want to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

Entry = tuple[object, ...]

_listening: list[list[Entry]] = []


def told(*entry: object) -> None:
    """Record something that the device was asked."""
    for log in _listening:
        log.append(entry)


@contextmanager
def recorded() -> Iterator[list[Entry]]:
    """The list of what the device is asked within ``with``."""
    log: list[Entry] = []
    _listening.append(log)
    try:
        yield log
    finally:
        _listening.remove(log)
