"""Whether a report holds together: with itself, and with the installed suite."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from plugrad.dtypes import ALL
from plugrad_conformance.report.document import digest
from plugrad_conformance.report.levels import LEVELS, STATUSES, count, level_number, level_reached
from plugrad_conformance.report.schema import FORMAT, parse_id, shape_problems, worst_error

NOTE: Final = "note: "
"""How a line starts that tells something and is no inconsistency."""

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_CREATED: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_SOURCES: Final = ("kernel", "body", "fallback")
_WORDS: Final = ("inf", "nan")
_SHOWN: Final = 5


class Suite(Protocol):
    """What a report is held against: the cases of the installed suite, for the device that the report records."""

    @property
    def hash(self) -> str:
        """The suite's hash: 64 hexadecimal digits."""

    def cases(self, levels: Sequence[int]) -> Mapping[str, int | None]:
        """The ids of all cases of some levels, each with its level; None for one that counts for none."""


def verify(document: Mapping[str, Any], suite: Suite) -> list[str]:
    """The inconsistencies of a report, a line each; none for a sound one.

    This finds mistakes and careless edits. It is no proof against forgery: whoever edits a result, every count
    that follows from it and the digest, writes a consistent report; only running the cases again tells.

    Args:
        document: the report.
        suite: the installed suite. If the report is of another version of it, a line that starts with
            ``"note: "`` says so, and only what the report says of itself is held against itself.
    """
    shape = shape_problems(document)
    if shape:
        return shape
    lines = [*_head(document), *_names(document), *_records(document)]
    statuses_known = all(c["status"] in STATUSES for c in document["cases"])
    levels_known = all(_is_level(c["level"]) for c in document["cases"])
    if document["asked"]["level"] in LEVELS:
        if statuses_known and levels_known:
            lines += _counts(document)
        lines += _reached(document)
        lines += _waivers(document)
        lines += _against(document, suite)
    return [*lines, *_sources(document)]


def _head(document: Mapping[str, Any]) -> Iterator[str]:
    """Format, digest, and values outside what is taken."""
    if document["format"] != FORMAT:
        yield f"format: is {document['format']}, this version of plugrad writes {FORMAT}"
    right = digest(document)
    if document["digest"] != right:
        yield f"digest: is {document['digest'][:16]}..., the content's is {right[:16]}...: it was edited"
    if not _HASH.fullmatch(document["suite"]):
        yield f"suite: is {document['suite']!r}, takes a SHA-256 in hexadecimal"
    if not _CREATED.fullmatch(document["created"]):
        yield f"created: is {document['created']!r}, takes a time such as 2026-01-31T12:00:00Z"
    if not 0 <= document["seconds"] < math.inf:
        yield f"seconds: is {document['seconds']}, takes a number from 0 up"
    asked, claimed = document["asked"], document["claimed"]
    if asked["level"] not in LEVELS:
        yield f"asked.level: is {asked['level']!r}, takes one of {', '.join(LEVELS)}"
    if claimed is not None and claimed.partition("-")[0] not in LEVELS:
        yield f"claimed: is {claimed!r}, takes null or one of {', '.join(LEVELS)}"
    filtered = bool(asked["ops"] or asked["cases"])
    if document["filtered"] != filtered:
        what = "some ops or cases" if filtered else "every op and case"
        yield f"filtered: is {str(document['filtered']).lower()}, but {what} were asked for"
    device = document["device"]
    unknown = set(device["dtypes"]) - {d.name for d in ALL}
    if unknown:
        yield f"device.dtypes: {_few(sorted(unknown))}: no such dtype"
    if len(set(device["dtypes"])) != len(device["dtypes"]):
        yield "device.dtypes: names a dtype twice"
    if device["devices"] < 0:
        yield f"device.devices: is {device['devices']}, takes no negative number"


def _names(document: Mapping[str, Any]) -> Iterator[str]:
    """Each id parses, stands once, and says what its record says."""
    twice = [id for id, times in Counter(c["id"] for c in document["cases"]).items() if times > 1]
    if twice:
        yield f"cases: {_few(twice)}: more than once"
    for case in document["cases"]:
        try:
            name = parse_id(case["id"])
        except ValueError as error:
            yield f"cases: {error}"
            continue
        said = {"kind": name.kind, "dtype": name.dtype}
        if case["op"] is not None:
            said |= {"op": name.op, "direction": name.direction}
        for key, value in said.items():
            if case[key] != value:
                yield f"{case['id']}: {key} is {case[key]!r}, its id says {value!r}"


def _records(document: Mapping[str, Any]) -> Iterator[str]:
    """Each record's values fit together."""
    for case in document["cases"]:
        id, status = case["id"], case["status"]
        if status not in STATUSES:
            yield f"{id}: status is {status!r}, takes one of {', '.join(STATUSES)}"
        if not _is_level(case["level"]):
            yield f"{id}: level is {case['level']}, takes null or 0 to {len(LEVELS) - 1}"
        if not 0 <= case["seconds"] < math.inf or min(case["samples"], *case["sources"].values()) < 0:
            yield f"{id}: a time or a count is not a number from 0 up"
        worst = worst_error(case)
        if worst is not None and (
            worst < 0 or (isinstance(case["worst"], str) and case["worst"] not in _WORDS)
        ):
            yield f"{id}: worst is {case['worst']!r}, takes null, a number from 0 up, 'inf' or 'nan'"
        if (case["worst"] is None) != (case["unit"] is None):
            yield f"{id}: worst and unit: one is null and the other is not"
        if case["unit"] not in (None, "ULP", "bound"):
            yield f"{id}: unit is {case['unit']!r}, takes null, 'ULP' or 'bound'"
        if status != "passed":
            if not case["message"]:
                yield f"{id}: is {status} without a message"
            continue
        if worst is not None and (worst == math.inf or (case["unit"] == "bound" and worst > 1)):
            yield f"{id}: passed with an error of {case['worst']} {case['unit']}"
        if case["op"] is not None and case["samples"] == 0:
            yield f"{id}: passed without a sample"
        if case["op"] is not None and case["sources"]["fallback"]:
            yield f"{id}: passed with {case['sources']['fallback']} calls computed by a fallback"


