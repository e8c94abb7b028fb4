"""array-api-strict as backends: it refuses whatever the array API standard does not promise."""

from collections.abc import Iterator

import array_api_strict
import pytest

from plugrad.backend import get_backend, register_backend
from plugrad.errors import DeviceError
from plugrad_array_api import ArrayAPIBackend


class StrictBackend(ArrayAPIBackend):
    name = "strict_under_test"

    def __init__(self) -> None:
        super().__init__(array_api_strict)


class OldStrictBackend(ArrayAPIBackend):
    name = "strict_2023_under_test"

    def __init__(self) -> None:
        super().__init__(array_api_strict)


def registered(cls: type[ArrayAPIBackend]) -> str:
    try:
        get_backend(cls.name)
    except DeviceError:
        register_backend(cls())
    return cls.name


@pytest.fixture(scope="session")
def strict() -> str:
    """The device of the newest version of the standard."""
    return registered(StrictBackend)


@pytest.fixture(params=["newest", "2023.12"])
def device(request: pytest.FixtureRequest, strict: str) -> Iterator[str]:
    """The device, by the newest version of the standard and by the oldest one taken."""
    if request.param == "newest":
        yield strict
        return
    with array_api_strict.ArrayAPIStrictFlags(api_version=request.param):
        yield registered(OldStrictBackend)
