"""What the command line sets for a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from plugrad import random
from plugrad.spec import Device


@dataclass
class Settings:
    """What the command line sets for a job.

    Attributes:
        device: where it trains.
        seed: of the initialisation, the order of the data, and dropout.
        folder: where checkpoints go.
        epochs: how many there are to be; None for the job's own number.
        resume: go on from the newest checkpoint.
        jit: capture the training step.
        console: where it prints.
    """

    device: Device
    seed: int = 0
    folder: Path = Path("runs")
    epochs: int | None = None
    resume: bool = False
    jit: bool = True
    console: Console = field(default_factory=Console)

    def begin(self, epochs: int) -> int:
        """Seed the random numbers; the number of epochs, ``epochs`` unless the command line says otherwise."""
        random.manual_seed(self.seed)
        return epochs if self.epochs is None else self.epochs
