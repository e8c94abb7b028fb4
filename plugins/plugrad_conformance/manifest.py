"""A backend's manifest: ``conformance.toml`` beside its package's modules, with what it claims and what it waives::

    claimed = "L3"

    [[waivers]]
    case = "special/erf/float16"
    reason = "erf of subnormal numbers is flushed to zero by the hardware"

A waiver names one case, with no wildcard. It counts against the level all the same; it says that the failure is known.
A waived case that passes is an error, so that waivers do not outlive what they excuse.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from plugrad.errors import DataError
from plugrad_conformance.cases import Level

NAME: Final = "conformance.toml"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backend says of itself.

    Attributes:
        claimed: the level that it claims, such as ``"L2"``, or None.
        waivers: reasons by the name of the case.
    """

    claimed: str | None = None
    waivers: Mapping[str, str] = field(default_factory=dict)


def manifest_of(backend: object) -> Manifest:
    """The manifest in the package that the backend's class comes from; an empty one where there is none.

    Raises:
        DataError: as `read`.
    """
    module = type(backend).__module__
    while module:
        try:
            spec = find_spec(module)
        except ValueError:  # a module that no file was found for, such as the script that is run
            return Manifest()
        # A module that stands by itself has no folder of its own, so no manifest.
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            path = Path(folder) / NAME
            if path.is_file():
                return read(path)
        module = module.rpartition(".")[0]
    return Manifest()


def read(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        DataError: if it is no TOML, or says something that is none of a manifest's.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    _only(path, document, ("claimed", "waivers"), "a manifest")
    claimed = document.get("claimed")
    levels = [level.name for level in Level]
    if claimed is not None and claimed not in levels:
        raise DataError(f"{path}: claimed is {claimed!r}, takes one of {', '.join(levels)}")
    entries = document.get("waivers", [])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise DataError(f"{path}: waivers is no list of tables; write [[waivers]] before each")
    waivers: dict[str, str] = {}
    for entry in entries:
        _only(path, entry, ("case", "reason"), "a waiver")
        case, reason = entry.get("case"), entry.get("reason")
        if not isinstance(case, str) or not isinstance(reason, str) or not case.strip() or not reason.strip():
            raise DataError(f"{path}: a waiver takes a case and a reason, got {entry!r}")
        if case in waivers:
            raise DataError(f"{path}: {case} is waived twice")
        waivers[case] = reason
    return Manifest(claimed, waivers)


def check_names(path: object, waivers: Collection[str], known: Collection[str]) -> None:
    """Raise if a waiver is of no case.

    Raises:
        DataError: naming it.
    """
    for case in waivers:
        if case not in known:
            raise DataError(f"{path}: it waives {case!r}, and no case of the suite is named so")


def _only(path: Path, table: Mapping[str, Any], keys: Collection[str], what: str) -> None:
    for key in table:
        if key not in keys:
            raise DataError(f"{path}: {key!r} is no key of {what}; there are {', '.join(keys)}")
