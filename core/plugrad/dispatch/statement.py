"""The parts of an op's statement, and the register of all that is stated."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op

Scalar = bool | int | float


class Kind(enum.Enum):
    """What family of computation an op is; passes and backends that write their own kernels go by it."""

    ELEMENTWISE = "elementwise"
    REDUCTION = "reduction"
    SCAN = "scan"
    MOVEMENT = "movement"
    INDEXING = "indexing"
    CONTRACTION = "contraction"
    CREATION = "creation"
    SORTING = "sorting"
    RANDOM = "random"
    OTHER = "other"


class Autocast(enum.Enum):
    """What an op does with floating operands under autocast: nothing, compute in 16 bits, or in float32."""

    KEEP = "keep"
    LOW = "low"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand of an op: a tensor, by position.

    Attributes:
        name: its name.
        scalar: a Python scalar is taken too.
        optional: it may be absent, None.
        sequence: it is a sequence of tensors.
    """

    name: str
    scalar: bool = False
    optional: bool = False
    sequence: bool = False


@dataclass(frozen=True, slots=True)
class Vjp:
    """A rule of an op.

    Attributes:
        op: the op that computes it.
        wrt: the operands whose cotangents it gives.
        joint: it gives them as a tuple; a rule for one named operand gives one cotangent.
    """

    op: Op[..., Any]
    wrt: tuple[str, ...]
    joint: bool


class Call:
    """One application of an op as shape rules see it: specs and attributes under their names, and the op."""

    def __init__(self, op: Op[..., Any], values: Mapping[str, Any]) -> None:
        self.op = op
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self.op.name} has no operand or attribute {name!r}")


Infer = Callable[[Any], Any]
"""From a `Call`, the spec of the result, or a tuple of specs: results, then residuals where it asks for them."""

Normalizer = Callable[[Any, Any], Any]
"""From a `Call` and the value of a static attribute, that value in its one form."""

register: Final[dict[str, Op[..., Any]]] = {}


def all_ops() -> Mapping[str, Op[..., Any]]:
    """Every op by name, those of rules included."""
    return MappingProxyType(register)
