"""report.json, written and read.

A report is one JSON object (`plugrad_conformance.report.schema` has its shape). It carries a digest of itself,
so that an edit made by mistake is found; whoever forges one can forge the digest too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from plugrad.errors import DataError
from plugrad_conformance.report.html import page
from plugrad_conformance.report.junit import junit
from plugrad_conformance.report.schema import FORMAT, shape_problems

Document = dict[str, Any]

_NAMES: Final = ("report.json", "junit.xml", "report.html")


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of everything in a document but its digest: 64 hexadecimal digits.

    Canonical JSON has sorted keys, no white space between its tokens, and ASCII alone.
    """
    rest = {key: value for key, value in document.items() if key != "digest"}
    text = json.dumps(_plain(rest), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read(path: str | os.PathLike[str]) -> Document:
    """The document in a report.json, of the right shape; whether it is consistent, `verify` says.

    Args:
        path: the file, or the folder that holds it under the name ``report.json``.

    Raises:
        DataError: if it is missing, cannot be read, is cut short, or is no report of this format.
    """
    path = Path(path)
    if path.is_dir():
        path /= _NAMES[0]
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: there is no such report; `plugrad conformance run DEVICE -o FOLDER` writes one"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: the report cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no report: not text in UTF-8 ({error.reason})") from error
    if not text.strip():
        raise DataError(f"{path}: is no report: the file is empty")
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        started = text.lstrip()[:1] == "{"
        if started and isinstance(error, json.JSONDecodeError) and _is_cut(text, error):
            raise DataError(f"{path}: the report is cut short after {len(text)} characters") from error
        raise DataError(f"{path}: is no report: not JSON ({error})") from error
    if not isinstance(document, dict) or "format" not in document or "cases" not in document:
        raise DataError(f"{path}: is JSON, but no report of the conformance suite")
    if document["format"] != FORMAT:
        raise DataError(
            f"{path}: is a report of format {document['format']!r}, this version of plugrad reads format "
            f"{FORMAT}; read it with the version that wrote it ({document.get('plugrad', 'unknown')})"
        )
    problems = shape_problems(document)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{path}: is no whole report: {problems[0]}{more}")
    return document


def write(folder: str | os.PathLike[str], document: Mapping[str, Any]) -> Path:
    """Write ``report.json``, ``junit.xml`` and ``report.html``, each whole or not at all.

    Numbers that JSON has no words for become the strings ``"inf"``, ``"-inf"`` and ``"nan"``; the digest is
    computed here.

    Args:
        folder: where to; it is made if missing.
        document: the report, with or without its digest.

    Returns:
        The path of report.json.

    Raises:
        DataError: if the document has not the shape of a report, or the files cannot be written.
    """
    folder = Path(folder)
    whole: Document = _plain(document)
    whole["digest"] = digest(whole)
    problems = shape_problems(whole)
    if problems:
        raise DataError(f"report: the document is no whole report: {'; '.join(problems)}")
    texts = (json.dumps(whole, indent=1, allow_nan=False) + "\n", junit(whole), page(whole))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip(_NAMES, texts, strict=True):
            _write_whole(folder / name, text)
    except OSError as error:
        raise DataError(
            f"{folder}: the report cannot be written there: {error.strerror or error}; name another folder with -o"
        ) from error
    return folder / _NAMES[0]


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """A copy of what JSON can hold: mappings, sequences, and numbers that it has words for."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Whether a JSON text stops too early, as against being wrong somewhere."""
    end = text.rstrip()
    return not end.endswith("}") or error.pos >= len(end)
