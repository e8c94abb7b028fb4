"""What the suite adds to the ``plugrad`` program: the commands ``conformance`` and ``diff``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from plugrad.backend import hookimpl
from plugrad_conformance.cli import app
from plugrad_conformance.diff import diff_command


@hookimpl
def plugrad_commands() -> Mapping[str, Callable[..., Any]]:
    """The commands by name."""
    return {"conformance": app, "diff": diff_command}
