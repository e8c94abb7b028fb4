"""What every op's result is held against: plain NumPy and SciPy in float64, one file a family.

The oracles are written for this purpose and share no code with any backend. Elementwise functions whose float64
kernels are under test are held against `high_precision`, in mpmath. A file of this folder is an oracle's as soon as it
is there; a plugin that adds ops registers the oracles of its own with `oracle`.
"""

import importlib
import pkgutil

from plugrad_conformance.oracles._register import ORACLES as ORACLES
from plugrad_conformance.oracles._register import oracle as oracle

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
