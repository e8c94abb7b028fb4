"""A process that runs cases one by one: their names come in by standard input, their records go out.

The first line that goes out tells of the device, or why there is none. What a backend prints goes to standard error, so
that it does not mix with the records. No other process of a run loads the backend: one that hangs or dies harms its own.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any


def main() -> None:
    """Load the device, tell of it, and run what comes in until there is no more."""
    # The records get a pipe of their own; whatever else is written to standard output goes the way of errors.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    device = sys.argv[1]
    try:
        from plugrad_conformance.running import run_case
        from plugrad_conformance.subject import Subject
        from plugrad_conformance.suite import Suite

        subject = Subject(device)
        cases = {c.id: c for c in Suite(subject.lacks).listed()}
        facts = _facts(subject)
    except BaseException as error:
        traceback.print_exc()
        out.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return
    out.write(json.dumps(facts) + "\n")
    for line in sys.stdin:
        out.write(json.dumps(run_case(cases[line.rstrip("\n")], subject)) + "\n")


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
