"""report.html: one file that shows a report, without a network and without a server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from plugrad_conformance.report.levels import LEVELS


def page(document: Mapping[str, Any]) -> str:
    """The page: template, style, script and the report itself, in one text.

    The report lies in it as JSON, which the script shows as text and never as markup. The page's own policy
    (https://www.w3.org/TR/CSP3/) lets run this very script and style, and load nothing.
    """
    style, script = _template("page.css"), _template("page.js")
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    text = _template("page.html")
    for mark, content in (
        ("{{policy}}", policy),
        ("{{style}}", style),
        ("{{script}}", script),
        ("{{report}}", _embedded(document)),  # last, so that no mark within it is filled in
    ):
        text = text.replace(mark, content, 1)
    return text


def _embedded(document: Mapping[str, Any]) -> str:
    """JSON that no content can end: an HTML parser leaves a script at ``</script``, or hides it after ``<!--``."""
    text = json.dumps({"report": document, "about": LEVELS}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _template(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
