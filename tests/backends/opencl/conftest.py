"""These tests need pyopencl and a device that works; elsewhere they are skipped, with the reason."""

import pytest

from plugrad.backend import get_backend
from plugrad.errors import DeviceError


@pytest.fixture(scope="session", autouse=True)
def device() -> str:
    pytest.importorskip("pyopencl", reason="pyopencl is not installed: pip install 'plugrad[opencl]'")
    try:
        get_backend("opencl")
    except DeviceError as error:
        pytest.skip(str(error))
    return "opencl"
