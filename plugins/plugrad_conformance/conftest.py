"""A test for each case of the suite; `plugrad_conformance.pytest_options` has the options."""

from __future__ import annotations

from typing import Final

import pytest

from plugrad.errors import PlugradError
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.conduct import Asked, NothingRan, choose
from plugrad_conformance.subject import Subject
from plugrad_conformance.suite import Suite

_REFUSED: Final = pytest.StashKey[str]()
"""Why there is nothing to run."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each case."""
    if "case" not in metafunc.fixturenames:
        return
    cases: list[Case] = []
    try:
        cases = _cases(metafunc.config)
    except PlugradError as error:
        metafunc.config.stash[_REFUSED] = str(error)
    metafunc.parametrize("case", cases, ids=[c.id for c in cases])


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """End a run without a device or without a case; an error that is raised earlier comes with a traceback."""
    if _REFUSED in config.stash:
        raise pytest.UsageError(config.stash[_REFUSED])


def _cases(config: pytest.Config) -> list[Case]:
    device = config.getoption("--device", None)
    if device is None:
        raise NothingRan("name the device under test: pytest --pyargs plugrad_conformance --device DEVICE")
    asked = Asked(Level[config.getoption("--level")], config.getoption("--op"))
    choose(Suite(), asked, device)
    return [c for c in choose(Suite(Subject(device).lacks), asked, device) if c.level is not None]


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The device under test."""
    return Subject(request.config.getoption("--device"))
