"""What a backend needs not write if its devices speak a language of the C family: arrays, memory, kernels, recorded runs.

Such a backend is a `Dialect` (`plugrad.graph.source`), a class derived from `GeneratedDevice`, which compiles and launches, and
one derived from `GeneratedBackend`, with a name.
"""

from plugrad.generated.array import StridedArray
from plugrad.generated.backend import GeneratedBackend
from plugrad.generated.device import GeneratedDevice
from plugrad.generated.memory import Block, Memory

__all__ = ["Block", "GeneratedBackend", "GeneratedDevice", "Memory", "StridedArray"]
