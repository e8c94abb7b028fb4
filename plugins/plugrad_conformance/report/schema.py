"""The shape of report.json, format 1, and what a case's id says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plugrad.dtypes import ALL

FORMAT: Final = 1
"""The format that is written and read."""

_NUMBER: Final = (int, float)
_COUNTS: Final = {"kernel": int, "body": int, "fallback": int}


@dataclass(frozen=True)
class _Each:
    """An object of any keys whose values all have one shape."""

    shape: Any


_CASE: Final[dict[str, Any]] = {
    "id": str,
    "kind": str,
    "op": (str, None),
    "direction": (str, None),
    "dtype": (str, None),
    "level": (int, None),  # null: told, and not counted for any level
    "status": str,
    "message": str,
    "worst": (int, float, str, None),
    "unit": (str, None),
    "seconds": _NUMBER,
    "samples": int,
    "sources": _COUNTS,
}
_SHAPE: Final[dict[str, Any]] = {
    "format": int,
    "plugrad": str,
    "suite": str,
    "created": str,
    "device": {
        "name": str,
        "backend": str,
        "distribution": str,
        "version": str,
        "description": str,
        "dtypes": [str],
        "devices": int,
    },
    "environment": _Each(str),
    "asked": {
        "level": str,
        "ops": [str],
        "cases": (str, list, None),
        "jobs": int,
        "limit": (int, float, None),
    },
    "filtered": bool,
    "levels": [
        {
            "level": str,
            "cases": int,
            "passed": int,
            "not_exercised": int,
            "failed": int,
            "unsupported": int,
            "waived": int,
        }
    ],
    "reached": (str, None),
    "claimed": (str, None),
    "waivers": [{"case": str, "reason": str, "unexpected_pass": bool}],
    "sources": _Each(_COUNTS),
    "seconds": _NUMBER,
    "cases": [_CASE],
    "digest": str,
}
_NAMES: Final = {str: "a string", int: "an integer", float: "a number", bool: "true or false", None: "null"}


def shape_problems(document: Any, *, limit: int = 20) -> list[str]:
    """Where a document is not of the shape of a report: a line for each place, at most ``limit``.

    Keys that the format does not name are let pass, since later versions may add some.
    """
    problems: list[str] = []
    _check(document, _SHAPE, "", problems, limit)
    return problems[:limit]


def _check(value: Any, shape: Any, where: str, problems: list[str], limit: int) -> None:
    if len(problems) >= limit:
        return
    if isinstance(shape, (dict, _Each)):
        if not isinstance(value, dict):
            problems.append(f"{where or 'the document'}: is {_of(value)}, takes an object")
        elif isinstance(shape, _Each):
            for key, item in value.items():
                _check(item, shape.shape, f"{where}.{key}", problems, limit)
        else:
            for key, inner in shape.items():
                place = f"{where}.{key}" if where else key
                if key in value:
                    _check(value[key], inner, place, problems, limit)
                else:
                    problems.append(f"{place}: is missing")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            problems.append(f"{where}: is {_of(value)}, takes a list")
            return
        for index, item in enumerate(value):
            _check(item, shape[0], f"{where}[{index}]", problems, limit)
    else:
        taken = shape if isinstance(shape, tuple) else (shape,)
        if not any(_is(value, kind) for kind in taken):
            words = list(dict.fromkeys(_NAMES.get(k, "a list") for k in taken))
            problems.append(f"{where}: is {_of(value)}, takes {' or '.join(words)}")


def _is(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if kind is not bool and isinstance(value, bool):
        return False
    return isinstance(value, kind)


def _of(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def worst_error(case: Mapping[str, Any]) -> float | None:
    """The largest error of a result record as a number; what is no number, or NaN, is infinite."""
    if case["worst"] is None:
        return None
    try:
        error = float(case["worst"])
    except (ValueError, OverflowError):
        return math.inf
    return math.inf if math.isnan(error) else error


_DTYPE_NAMES: Final = frozenset(d.name for d in ALL)
_PART: Final = re.compile(r"[^\s/\x00-\x1f\x7f]+")
_SUBJECT: Final = re.compile(r"(?P<op>.+?)(?P<vjp>\.vjp(?:\.[^.]+)?)?")


@dataclass(frozen=True)
class CaseName:
    """The parts of a case's id, ``kind/subject/dtype/variant``; parts that do not apply are left out.

    Attributes:
        kind: the kind of test, such as ``"layout"``.
        subject: the op or the thing under test, such as ``"add.vjp"`` or ``"host-is-copied"``.
        dtype: the name of the dtype, None without one.
        variant: what is left, such as ``"transposed"``, None without one.
    """

    kind: str
    subject: str
    dtype: str | None = None
    variant: str | None = None

    @property
    def op(self) -> str:
        """The subject less its ``.vjp`` and what follows that: ``"conv"`` for ``"conv.vjp.weight"``."""
        match = _SUBJECT.fullmatch(self.subject)
        return match["op"] if match else self.subject

    @property
    def direction(self) -> str:
        """``"vjp"`` if the kind or the subject says so, else ``"forward"``."""
        match = _SUBJECT.fullmatch(self.subject)
        return "vjp" if self.kind == "vjp" or (match and match["vjp"]) else "forward"


def parse_id(id: str) -> CaseName:
    """The parts of a case's id.

    Raises:
        ValueError: if it has not two to four parts, or a part is empty or holds white space.
    """
    parts = id.split("/")
    if not 2 <= len(parts) <= 4 or not all(_PART.fullmatch(p) for p in parts):
        raise ValueError(
            f"{id!r} is no case id: it takes kind/subject[/dtype][/variant] without white space, "
            "such as forward/add/float32"
        )
    kind, subject, *rest = parts
    dtype = rest.pop(0) if rest and rest[0] in _DTYPE_NAMES else None
    if len(rest) > 1:
        raise ValueError(
            f"{id!r} is no case id: its third part of four takes a dtype, and {rest[0]!r} is none"
        )
    return CaseName(kind, subject, dtype, rest[0] if rest else None)
