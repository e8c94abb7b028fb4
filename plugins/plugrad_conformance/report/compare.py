"""Two reports side by side: two devices, or two versions of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plugrad_conformance.report.levels import HELD, STATUSES
from plugrad_conformance.report.schema import worst_error

WORST_RATIO: Final = 2.0
"""From where on two errors of a case count as different."""

TIME_RATIO: Final = 2.0
"""From where on two times of a case count as different."""

TIME_FLOOR: Final = 0.05
"""Times that differ by less, in seconds, are noise."""

_ORDER: Final = ("reached", "status", "level", "worst", "time")
_STYLES: Final = {
    "passed": "green",
    "not_exercised": "bright_black",
    "failed": "bold red",
    "unsupported": "yellow",
    "waived": "magenta",
}


@dataclass(frozen=True)
class Difference:
    """What differs between two reports.

    Attributes:
        what: ``"reached"`` (the level of the whole report), ``"status"``, ``"level"``, ``"worst"`` or ``"time"``.
        case: the case's id; empty for ``"reached"``.
        a: the value in the first report, None where it has no such case, or no level.
        b: the same in the second.
        ratio: ``b / a`` for errors and times, infinite where ``a`` is zero; None for the others.
        unit: the unit of the values: ``"ULP"``, ``"bound"``, ``"s"``, or empty.
        worse: whether the second is the worse one.
    """

    what: str
    case: str
    a: Any
    b: Any
    ratio: float | None = None
    unit: str = ""
    worse: bool = False


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """The differences between two reports: what is worse in the second first, then by what differs, then by case.

    A case that only one report has differs in its status. Errors differ beyond a factor of `WORST_RATIO`, in the
    same unit; times beyond a factor of `TIME_RATIO`, and at least `TIME_FLOOR` seconds.
    """
    rows: list[Difference] = []
    if a["reached"] != b["reached"]:
        worse = _rank(b["reached"]) < _rank(a["reached"])
        rows.append(Difference("reached", "", a["reached"], b["reached"], worse=worse))
    in_a, in_b = ({c["id"]: c for c in document["cases"]} for document in (a, b))
    for id in sorted(in_a.keys() | in_b.keys()):
        rows += _of_case(id, in_a.get(id), in_b.get(id))
    return sorted(rows, key=lambda r: (not r.worse, _ORDER.index(r.what), r.case))


def print_comparison(
    console: Console, a: Mapping[str, Any], b: Mapping[str, Any], *, limit: int | None = 200
) -> None:
    """Print two reports side by side, then how their cases differ.

    Args:
        console: where to.
        a: the first report.
        b: the second.
        limit: the most differences to print; None for all.
    """
    rows = compare(a, b)
    console.print(_heads(a, b))
    console.print(_level_table(a, b))
    if a["suite"] != b["suite"]:
        console.print(
            Text("The reports are of different versions of the suite: their cases may differ.", "yellow")
        )
    shared = len({c["id"] for c in a["cases"]} & {c["id"] for c in b["cases"]})
    if not rows:
        console.print(f"No differences in {shared} cases.")
        return
    console.print(_difference_table(rows[:limit]))
    if limit is not None and len(rows) > limit:
        console.print(f"... and {len(rows) - limit} more differences")
    worse = sum(r.worse for r in rows)
    console.print(f"{len(rows)} differences in {shared} cases that both have; B is worse in {worse}.")


def _of_case(id: str, a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> list[Difference]:
    if a is None or b is None:
        status_a, status_b = (None if case is None else case["status"] for case in (a, b))
        return [Difference("status", id, status_a, status_b, worse=a is None and status_b not in HELD)]
    rows = []
    if a["status"] != b["status"]:
        worse = a["status"] in HELD and b["status"] not in HELD
        rows.append(Difference("status", id, a["status"], b["status"], worse=worse))
    if a["level"] != b["level"]:
        rows.append(Difference("level", id, _level(a), _level(b)))
    worst_a, worst_b = worst_error(a), worst_error(b)
    if a["unit"] == b["unit"] and worst_a is not None and worst_b is not None:
        ratio = _ratio(worst_a, worst_b)
        if not 1 / WORST_RATIO <= ratio <= WORST_RATIO:
            unit = a["unit"] or ""
            rows.append(Difference("worst", id, worst_a, worst_b, ratio, unit, worse=ratio > 1))
    ratio = _ratio(a["seconds"], b["seconds"])
    if not 1 / TIME_RATIO <= ratio <= TIME_RATIO and abs(a["seconds"] - b["seconds"]) >= TIME_FLOOR:
        rows.append(Difference("time", id, a["seconds"], b["seconds"], ratio, "s", worse=ratio > 1))
    return rows


def _ratio(a: float, b: float) -> float:
    """``b / a``; 1 where both are the same, be it zero or infinite."""
    if a == b:
        return 1.0
    return math.inf if a == 0 else b / a


def _level(case: Mapping[str, Any]) -> str | None:
    return None if case["level"] is None else f"L{case['level']}"


def _rank(reached: str | None) -> int:
    return -1 if reached is None else int(reached.partition("-")[0][1:])


def _heads(a: Mapping[str, Any], b: Mapping[str, Any]) -> Table:
    """What was run, and how far each got."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for letter, document in (("A", a), ("B", b)):
        table.add_column(Text(f"{letter}: {document['device']['name']}"), overflow="fold")

    def row(title: str, *values: str) -> None:
        left, right = values
        table.add_row(Text(title), Text(left), Text(right, "" if left == right else "bold"))

    documents = (a, b)
    row("level reached", *(_reached(d) for d in documents))
    row("level claimed", *(d["claimed"] or "none" for d in documents))
    row("description", *(d["device"]["description"] for d in documents))
    row("distribution", *(f"{d['device']['distribution']} {d['device']['version']}" for d in documents))
    row("plugrad", *(d["plugrad"] for d in documents))
    row("suite", *(d["suite"][:16] for d in documents))
    row("created", *(d["created"] for d in documents))
    row("asked for", *(d["asked"]["level"] for d in documents))
    row("dtypes", *(" ".join(d["device"]["dtypes"]) for d in documents))
    row("time", *(f"{d['seconds']:.1f} s" for d in documents))
    row("waivers", *(str(len(d["waivers"])) for d in documents))
    return table


