"""Compiled kernels on disk, checked before the driver reads them.

Programs are kept as the driver's binaries, by source, device and driver, each with its checksum: to load one takes PoCL 1 ms,
to find in its own cache what it made of a source 20. What PoCL makes of a program for each size of a group stays in its cache,
and it ends the process where a file of that is damaged, as it is after a disk was full or a machine stopped. So PoCL is given
a folder whose files are noted when a process ends, and what does not look as it was noted is removed before it is read: PoCL
compiles it anew.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Final

try:
    import fcntl
except ImportError:  # a system without these locks, where PoCL's cache stays where it is
    fcntl = None  # type: ignore[assignment]

VARIABLE: Final = "POCL_CACHE_DIR"
"""Where PoCL keeps its kernels. Whoever sets it has the folder to themselves: it is neither checked nor noted."""

SECONDS: Final = 30.0
"""How often files are noted while kernels are compiled, so that a process that is killed loses little."""

_PROGRAMS, _CHECKSUM = "programs", hashlib.sha256().digest_size
_NOTE: Final = "noted.json"
_CHANGING: Final = "last_accessed"
"""A file that PoCL writes at each use, and never reads."""

Noted = dict[str, list[int]]
"""By path, the size of a file and when it was written."""


def folder() -> Path:
    """The folder of the kernels that PoCL compiles for plugrad."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "plugrad" / "opencl"


def prepare() -> None:
    """Let PoCL keep its kernels in `folder`, without those that are damaged. Called before a platform is asked for."""
    _import_invoker()
    if fcntl is None or VARIABLE in os.environ:
        return
    top = folder()
    kernels = top / "pocl"
    try:
        kernels.mkdir(parents=True, exist_ok=True)
        lock = (top / "lock").open("a")
    except OSError:
        return  # a folder that cannot be written to: the driver's own way with that stands
    try:
        # While another process uses the kernels, none is removed; it has checked them.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_damaged(kernels, _read(top / _NOTE))
    except OSError:
        pass
    fcntl.flock(lock, fcntl.LOCK_SH)
    os.environ[VARIABLE] = str(kernels)
    keeper = _Keeper(top, lock)
    keepers.append(keeper)
    atexit.register(keeper.note)


def load(key: str) -> bytes | None:
    """The binary that was stored under a key; None where there is none, or it is damaged."""
    try:
        content = (folder() / _PROGRAMS / key).read_bytes()
    except OSError:
        return None
    checksum, binary = content[:_CHECKSUM], content[_CHECKSUM:]
    return binary if checksum == hashlib.sha256(binary).digest() else None


def store(key: str, binary: bytes) -> None:
    """Keep a binary, if the disk allows it."""
    path = folder() / _PROGRAMS / key
    new = path.with_name(f"{key}.{os.getpid()}.{threading.get_ident()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(hashlib.sha256(binary).digest() + binary)
        new.replace(path)


def compiled() -> None:
    """Told of each kernel that was compiled."""
    for keeper in keepers:
        if time.monotonic() - keeper.last > SECONDS:
            keeper.note()


def remove_damaged(kernels: Path, noted: Noted) -> None:
    """Remove the programs that have another file than was noted, or one that was not, or lack one."""
    there = files(kernels)
    wrong = {name for name in there.keys() | noted.keys() if there.get(name) != noted.get(name)}
    for program in {_program(name) for name in wrong}:
        path = kernels / program
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def files(kernels: Path) -> Noted:
    """The files in a folder, at any depth."""
    found: Noted = {}
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(kernels / inside) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name)
                elif entry.name != _CHANGING:
                    facts = entry.stat(follow_symlinks=False)
                    found[name] = [facts.st_size, facts.st_mtime_ns]
    return found


def _program(name: str) -> str:
    """The folder of a program, two below that of all; of a file above these, the file."""
    return "/".join(name.split("/")[:2])


def _read(path: Path) -> Noted:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class _Keeper:
    """Notes the files of a folder as they are, for a process that uses it; a forked child of it does not.

    Attributes:
        last: when it did so.
    """

    def __init__(self, top: Path, lock: Any) -> None:
        self._top = top
        self._lock = lock  # held as long as this is there
        self._process = os.getpid()
        self.last = time.monotonic()

    def note(self) -> None:
        """Note them."""
        if self._process != os.getpid():
            return
        self.last = time.monotonic()
        with contextlib.suppress(OSError):
            new = self._top / f"{_NOTE}.{self._process}"
            new.write_text(json.dumps(files(self._top / "pocl")), encoding="utf-8")
            new.replace(self._top / _NOTE)


keepers: Final[list[_Keeper]] = []
"""Of this process: one, where PoCL's cache is in `folder`."""


def _import_invoker() -> None:
    """Import the part of pyopencl that keeps Python code in a data base; one that is damaged is made anew."""
    try:
        import pyopencl.invoker
    except sqlite3.DatabaseError:
        import platformdirs

        for path in Path(platformdirs.user_cache_dir("pytools", "pytools")).glob("pdict-*pyopencl-invoker*"):
            path.unlink()
        import pyopencl.invoker  # noqa: F401
