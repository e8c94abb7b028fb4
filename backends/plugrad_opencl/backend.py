"""`OpenCLBackend`: all OpenCL devices of the machine."""

from __future__ import annotations

from plugrad.generated import GeneratedBackend
from plugrad_opencl import _device


class OpenCLBackend(GeneratedBackend):
    """All OpenCL devices of the machine that compile and run a kernel.

    Raises:
        BackendUnavailable: if there is no device that works, with the reason.
    """

    name = "opencl"

    def __init__(self) -> None:
        super().__init__(_device.found())
