"""Which backends there are: found by entry points, loaded when first asked for, reported in any state.

A `Registry` finds and loads; that of the process stands behind the functions of `plugrad.backend.default`.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from plugrad.backend import hookspecs
from plugrad.backend.interface import Backend
from plugrad.backend.kernels import KernelTable
from plugrad.backend.loading import (
    Failure,
    PluginEntry,
    State,
    Unreadable,
    describe,
    failure_of,
    find_entries,
    format_traceback,
    listed,
    load_hooks,
)
from plugrad.backend.null import NULL, NullBackend
from plugrad.backend.report import BackendReport, DeviceReport, Note
from plugrad.dtypes import ALL
from plugrad.errors import BackendBroken, BackendUnavailable, DeviceError
from plugrad.spec import Device

DEVICE_VARIABLE: Final = "PLUGRAD_DEVICE"
"""The environment variable that names the device of a process; read once, when it is first needed."""

DEFAULT_DEVICE: Final = "numpy"
"""The device of a process that names none."""


class _Plugin:
    """A backend's plugin: entry points of one distribution with one value, and what loading them gave."""

    def __init__(self, entry: PluginEntry) -> None:
        self.entry = entry
        self.name = entry.name
        self.names: list[str] = []
        self.majors: set[str] = set()
        self.loading = False
        self.backend: Backend | None = None
        self.failure: Failure | None = None
        self.devices: tuple[DeviceReport, ...] = ()
        self.kernels: Mapping[str, int] = {}
        self.notes: list[Note] = []

    def report(self) -> BackendReport:
        failure = self.failure
        return BackendReport(
            name=self.name,
            aliases=tuple(n for n in self.names if n != self.name),
            distribution=self.entry.distribution,
            version=self.entry.version,
            api=tuple(sorted(self.majors, key=lambda m: (len(m), m))),
            state=State.AVAILABLE if failure is None else failure.state,
            reason="" if failure is None else failure.reason,
            traceback="" if failure is None else failure.traceback,
            devices=self.devices,
            kernels=MappingProxyType(dict(self.kernels)),
            notes=tuple(self.notes),
        )


class _Local(threading.local):
    device: Device | None = None


