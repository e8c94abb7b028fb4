"""A pytest plugin, ``-p support.without_backends``: no backend can be imported, and the null device is current.

The core's own tests pass under it, which shows that the core needs none.
"""

from __future__ import annotations

import sys
from importlib.metadata import distributions

from plugrad.backend import use_device


class _Blocked:
    """Refuses to import the modules that installed backends name."""

    def __init__(self) -> None:
        points = [
            e for d in distributions() for e in d.entry_points if e.group.startswith("plugrad.backend.")
        ]
        self.names = {e.value.partition(":")[0].partition(".")[0].strip() for e in points}

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        del path, target
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is blocked: the core's tests need no backend")


def pytest_configure() -> None:
    sys.meta_path.insert(0, _Blocked())
    use_device("null")
