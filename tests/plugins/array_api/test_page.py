"""The page on wrapping an array library shows the distribution that is installed and held to the suite, as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize("name", ["pyproject.toml", "plugrad_strict.py"])
def test_the_page_shows_the_file(name: str) -> None:
    page = (DOCS / "how-to" / "wrap-an-array-library.md").read_text(encoding="utf-8")
    file = (DOCS / "examples" / "plugrad-strict-backend" / name).read_text(encoding="utf-8")
    assert file in re.findall(r"^```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
