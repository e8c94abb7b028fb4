"""A run from its question to its report: load the device, choose the cases, run them, count, and judge."""

from __future__ import annotations

import difflib
import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from plugrad.errors import ArgumentError, DeviceError
from plugrad.version import VERSION
from plugrad_conformance.cases import Case, Level, select
from plugrad_conformance.report.levels import HELD, count, level_number, level_reached
from plugrad_conformance.session import Told, Worker, run_cases
from plugrad_conformance.suite import Suite

CONFORMANT: Final = 0
FAILURES: Final = 1
NOT_LOADABLE: Final = 2
NOTHING_RAN: Final = 3

LIMIT: Final = 120.0
"""Seconds for a case, and for loading the device, where no other number is asked for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a run.

    Attributes:
        level: the highest level whose cases run.
        ops: only cases of these ops, where there are any.
        names: only the cases of these names; None for all.
        jobs: how many workers.
        limit: seconds for a case.
        start_limit: seconds for loading the device.
    """

    level: Level = Level.L4
    ops: Sequence[str] = ()
    names: Sequence[str] | None = None
    jobs: int = 1
    limit: float = LIMIT
    start_limit: float = LIMIT

    @property
    def filtered(self) -> bool:
        """Whether some of the level's cases are left out."""
        return bool(self.ops) or self.names is not None


class NotLoadable(DeviceError):
    """The device under test does not load; the reason is in the message."""


class NothingRan(ArgumentError):
    """No case is chosen."""


def conduct(
    device: str,
    asked: Asked,
    folder: Path,
    *,
    begun: Callable[[Sequence[Case], Mapping[str, Any]], None],
    told: Told,
) -> dict[str, Any]:
    """Run the suite on a device.

    Args:
        device: the device's name.
        asked: which cases, and how.
        folder: where the workers' logs go; it is made if missing.
        begun: called with the cases and what is known of the device before the first case runs.
        told: called with each record as it comes.

    Returns:
        The report's document, without its digest.

    Raises:
        NotLoadable: if the device does not load.
        NothingRan: if no case is chosen, or one that is named does not exist.
    """
    # A name that is wrong for every device is told before the device is loaded.
    choose(Suite(), asked, device)
    _make(folder)
    workers = [Worker(device, folder / f"worker-{i}.log", asked.start_limit) for i in range(asked.jobs)]
    try:
        if trouble := workers[0].start():
            raise NotLoadable(f"{device} does not load: {trouble}")
        facts = workers[0].facts
        suite = Suite(facts["lacks"])
        cases = choose(suite, asked, facts["device"]["backend"])
        begun(cases, facts)
        # One of no case, or of a case that is not the device's own, excuses nothing.
        own = {c.id for c in suite.listed()}
        waivers = {case: reason for case, reason in facts["waivers"].items() if case in own}
        start = time.perf_counter()

        def judged(record: dict[str, Any]) -> None:
            _waive(record, waivers)
            told(record)

        records = run_cases(workers, cases, limit=asked.limit, told=judged)
        seconds = time.perf_counter() - start
    finally:
        for worker in workers:
            worker.stop()
    levels = count(records, asked.level.name)
    return {
        "format": 1,
        "plugrad": VERSION,
        "suite": suite.hash,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "device": facts["device"],
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "numpy": np.__version__,
        },
        "asked": {
            "level": asked.level.name,
            "ops": list(asked.ops),
            "cases": None if asked.names is None else list(asked.names),
            "jobs": asked.jobs,
            "limit": asked.limit,
        },
        "filtered": asked.filtered,
        "levels": levels,
        "reached": level_reached(
            levels,
            dtypes=facts["device"]["dtypes"],
            devices=facts["device"]["devices"],
            filtered=asked.filtered,
        ),
        "claimed": facts["claimed"],
        "waivers": [
            {"case": c, "reason": r, "unexpected_pass": _UNEXPECTED in _message(records, c)}
            for c, r in waivers.items()
        ],
        "sources": _summed(records),
        "seconds": round(seconds, 3),
        "cases": records,
    }


