"""The core's tests run on the null device: shapes, dtypes, records and errors, and no arithmetic."""

from collections.abc import Iterator

import pytest

from plugrad.backend import use_device


@pytest.fixture(autouse=True)
def _null_device() -> Iterator[None]:
    with use_device("null"):
        yield
