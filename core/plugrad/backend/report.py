"""`BackendReport`: what is known of an installed backend, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from plugrad.backend.interface import DeviceInfo
from plugrad.backend.loading import State
from plugrad.dtypes import ALL, DType
from plugrad.spec import Device


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """A device of an available backend: the device, what it is, and the dtypes that it computes."""

    device: Device
    info: DeviceInfo
    dtypes: tuple[DType, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a backend that works: a plugin's kernels, or why they were left out."""

    text: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class BackendReport:
    """An installed backend, whatever its state.

    Attributes:
        name: its name; of a backend that was never created, the one of its entry points' names that its
            module's name contains, else the first.
        aliases: the other names of its entry points.
        distribution: the name of the distribution that brings it.
        version: that distribution's version.
        api: the major versions of the plugin interface that the distribution registers it for.
        state: whether it works.
        reason: why it does not; empty for an available one.
        traceback: the traceback of a broken one.
        devices: its devices, by index; empty unless available.
        kernels: how many kernels of its own it has, by the op's name; empty unless available.
        notes: kernels that other plugins brought or failed to bring, and names that others claim too.
    """

    name: str
    aliases: tuple[str, ...]
    distribution: str
    version: str
    api: tuple[str, ...]
    state: State
    reason: str = ""
    traceback: str = ""
    devices: tuple[DeviceReport, ...] = ()
    kernels: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """The dtypes that at least one of its devices computes."""
        return tuple(d for d in ALL if any(d in device.dtypes for device in self.devices))

    @property
    def forward(self) -> int:
        """For how many ops it has a kernel of its own, those of rules not counted."""
        return len(self.kernels) - self.vjp

    @property
    def vjp(self) -> int:
        """For how many ops of rules it has a kernel of its own."""
        return sum("vjp" in name.split(".")[1:] for name in self.kernels)
