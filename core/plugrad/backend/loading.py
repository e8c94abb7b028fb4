"""Finding plugins by their entry points, and loading one by itself, guarded."""

from __future__ import annotations

import enum
import re
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Final

import pluggy

from plugrad.backend import hookspecs
from plugrad.errors import BackendBroken, BackendIncompatible, BackendUnavailable, DeviceError

_GROUP: Final = re.compile(r"plugrad\.(backend|plugin)\.v(.+)")


@dataclass(frozen=True, slots=True)
class PluginEntry:
    """An entry point in one of plugrad's groups. Nothing of it is imported.

    Attributes:
        kind: ``"backend"`` or ``"plugin"``, by its group.
        major: the major version of the plugin interface in the group's name.
        name: the entry point's name.
        entry_point: the entry point.
        distribution: the name of the distribution that registers it.
        version: that distribution's version.
    """

    kind: str
    major: str
    name: str
    entry_point: EntryPoint
    distribution: str
    version: str

    @property
    def compatible(self) -> bool:
        """Whether it is written for the plugin interface of this core."""
        return self.major == str(hookspecs.API)

    @property
    def target(self) -> str:
        """The module, or the object in one, that the value names, without its extras."""
        return self.entry_point.value.partition("[")[0].replace(" ", "")

    @property
    def origin(self) -> str:
        """The distribution with its version, as errors name it."""
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A distribution that names plugrad in an ``entry_points.txt`` which does not parse."""

    distribution: str
    version: str
    error: Exception


def find_entries(path: Sequence[str] | None = None) -> tuple[list[PluginEntry], list[Unreadable]]:
    """The entry points in all groups ``plugrad.backend.v*`` and ``plugrad.plugin.v*``, without importing any.

    Args:
        path: the folders to look for distributions in; by default those of ``sys.path``. Of several
            distributions of one name, the first is the one that Python imports, so it counts.

    Returns:
        The entries, ordered by distribution and then as they stand in its file, and what did not parse.
    """
    found: dict[str, list[PluginEntry]] = {}
    unreadable: dict[str, Unreadable] = {}
    for distribution in distributions() if path is None else distributions(path=list(path)):
        # Most distributions are somebody else's: their names and versions, which are slow to read, are not.
        if not _names_plugrad(distribution):
            continue
        name, version = _identity(distribution)
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found or key in unreadable:
            continue
        try:
            found[key] = [
                PluginEntry(match[1], match[2], e.name, e, name, version)
                for e in distribution.entry_points
                if (match := _GROUP.fullmatch(e.group)) is not None
            ]
        except Exception as error:
            unreadable[key] = Unreadable(name, version, error)
    return [e for key in sorted(found) for e in found[key]], [unreadable[key] for key in sorted(unreadable)]


def _names_plugrad(distribution: Distribution) -> bool:
    try:
        text = distribution.read_text("entry_points.txt")
    except Exception:  # another project's damaged installation is not ours to report
        return False
    return text is not None and ("plugrad.backend." in text or "plugrad.plugin." in text)


def _identity(distribution: Distribution) -> tuple[str, str]:
    """Name and version, from the folder's name where METADATA is damaged or missing."""
    try:
        metadata = distribution.metadata
        name, version = metadata["Name"], metadata["Version"] or ""
    except Exception:
        name = version = ""
    if name:
        return name, version
    stem = getattr(getattr(distribution, "_path", None), "stem", "unknown distribution")
    first, _, rest = str(stem).partition("-")
    return first, rest


def load_hooks(entry: PluginEntry) -> Any:
    """Import what an entry point names and register it with pluggy, in a manager of its own.

    Returns:
        The hooks of this plugin alone: ``load_hooks(entry).plugrad_commands()``. A hook that the plugin
        does not implement gives None.

    Raises:
        Exception: whatever the import raises, and `pluggy.PluginValidationError` for a function that is
            marked as a hook and is none, or that takes other arguments.
    """
    plugin = entry.entry_point.load()
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, entry.target)
    manager.check_pending()
    return manager.hook


class State(enum.StrEnum):
    """What became of a backend: it works, it cannot run here, its code raised, or its API is another."""

    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    BROKEN = "broken"
    INCOMPATIBLE = "incompatible"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a backend cannot be used.

    Attributes:
        state: its state, not ``AVAILABLE``.
        reason: one sentence for people.
        cause: what was raised, if anything was.
        traceback: the traceback of ``cause`` for a broken one, else the empty string.
    """

    state: State
    reason: str
    cause: BaseException | None = None
    traceback: str = ""

    def error(self, subject: str) -> DeviceError:
        """A new error to raise from ``cause`` when the backend is asked for."""
        classes = {
            State.UNAVAILABLE: BackendUnavailable,
            State.BROKEN: BackendBroken,
            State.INCOMPATIBLE: BackendIncompatible,
        }
        return classes[self.state](f"{subject} is {self.state}: {self.reason}")


def failure_of(entry: PluginEntry, error: BaseException) -> Failure:
    """What it means that ``error`` was raised while the plugin of ``entry`` was loaded."""
    if isinstance(error, BackendUnavailable):
        return Failure(State.UNAVAILABLE, _message(error) or "it gives no reason", error)
    if isinstance(error, BackendBroken):
        return Failure(State.BROKEN, _message(error), error, format_traceback(error))
    if isinstance(error, ModuleNotFoundError) and error.name and not _own(entry, error.name):
        reason = f"the module {error.name!r} is not installed"
        if extras := entry.entry_point.extras:
            reason += f"; pip install '{entry.distribution}[{','.join(extras)}]'"
        return Failure(State.UNAVAILABLE, reason, error)
    return Failure(State.BROKEN, describe(error), error, format_traceback(error))


def _own(entry: PluginEntry, module: str) -> bool:
    """Whether a missing module belongs to the plugin or to the core: then no installation brings it."""
    return module.partition(".")[0] in (entry.entry_point.module.partition(".")[0], hookspecs.PROJECT)


def describe(error: BaseException) -> str:
    """An error's class and message, in one line if its message is one."""
    message = _message(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a plugin's own error class may fail even at this
        return ""


def format_traceback(error: BaseException) -> str:
    """The traceback of ``error`` and of what it is chained to, as Python prints it."""
    return "".join(traceback.format_exception(error))


def listed(words: Iterable[str], conjunction: str = "and") -> str:
    """Words as a sentence lists them: ``a``, ``a and b``, ``a, b and c``."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last
