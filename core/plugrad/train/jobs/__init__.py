"""The trainings that ``plugrad train NAME`` runs. Each is a file to read: model, loss and optimizer, train, validate."""

from collections.abc import Callable
from typing import Final

from plugrad.train.jobs.curve import curve
from plugrad.train.jobs.digits import digits
from plugrad.train.jobs.logic import logic
from plugrad.train.jobs.settings import Settings as Settings
from plugrad.train.jobs.xor import xor

JOBS: Final[dict[str, Callable[[Settings], None]]] = {
    "logic": logic,
    "xor": xor,
    "curve": curve,
    "digits": digits,
}
"""The jobs by name."""
