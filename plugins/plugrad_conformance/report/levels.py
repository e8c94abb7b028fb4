"""Statuses, counts and levels: what a level means, and how far a device got."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

LEVELS: Final[dict[str, str]] = {
    "L0": "plugin and memory",
    "L1": "forward in float32, errors",
    "L2": "training: gradients in float32",
    "L3": "other dtypes, layouts, special values, into, determinism",
    "L4": "queues, threads, leaks, random numbers, several devices",
}
"""The levels by name, lowest first, and what each is about."""

STATUSES: Final = ("passed", "not_exercised", "failed", "unsupported", "waived")
"""What can come of a case. The first two count for a level, the others against it."""

HELD: Final = ("passed", "not_exercised")
"""The statuses that count for a level."""

_OPTIONAL_DTYPES: Final = ("float64", "float16", "bfloat16")
_DTYPES_LEVEL: Final = 3
_DEVICES_LEVEL: Final = 4


def level_number(name: str) -> int:
    """The number in a level's name, 3 for ``"L3"`` and for ``"L3-nobf16"``.

    Raises:
        ValueError: if there is no such level.
    """
    level = name.partition("-")[0]
    if level not in LEVELS:
        raise ValueError(f"{name!r} is no level; the levels are {', '.join(LEVELS)}")
    return list(LEVELS).index(level)


def count(cases: Iterable[Mapping[str, Any]], asked: str) -> list[dict[str, Any]]:
    """How many cases of each level came to which status.

    Args:
        cases: result records; each has a ``level`` and a ``status``. One whose level is None counts for none.
        asked: the name of the highest level asked for; every level up to it has an item, with or without cases.
    """
    counts = [
        {"level": name, "cases": 0, **dict.fromkeys(STATUSES, 0)}
        for name in list(LEVELS)[: level_number(asked) + 1]
    ]
    for case in cases:
        if case["level"] is None:
            continue
        item = counts[case["level"]]
        item["cases"] += 1
        item[case["status"]] += 1
    return counts


def level_reached(
    levels: Sequence[Mapping[str, Any]], *, dtypes: Iterable[str], devices: int, filtered: bool
) -> str | None:
    """The level that a run reached, with its suffixes; None below L0 and for a filtered run.

    A level means 100 % of its cases, and of all levels below: each passed or was not exercised, and at least
    one passed, since a level without a pass shows nothing. Unsupported and waived count as failed. What not
    every device has is a suffix, not a waiver: ``nofp64``, ``nofp16``, ``nobf16`` from L3 on, where other
    dtypes are held to account, and ``onedevice`` from L4 on.

    Args:
        levels: the counts, as `count` makes them, from L0 up.
        dtypes: names of the dtypes that the device has.
        devices: how many devices the backend has.
        filtered: whether only some of the cases ran.
    """
    if filtered:
        return None
    number = -1
    for expected, item in enumerate(levels):
        whole = item["passed"] >= 1 and sum(item[s] for s in HELD) == item["cases"]
        if item["level"] != f"L{expected}" or not whole:
            break
        number = expected
    if number < 0:
        return None
    suffixes = []
    if number >= _DTYPES_LEVEL:
        have = set(dtypes)
        suffixes += [f"no{_short(d)}" for d in _OPTIONAL_DTYPES if d not in have]
    if number >= _DEVICES_LEVEL and devices < 2:
        suffixes.append("onedevice")
    return "-".join([f"L{number}", *sorted(suffixes)])


def _short(dtype: str) -> str:
    """``fp16`` for float16, ``bf16`` for bfloat16."""
    return dtype.replace("bfloat", "bf").replace("float", "fp")
