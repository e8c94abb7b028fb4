"""``pytest --pyargs plugrad_conformance --device DEVICE``: the options, and a test for each case."""

from __future__ import annotations

import pytest

from plugrad.errors import PlugradError
from plugrad_conformance.cases import Level
from plugrad_conformance.subject import Subject
from plugrad_conformance.suite import Suite


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a run."""
    group = parser.getgroup("plugrad conformance")
    group.addoption("--device", default=None, help="the device under test; it must be named")
    group.addoption("--level", default="L4", choices=[v.name for v in Level], help="the highest level to run")
    group.addoption("--op", action="append", default=[], help="only the cases of this op; may be repeated")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each case."""
    if "case" not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption
    if option("device") is None:
        raise pytest.UsageError(
            "name the device under test: pytest --pyargs plugrad_conformance --device DEVICE"
        )
    try:
        subject = Subject(option("device"))
    except PlugradError as error:
        raise pytest.UsageError(str(error)) from error
    cases = [
        c
        for c in Suite(subject.lacks).listed(int(Level[option("level")]))
        if c.level is not None and (not option("op") or c.op in option("op"))
    ]
    metafunc.parametrize("case", cases, ids=[c.id for c in cases])


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The device under test."""
    return Subject(request.config.getoption("--device"))
