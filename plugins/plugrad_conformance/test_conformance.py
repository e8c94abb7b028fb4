"""Each case of the suite as a test; see `plugrad_conformance.conftest` for the options."""

from __future__ import annotations

import pytest

from plugrad_conformance.cases import Case
from plugrad_conformance.running import run_case
from plugrad_conformance.subject import Subject


def test_case(case: Case, subject: Subject) -> None:
    """A case that holds passes, one that the device gives no occasion for is skipped, any other fails."""
    record = run_case(case, subject)
    if record["status"] == "not_exercised":
        pytest.skip(record["message"])
    if record["status"] != "passed":
        pytest.fail(f"{record['status']}: {record['message']}", pytrace=False)
