"""A process that runs cases one by one: their names come in by standard input, their records go out.

The first line that goes out tells of the device, or why there is none. What a backend prints goes to standard error,
and what it reads is empty, so that neither mixes with names and records. No other process of a run loads the backend:
one that hangs or dies harms its own. Where nobody is left who would read the records, the process ends, whatever a
kernel is doing.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any, TextIO


def main() -> None:
    """Load the device, tell of it, and run what comes in until there is no more."""
    # Names and records get pipes of their own: a backend may read standard input and write to standard output.
    names, out = _own(0, os.O_RDONLY), _own(1, os.O_WRONLY)
    # A process that is killed loses what it has not written yet.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    waiting = _read(names)
    device = sys.argv[1]
    try:
        from plugrad_conformance.running import run_case
        from plugrad_conformance.subject import Subject
        from plugrad_conformance.suite import Suite

        subject = Subject(device)
        cases = {c.id: c for c in Suite(subject.lacks).listed()}
        facts = _facts(subject)
    except BaseException as error:
        out.write(json.dumps({"error": _told(error)}) + "\n")
        return
    out.write(json.dumps(facts) + "\n")
    while True:
        out.write(json.dumps(run_case(cases[waiting.get()], subject)) + "\n")


def _own(descriptor: int, flags: int) -> TextIO:
    """The file of a standard stream, which nothing else in the process gets at any more."""
    kept = os.dup(descriptor)
    if flags == os.O_RDONLY:
        nothing = os.open(os.devnull, flags)
        os.dup2(nothing, descriptor)
        os.close(nothing)
        return os.fdopen(kept, encoding="utf-8")
    os.dup2(2, descriptor)
    return os.fdopen(kept, "w", encoding="utf-8", buffering=1)


def _read(names: TextIO) -> queue.SimpleQueue[str]:
    """The lines that come in; when there are no more, the process ends."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in names:
            waiting.put(line.rstrip("\n"))
        if sys.platform != "win32" and os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)  # what it started ends with it
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return waiting


def _told(error: BaseException) -> str:
    """What a person needs to know of what was raised; the traceback of what is nobody's mistake in asking is printed."""
    from plugrad.errors import PlugradError

    if isinstance(error, PlugradError):
        if error.__cause__ is not None:
            traceback.print_exception(error)
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


def _facts(subject: Any) -> dict[str, Any]:
    """What a report says of the device, and its manifest."""
    from plugrad.backend import backends
    from plugrad.dtypes import ALL
    from plugrad.errors import DataError
    from plugrad_conformance.manifest import Manifest, manifest_of

    report = next((r for r in backends() if r.name == subject.device.name), None)
    try:
        manifest = manifest_of(subject.backend)
    except DataError:  # the case plugin/manifest tells
        manifest = Manifest()
    return {
        "device": {
            "name": str(subject.device),
            "backend": subject.device.name,
            "distribution": "" if report is None else report.distribution,
            "version": "" if report is None else report.version,
            "description": subject.backend.devices()[subject.device.index].description,
            "dtypes": [d.name for d in ALL if subject.has(d)],
            "devices": subject.count,
        },
        "lacks": sorted(subject.lacks),
        "claimed": manifest.claimed,
        "waivers": dict(manifest.waivers),
    }


if __name__ == "__main__":
    main()
