"""`Suite`: the cases that a device is held against, and what tells one version of the suite from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from plugrad_conformance.cases import Case
from plugrad_conformance.checks import all_cases


class Suite:
    """The cases of this version of the suite, for a device of certain features.

    Attributes:
        hash: SHA-256 over the ids of all cases and the suite's sources, in hexadecimal.
    """

    def __init__(self, lacks: Iterable[str] = ()) -> None:
        """Make the suite.

        Args:
            lacks: those of `plugrad_conformance.cases.FEATURES` that the device does not have.
        """
        self._lacks = frozenset(lacks)
        self.hash = _hash()

    def listed(self, level: int | None = None) -> list[Case]:
        """The cases up to a level, with those that count for none, in the order in which they run."""
        return [
            c
            for c in _all()
            if not c.needs & self._lacks and (c.level is None or level is None or c.level <= level)
        ]

    def cases(self, levels: Sequence[int]) -> dict[str, int | None]:
        """The ids of the cases of some levels, each with its level; None for one that counts for none."""
        return {
            c.id: None if c.level is None else int(c.level)
            for c in self.listed()
            if c.level is None or c.level in levels
        }


@cache
def _all() -> tuple[Case, ...]:
    return tuple(all_cases())


@cache
def _hash() -> str:
    state = hashlib.sha256()
    for case in _all():
        state.update(f"{case.id}\n".encode())
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        if path.parent.name != "report":
            state.update(path.relative_to(folder).as_posix().encode())
            state.update(path.read_bytes())
    return state.hexdigest()