class Registry:
    """The backends of a set of installed distributions.

    Nothing is imported by making one. The distributions are listed at the first question, once, and each
    backend is loaded once, when it, a device of it, or the list is first asked for. Every method may be
    called from any thread.
    """

    def __init__(self, path: Sequence[str] | None = None) -> None:
        """Make a registry.

        Args:
            path: the folders whose distributions count; by default those of ``sys.path``.
        """
        self._path = path
        self._lock = threading.RLock()
        self._found = False
        self._plugins: list[_Plugin] = []
        self._claims: dict[str, list[_Plugin]] = {}
        self._foreign: dict[str, _Plugin] = {}
        self._extensions: list[PluginEntry] = []
        self._unreadable: list[Unreadable] = []
        # Read without the lock: a backend stands here under its own name when it is complete.
        self._ready: dict[str, Backend] = {NULL: NullBackend()}
        self._counts: dict[str, int] = {NULL: 1}
        self._process: Device | None = None
        self._local = _Local()

    def backend_of(self, device: Device) -> Backend:
        """See `plugrad.backend.backend_of`."""
        try:
            return self._ready[device.name]
        except KeyError:
            return self.get(device.name)

    def get(self, name: str) -> Backend:
        """See `plugrad.backend.get_backend`."""
        ready = self._ready.get(name)
        if ready is not None:
            return ready
        with self._lock:
            self._find()
            if name not in self._claims:
                raise self._refusal(name)
            if (contest := self._contest(name)) is not None:
                raise DeviceError(contest)
            plugin = self._claims[name][0]
            self._load(plugin)
            if plugin.failure is not None:
                raise plugin.failure.error(
                    f"backend {name!r} of {plugin.entry.origin}"
                ) from plugin.failure.cause
            if plugin.backend is None:
                raise DeviceError(f"backend {name!r} is asked for by its own plugin while that is loaded")
            return plugin.backend

    def add(self, backend: Backend) -> None:
        """See `plugrad.backend.register_backend`."""
        if not isinstance(backend, Backend):
            raise BackendBroken(f"register_backend takes a Backend, got {type(backend).__name__}")
        with self._lock:
            self._find()
            name = getattr(backend, "name", None)
            if not isinstance(name, str) or Device.split(name) != (name, 0):
                raise BackendBroken(f"{name!r} cannot name a device")
            if name in self._ready or name in self._claims:
                raise DeviceError(f"there is a backend named {name!r} already")
            self._counts[name] = len(_devices(backend))
            self._ready[name] = backend

    def resolve(self, value: Device | str | None) -> Device:
        """See `plugrad.backend.resolve_device`."""
        if value is None:
            return self.current()
        if isinstance(value, str):
            name, index = Device.split(value)
        elif isinstance(value, Device):
            name, index = value.name, value.index
        else:
            raise DeviceError(
                f"a device is 'name', 'name:index' or a Device; got {type(value).__name__} {value!r}"
            )
        name = self.get(name).name
        count = self._counts[name]
        if index >= count:
            there = f"{name}:0" if count == 1 else f"{name}:0 to {name}:{count - 1}"
            raise DeviceError(f"there is no device {name}:{index}; backend {name!r} has {there}")
        return Device(name, index)

    def current(self) -> Device:
        """See `plugrad.backend.current_device`."""
        return self._local.device or self._process or self._named()

    def swap(self, device: Device | None) -> Device | None:
        """Set the device of this thread (None: that of the process) and return what was set before."""
        before = self._local.device
        self._local.device = device
        return before

    def devices(self) -> tuple[Device, ...]:
        """See `plugrad.backend.devices`."""
        return tuple(d.device for report in self.reports() for d in report.devices)

    def reports(self) -> list[BackendReport]:
        """See `plugrad.backend.backends`."""
        with self._lock:
            self._find()
            for plugin in self._plugins:
                self._load(plugin)
            reports = [p.report() for p in self._plugins]
            reports += [
                BackendReport(
                    name=u.distribution,
                    aliases=(),
                    distribution=u.distribution,
                    version=u.version,
                    api=(),
                    state=State.BROKEN,
                    reason=f"its entry_points.txt does not parse: {describe(u.error)}",
                    traceback=format_traceback(u.error),
                )
                for u in self._unreadable
            ]
        return sorted(reports, key=lambda r: (r.name, r.distribution))

    def extensions(self, kind: str) -> list[tuple[str, PluginEntry]]:
        """The entry points ``kind.NAME`` of the groups ``plugrad.plugin.v*``, with NAME; nothing is imported.

        Those for another major version of the plugin interface are among them (`PluginEntry.compatible`),
        but for a name that the same distribution registers for this one too.
        """
        with self._lock:
            self._find()
        found = [(e.name.partition("."), e) for e in self._extensions]
        return [(parts[2], e) for parts, e in found if parts[0] == kind]

    def _find(self) -> None:
        if self._found:
            return
        entries, self._unreadable = find_entries(self._path)
        chosen: dict[tuple[str, str, str], PluginEntry] = {}
        majors: dict[tuple[str, str, str], set[str]] = {}
        for entry in entries:
            key = entry.kind, entry.distribution, entry.name
            majors.setdefault(key, set()).add(entry.major)
            if key not in chosen or (entry.compatible and not chosen[key].compatible):
                chosen[key] = entry
        plugins: dict[tuple[str, str, bool], _Plugin] = {}
        for key, entry in chosen.items():
            if entry.kind == "plugin":
                self._extensions.append(entry)
                continue
            plugin = plugins.setdefault((entry.distribution, entry.target, entry.compatible), _Plugin(entry))
            plugin.names.append(entry.name)
            plugin.majors |= majors[key]
        self._plugins = list(plugins.values())
        for plugin in self._plugins:
            # Until the backend says which name is its own, the likely one is that which its module carries.
            plugin.name = next((n for n in plugin.names if n in plugin.entry.target), plugin.names[0])
            for name in plugin.names:
                if plugin.entry.compatible:
                    self._claims.setdefault(name, []).append(plugin)
                else:
                    self._foreign.setdefault(name, plugin)
            if not plugin.entry.compatible:
                theirs, ours = listed(f"v{m}" for m in plugin.report().api), f"v{hookspecs.API}"
                plugin.failure = Failure(
                    State.INCOMPATIBLE,
                    f"it is written for plugin API {theirs}, and this plugrad takes {ours}; install a "
                    f"version of {plugin.entry.distribution} for {ours}, or a plugrad that takes {theirs}",
                )
        self._found = True

    def _refusal(self, name: str) -> DeviceError:
        """The error for a name that no plugin for this core claims."""
        foreign = self._foreign.get(name)
        if foreign is not None and foreign.failure is not None:
            return foreign.failure.error(f"backend {name!r} of {foreign.entry.origin}")
        known = sorted({*self._claims, *self._foreign})
        if not known:
            return DeviceError(
                f"no backend is named {name!r}, and none is installed; pip install plugrad brings one"
            )
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return DeviceError(f"no backend is named {name!r}{hint} (installed: {', '.join(known)})")

    def _contest(self, name: str) -> str | None:
        """Why nobody gets the name, or None."""
        if name == NULL:
            return f"the name {NULL!r} is that of the core's own device without values; no plugin can have it"
        claims = self._claims[name]
        if len(claims) == 1:
            return None
        return (
            f"the backend name {name!r} is claimed by {listed(p.entry.origin for p in claims)}; "
            "uninstall all of them but one"
        )

    def _load(self, plugin: _Plugin) -> None:
        """Create the backend of a plugin, once, and keep what came of it."""
        if plugin.loading or plugin.backend is not None or plugin.failure is not None:
            return
        contests = [c for n in plugin.names if (c := self._contest(n)) is not None]
        if len(contests) == len(plugin.names):
            plugin.failure = Failure(State.BROKEN, contests[0])
            return
        plugin.loading = True
        try:
            backend = self._create(plugin)
            plugin.notes = [Note(c) for c in contests]
            self._extend(plugin, backend)
        except KeyboardInterrupt:  # nobody's fault: the next one who asks tries again
            plugin.backend = None
            raise
        except BaseException as error:  # a plugin that exits or skips is as broken as one that raises
            plugin.failure = failure_of(plugin.entry, error)
            return
        finally:
            plugin.loading = False
        self._ready[plugin.name] = backend

    def _create(self, plugin: _Plugin) -> Backend:
        value = plugin.entry.target
        backend = load_hooks(plugin.entry).plugrad_create_backend()
        if backend is None:
            raise BackendBroken(f"{value} has no hook plugrad_create_backend that gives a Backend")
        if not isinstance(backend, Backend):
            raise BackendBroken(
                f"plugrad_create_backend of {value} gives {type(backend).__name__}, not a Backend"
            )
        name = getattr(backend, "name", None)
        if name not in plugin.names or not isinstance(name, str):
            raise BackendBroken(
                f"the backend that {value} creates has the name {name!r}, and its entry points are named "
                f"{listed(map(repr, plugin.names))}: one of them must be its name"
            )
        if Device.split(name) != (name, 0):
            raise BackendBroken(f"{name!r} cannot name a device")
        if (contest := self._contest(name)) is not None:
            raise BackendBroken(contest)
        plugin.name = name
        plugin.devices = devices = _devices(backend)
        kernels = backend.kernels
        plugin.kernels = {op.name: kernels.count(op) for op in sorted(kernels, key=lambda op: op.name)}
        plugin.backend = backend
        self._counts[name] = len(devices)
        return backend

    def _extend(self, plugin: _Plugin, backend: Backend) -> None:
        """Merge the kernels that other plugins have for this backend, after its own."""
        for name, entry in self.extensions("kernels"):
            if name not in plugin.names:
                continue
            source = f"{entry.origin} ({entry.target})"
            if not entry.compatible:
                plugin.notes.append(
                    Note(f"kernels of {source} are left out: they are for plugin API v{entry.major}")
                )
                continue
            try:
                table = self._kernels(entry, name)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                failure = failure_of(entry, error)
                plugin.notes.append(
                    Note(f"kernels of {source} are left out: {failure.reason}", failure.traceback)
                )
                continue
            backend.kernels.merge(table)
            plugin.notes.append(Note(f"kernels of {source} for {len(table)} op{'s' * (len(table) != 1)}"))

    def _kernels(self, entry: PluginEntry, name: str) -> KernelTable:
        tables: Any = load_hooks(entry).plugrad_kernels()
        if not isinstance(tables, Mapping):
            raise BackendBroken(f"plugrad_kernels gives {type(tables).__name__}, not a mapping by backend")
        named = {n for n, e in self.extensions("kernels") if e.distribution == entry.distribution}
        if surplus := sorted(map(repr, tables.keys() - named)):
            raise BackendBroken(
                f"plugrad_kernels gives kernels for {listed(surplus)}, which no entry point names"
            )
        table = tables.get(name)
        if not isinstance(table, KernelTable):
            raise BackendBroken(
                f"plugrad_kernels gives {type(table).__name__} for {name!r}, not a KernelTable"
            )
        return table

    def _named(self) -> Device:
        """The device of the process, which the environment may name."""
        text = os.environ.get(DEVICE_VARIABLE)
        try:
            self._process = self.resolve(text or DEFAULT_DEVICE)
        except DeviceError as error:
            if not text:
                raise
            raise type(error)(f"{DEVICE_VARIABLE} is {text!r}: {error}") from error
        return self._process


def _devices(backend: Backend) -> tuple[DeviceReport, ...]:
    """The devices of a new backend, once its table and they are seen to be there."""
    kernels = getattr(backend, "kernels", None)
    if not isinstance(kernels, KernelTable):
        raise BackendBroken(
            f"kernels of {type(backend).__name__} is {type(kernels).__name__}, not a KernelTable"
        )
    infos = tuple(backend.devices())
    if not infos:
        raise BackendUnavailable("it finds no device")
    devices = []
    for index, info in enumerate(infos):
        device = Device(backend.name, index)
        supported = backend.capabilities(device).dtypes
        devices.append(DeviceReport(device, info, tuple(d for d in ALL if d in supported)))
    return tuple(devices)