def _level_table(a: Mapping[str, Any], b: Mapping[str, Any]) -> Table:
    """A row per level and status that occurs, with both counts."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("level", no_wrap=True)
    table.add_column("cases")
    table.add_column("A", justify="right")
    table.add_column("B", justify="right")
    in_a, in_b = ({item["level"]: item for item in document["levels"]} for document in (a, b))
    for level in sorted(in_a.keys() | in_b.keys()):
        shown = level
        for key in ("cases", *STATUSES):
            counts = [None if level not in d else d[level][key] for d in (in_a, in_b)]
            if key not in ("cases", "passed") and not any(counts):
                continue
            left, right = ("-" if c is None else str(c) for c in counts)
            table.add_row(
                Text(shown),
                Text("all" if key == "cases" else key.replace("_", " "), _STYLES.get(key, "")),
                Text(left),
                Text(right, "" if left == right else "bold"),
            )
            shown = ""
    return table


def _difference_table(rows: Sequence[Difference]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("differs", no_wrap=True)
    table.add_column("case", overflow="fold")
    table.add_column("A", justify="right")
    table.add_column("B", justify="right")
    table.add_column("B / A", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(row.what, "red" if row.worse else ""),
            Text(row.case or "the whole report"),
            _value(row, row.a),
            _value(row, row.b),
            Text("" if row.ratio is None else f"{row.ratio:.3g}"),
        )
    return table


def _value(row: Difference, value: Any) -> Text:
    if row.what == "status":
        return Text("no such case" if value is None else value.replace("_", " "), _STYLES.get(value, "dim"))
    if row.ratio is not None:
        return Text(f"{value:.3g} {row.unit}")
    return Text("none" if value is None else str(value))


def _reached(document: Mapping[str, Any]) -> str:
    return "filtered run: no level" if document["filtered"] else document["reached"] or "none"
