"""`CuPyBackend`: the CUDA devices of the machine."""

from __future__ import annotations

from plugrad.generated import GeneratedBackend
from plugrad_cupy import _device, kernels


class CuPyBackend(GeneratedBackend):
    """The CUDA devices of the machine, in CUDA's order.

    Raises:
        BackendUnavailable: if there is no device that works, with the reason.
    """

    name = "cupy"
    kernels = kernels.table

    def __init__(self) -> None:
        super().__init__(_device.found())
