"""A run from its question to its report: load the device, choose the cases, run them, count, and judge."""

from __future__ import annotations

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

from plugrad.errors import ArgumentError, DataError, DeviceError
from plugrad.version import VERSION
from plugrad_conformance.cases import Case, Level, select
from plugrad_conformance.report.levels import HELD, count, level_number, level_reached
from plugrad_conformance.session import Told, Worker, run_cases
from plugrad_conformance.suite import Suite

CONFORMANT: Final = 0
FAILURES: Final = 1
NOT_LOADABLE: Final = 2
NOTHING_RAN: Final = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a run.

    Attributes:
        level: the highest level whose cases run.
        ops: only cases of these ops, where there are any.
        names: only the cases of these names; None for all.
        jobs: how many workers.
        limit: seconds for a case.
    """

    level: Level = Level.L4
    ops: Sequence[str] = ()
    names: Sequence[str] | None = None
    jobs: int = 1
    limit: float = 120.0

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
    begun: Callable[[int, Mapping[str, Any]], None],
    told: Told,
) -> dict[str, Any]:
    """Run the suite on a device.

    Args:
        device: the device's name.
        asked: which cases, and how.
        folder: where the workers' logs go; it is made if missing.
        begun: called with the number of cases and what is known of the device before the first case.
        told: called with each record as it comes.

    Returns:
        The report's document, without its digest.

    Raises:
        NotLoadable: if the device does not load.
        NothingRan: if no case is chosen, or one that is named does not exist.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder}: no folder can be made there: {error.strerror}; name another with -o"
        ) from error
    for old in folder.glob("worker-*.log"):
        old.unlink()
    facts = facts_of(device, folder)
    suite = Suite(facts["lacks"])
    cases = _chosen(suite, asked, facts["device"]["backend"])
    begun(len(cases), facts)
    waivers: Mapping[str, str] = facts["waivers"]
    start = time.perf_counter()

    def judged(record: dict[str, Any]) -> None:
        _waive(record, waivers)
        told(record)

    records = run_cases(
        facts["device"]["name"], cases, jobs=asked.jobs, limit=asked.limit, folder=folder, told=judged
    )
    seconds = time.perf_counter() - start
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


def facts_of(device: str, folder: Path) -> dict[str, Any]:
    """What a worker tells of the device.

    Raises:
        NotLoadable: if it does not load.
    """
    worker = Worker(device, folder / "worker-0.log")
    trouble = worker.start()
    worker.stop()
    if trouble:
        raise NotLoadable(f"{device}: {trouble}")
    return worker.facts


def _chosen(suite: Suite, asked: Asked, backend: str) -> list[Case]:
    cases = suite.listed(int(asked.level))
    if asked.names is not None:
        try:
            cases = select(suite.listed(), asked.names)
        except ArgumentError as error:
            everything = {c.id for c in Suite().listed()}
            if lacking := sorted(set(asked.names) & everything - {c.id for c in suite.listed()}):
                raise NothingRan(f"{backend} has not what the case {lacking[0]} takes") from error
            raise NothingRan(str(error)) from error
    if asked.ops:
        known = {c.op for c in cases if c.op}
        if unknown := [op for op in asked.ops if op not in known]:
            raise NothingRan(f"no case is of an op {unknown[0]!r}; plugrad ops lists them")
        cases = [c for c in cases if c.op in asked.ops]
    if not cases:
        raise NothingRan("no case is chosen")
    return cases


_UNEXPECTED: Final = "is waived, and passes: take the waiver out of the manifest"


def _waive(record: dict[str, Any], waivers: Mapping[str, str]) -> None:
    """Mark a failure that the manifest waives, and fail a waived case that passes."""
    reason = waivers.get(record["id"])
    if reason is None:
        return
    if record["status"] in HELD:
        record["status"], record["message"] = "failed", f"it {_UNEXPECTED} ({reason})"
    else:
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

    A run is conformant if all its cases hold, and what the manifest claims was reached where that was asked.
    """
    lines = []
    held = all(c["status"] in HELD for c in document["cases"] if c["level"] is not None)
    code = CONFORMANT if held else FAILURES
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
    asked = Asked(names=list(by_id), limit=document["asked"]["limit"] or 120.0)
    again = conduct(document["device"]["name"], asked, folder, begun=lambda *_: None, told=lambda _: None)
    return [
        f"{r['id']}: the report says {by_id[r['id']]['status']}, now it {_verb(r['status'])}"
        + (f": {r['message']}" if r["message"] else "")
        for r in again["cases"]
        if r["status"] != by_id[r["id"]]["status"]
    ]


def _verb(status: str) -> str:
    return {"passed": "passes", "failed": "fails"}.get(status, f"is {status.replace('_', ' ')}")
