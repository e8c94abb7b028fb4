"""The device that these tests run on: ``--device NAME``, by default the one that plugrad uses by default."""

import pytest

from plugrad.backend import resolve_device


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default=None, help="the device under test")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    return str(resolve_device(request.config.getoption("--device")))