def _make(folder: Path) -> None:
    """Make the folder of the report, without the logs of an earlier run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("worker-*.log"):
            old.unlink()
    except OSError as error:
        raise NothingRan(
            f"{folder}: no report can be written there: {error.strerror}; name another folder with -o"
        ) from error


def choose(suite: Suite, asked: Asked, backend: str) -> list[Case]:
    """The cases that are asked for.

    Args:
        suite: the suite, for all that the device lacks.
        asked: what is asked.
        backend: what the device is called in an error.

    Raises:
        NothingRan: if there are none, or a name is that of no case or op.
    """
    cases = suite.listed(int(asked.level))
    if asked.names is not None:
        cases = _named(suite, asked, asked.names, backend)
    for op in asked.ops:
        if any(c.op == op for c in cases):
            continue
        known = sorted({c.op for c in Suite().listed() if c.op})
        if op in known:
            what = f"up to {asked.level.name}" if asked.names is None else "that is named"
            raise NothingRan(f"no case {what} is of the op {op!r}")
        near = difflib.get_close_matches(op, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "plugrad ops lists them"
        raise NothingRan(f"no case is of an op {op!r}; {hint}")
    return [c for c in cases if not asked.ops or c.op in asked.ops]


def _named(suite: Suite, asked: Asked, names: Sequence[str], backend: str) -> list[Case]:
    try:
        cases = select(suite.listed(), names)
    except ArgumentError as error:
        everything = {c.id for c in Suite().listed()}
        if lacking := sorted(set(names) & everything - {c.id for c in suite.listed()}):
            raise NothingRan(f"{backend} has not what the case {lacking[0]} takes") from error
        raise NothingRan(str(error)) from error
    for case in cases:
        if case.level is not None and case.level > asked.level:
            raise NothingRan(f"{case.id} is a case of {case.level.name}, and --level is {asked.level.name}")
    return cases


_UNEXPECTED: Final = "is waived, and passes: take the waiver out of the manifest"


def _waive(record: dict[str, Any], waivers: Mapping[str, str]) -> None:
    """Mark a failure that the manifest waives, and fail a waived case that passes."""
    reason = waivers.get(record["id"])
    if reason is None:
        return
    if record["status"] == "passed":
        record["status"], record["message"] = "failed", f"it {_UNEXPECTED} ({reason})"
    elif record["status"] != "not_exercised":
        record["status"], record["message"] = "waived", f"{reason}; {record['message']}"


def _message(records: Sequence[Mapping[str, Any]], case: str) -> str:
    return next((r["message"] for r in records if r["id"] == case), "")


def _summed(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """What computed each op, over all its cases."""
    sums: dict[str, Counter[str]] = {}
    for record in records:
        if record["op"] is not None:
            sums.setdefault(record["op"], Counter()).update(record["sources"])
    return {op: {s: counts[s] for s in ("kernel", "body", "fallback")} for op, counts in sorted(sums.items())}


def verdict(document: Mapping[str, Any]) -> tuple[int, list[str]]:
    """The exit code of a run, and what is to be said of it.

    A run is conformant if all its cases hold, and what the manifest claims was reached where that was asked. One in
    which every case that counts was not exercised shows nothing.
    """
    lines = []
    statuses = {c["status"] for c in document["cases"] if c["level"] is not None}
    code = CONFORMANT if statuses <= set(HELD) else FAILURES
    if statuses <= {"not_exercised"}:
        lines.append("no case that counts for a level was exercised: nothing is shown")
        code = NOTHING_RAN
    claimed, reached = document["claimed"], document["reached"]
    if claimed is not None and not document["filtered"]:
        have = -1 if reached is None else level_number(reached)
        if have < level_number(claimed) <= level_number(document["asked"]["level"]):
            lines.append(f"the backend claims {claimed} and does not reach it")
            code = FAILURES
        elif have > level_number(claimed):
            lines.append(f"the backend claims {claimed} and reaches {reached}: its manifest can claim more")
    return code, lines


def rerun(document: Mapping[str, Any], n: int, folder: Path) -> list[str]:
    """Repeat cases of a report, chosen at random, on the device that it names; what came out otherwise.

    Raises:
        NotLoadable: if the device does not load.
    """
    counted = [c for c in document["cases"] if c["level"] is not None]
    chosen = random.sample(counted, min(n, len(counted)))
    by_id = {c["id"]: c for c in chosen}
    asked = Asked(names=list(by_id), limit=document["asked"]["limit"] or LIMIT)
    again = conduct(document["device"]["name"], asked, folder, begun=lambda *_: None, told=lambda _: None)
    return [
        f"{r['id']}: the report says {by_id[r['id']]['status']}, now it {_verb(r['status'])}"
        + (f": {r['message']}" if r["message"] else "")
        for r in again["cases"]
        if r["status"] != by_id[r["id"]]["status"]
    ]


def _verb(status: str) -> str:
    return {"passed": "passes", "failed": "fails"}.get(status, f"is {status.replace('_', ' ')}")
