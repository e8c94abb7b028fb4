"""The hooks that a plugin may implement, and where it makes itself known.

A distribution makes itself known by entry points, in one of two groups. The number in the group's name is
the major version of the plugin interface, so that it is known before anything is imported:

``plugrad.backend.v1``
    The entry point's name is the backend's name, as the backend's class states it in `Backend.name`; one
    more entry point of the distribution with the same value and another name is an alias. Its extra is the
    extra of the distribution that the backend needs::

        [project.entry-points."plugrad.backend.v1"]
        mychip = "plugrad_mychip [driver]"
        npu = "plugrad_mychip [driver]"

    A distribution may register one backend in the groups of several majors; the core takes that of its own.

``plugrad.plugin.v1``
    Everything else. The word before the dot in the name says when the plugin is imported: ``kernels.BACKEND``
    when that backend is loaded, ``command.NAME`` when the command is invoked, ``callbacks.NAME`` when a
    training begins, ``passes.NAME`` when a captured function is first planned::

        [project.entry-points."plugrad.plugin.v1"]
        "kernels.mychip" = "fast_attention"
        "command.profile" = "profiler.command"

The value names a module, or an object in one, whose functions of the names below are marked with
`hookimpl`. The core loads each plugin by itself, guarded, and calls its hooks one plugin at a time: a hook's
result is that plugin's own. A function that is marked and is none of these hooks is an error; a plugin that
also serves a later minor version marks what that version adds with ``@hookimpl(optionalhook=True)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pluggy

from plugrad.backend.interface import Backend
from plugrad.backend.kernels import KernelTable

PROJECT: Final = "plugrad"
API: Final = 1
"""The major version of the plugin interface that this core takes."""

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of its name."""


@hookspec(firstresult=True)
def plugrad_create_backend() -> Backend:
    """Create the backend; called once, when a device of it is first asked for or listed.

    Its `Backend.name` is the name of one of the plugin's entry points; else the backend is broken.

    Where it cannot run (no driver, no device), it raises `plugrad.errors.BackendUnavailable` with the
    reason; so may the import of the plugin. A module that is missing needs no such care: where the entry
    point names an extra, the core tells how to install it. Anything else that is raised means that the
    backend is broken.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def plugrad_kernels() -> Mapping[str, KernelTable]:
    """Kernels for somebody else's backends, by the backend's name; its own kernels come before them.

    Called for the entry points ``kernels.BACKEND`` when that backend is loaded. The mapping holds the
    backends that the distribution's entry points name, no others. A plugin that raises is noted with the
    backend, which works without it.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def plugrad_commands() -> Mapping[str, Callable[..., Any]]:
    """Commands of the ``plugrad`` program, by name: functions as `typer` takes them, or typer apps.

    Called for the entry point ``command.NAME`` when ``plugrad NAME`` is invoked; listing the commands
    imports nothing.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def plugrad_callbacks() -> Sequence[Any]:
    """Callbacks that take part in every training; called for the entry points ``callbacks.NAME``.

    Called once per training, so that the callbacks of two trainings share nothing. A plugin that raises
    is left out with a warning.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def plugrad_passes() -> Sequence[Any]:
    """Passes over captured graphs: `plugrad.graph.passes.Pass`, each with its place before or after a named one.

    Called once, for the entry points ``passes.NAME``, when a first graph is planned. A plugin that raises is
    left out with a warning, and so is, for one graph, a pass that raises or gives no graph of the same inputs
    and outputs.
    """
    raise NotImplementedError
