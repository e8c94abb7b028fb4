"""The pages on making backends show the distributions that are installed and held to the suite, as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "example", "name"),
    [
        (page, example, name)
        for page, example, module in (
            ("wrap-an-array-library", "plugrad-strict-backend", "plugrad_strict.py"),
            ("generate-kernels", "plugrad-c-backend", "plugrad_c.py"),
        )
        for name in ("pyproject.toml", module)
    ],
)
def test_the_page_shows_the_file(page: str, example: str, name: str) -> None:
    text = (DOCS / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    file = (DOCS / "examples" / example / name).read_text(encoding="utf-8")
    assert file in re.findall(r"^```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