def _counts(document: Mapping[str, Any]) -> Iterator[str]:
    """The counts of each level are those of the cases."""
    asked = document["asked"]["level"]
    number = level_number(asked)
    above = [c["id"] for c in document["cases"] if c["level"] is not None and c["level"] > number]
    if above:
        yield f"cases: {_few(above)}: of a level above {asked}, which was asked for"
    over = set(above)
    counts = count((c for c in document["cases"] if c["id"] not in over), asked)
    names = [item["level"] for item in document["levels"]]
    if names != [item["level"] for item in counts]:
        yield f"levels: are {', '.join(names) or 'none'}, takes each from L0 to {asked}, in this order"
        return
    for given, right in zip(document["levels"], counts, strict=True):
        for key, value in right.items():
            if given[key] != value:
                yield f"levels: {right['level']}: {key} is {given[key]}, the cases give {value}"


def _reached(document: Mapping[str, Any]) -> Iterator[str]:
    device = document["device"]
    right = level_reached(
        document["levels"],
        dtypes=device["dtypes"],
        devices=device["devices"],
        filtered=document["filtered"] or bool(document["asked"]["ops"] or document["asked"]["cases"]),
    )
    if document["reached"] != right:
        yield f"reached: is {document['reached'] or 'none'}, the counts give {right or 'none'}"


def _waivers(document: Mapping[str, Any]) -> Iterator[str]:
    """Every waived case has a waiver, and every waiver its case."""
    waivers = document["waivers"]
    statuses = {c["id"]: c["status"] for c in document["cases"]}
    whole = not document["filtered"] and document["asked"]["level"] == list(LEVELS)[-1]
    twice = [id for id, times in Counter(w["case"] for w in waivers).items() if times > 1]
    if twice:
        yield f"waivers: {_few(twice)}: more than once"
    without = sorted({id for id, s in statuses.items() if s == "waived"} - {w["case"] for w in waivers})
    if without:
        yield f"cases: {_few(without)}: waived, and no waiver names it"
    for waiver in waivers:
        id = waiver["case"]
        status = statuses.get(id)
        if not waiver["reason"].strip():
            yield f"waivers: {id}: gives no reason"
        if status is None:
            if whole:
                yield f"waivers: {id}: there is no such case"
        elif waiver["unexpected_pass"] and status != "failed":
            yield f"waivers: {id}: passed unexpectedly, which counts as failed, but is {status}"
        elif not waiver["unexpected_pass"] and status not in ("waived", "not_exercised"):
            yield f"waivers: {id}: is waived, but the case is {status}"


def _sources(document: Mapping[str, Any]) -> Iterator[str]:
    """What computed each op is the sum over its cases."""
    sums: dict[str, Counter[str]] = {}
    for case in document["cases"]:
        if case["op"] is not None:
            sums.setdefault(case["op"], Counter()).update({s: case["sources"][s] for s in _SOURCES})
    nothing = dict.fromkeys(_SOURCES, 0)
    for name in sorted(sums.keys() | document["sources"].keys()):
        given, right = document["sources"].get(name, nothing), sums.get(name, nothing)
        for source in _SOURCES:
            if given[source] != right[source]:
                yield f"sources: {name}: {source} is {given[source]}, the cases give {right[source]}"


def _against(document: Mapping[str, Any], suite: Suite) -> Iterator[str]:
    """The cases are those of the installed suite, each on its level; a filtered run has some of them."""
    if document["suite"] != suite.hash:
        yield (
            f"{NOTE}the report is of another version of the suite ({document['suite'][:16]}..., "
            f"installed is {suite.hash[:16]}...): only its internal consistency was checked"
        )
        return
    right = suite.cases(range(level_number(document["asked"]["level"]) + 1))
    given = {c["id"]: c["level"] for c in document["cases"]}
    foreign = sorted(id for id, level in given.items() if level is not None and id not in right)
    if foreign:
        yield f"cases: {_few(foreign)}: not of the suite for such a device"
    for id in sorted(given.keys() & right.keys()):
        if given[id] != right[id]:
            yield f"{id}: level is {_word(given[id])}, the suite has it on {_word(right[id])}"
    if document["filtered"]:
        return
    for number, name in enumerate(LEVELS):
        missing = sorted(id for id, level in right.items() if level == number and id not in given)
        if missing:
            total = sum(level == number for level in right.values())
            yield f"cases: {name}: {len(missing)} of the suite's {total} are missing: {_few(missing)}"


def _is_level(level: int | None) -> bool:
    return level is None or 0 <= level < len(LEVELS)


def _word(level: int | None) -> str:
    return "none" if level is None else str(level)


def _few(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:_SHOWN])
    return f"{shown} and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else shown
