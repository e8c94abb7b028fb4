"""How far from the oracle a result may be: one reviewed table, the same for every device.

There are four measures. `Exact`: data that is only moved, compared, or computed in integers. `Ulp`: elementwise
results, in units in the last place. `Terms`: sums, whose rounding error is at most about ``count * eps`` of the sum of
the terms' magnitudes whatever the order in which they are added (Higham, "Accuracy and Stability of Numerical
Algorithms", 2nd ed., 2002, section 4.2). `Norm`: everything else, in units of ``eps`` times the largest magnitude of
the result; where a result is made of differences, nothing smaller can be asked of a backward stable algorithm.

No bound grows with the size of an array but that of `Terms`, and none is loosened for a device: what a device cannot
keep it waives in its manifest, with a reason, and the report shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from plugrad.dispatch.op import Op
from plugrad.dtypes import DType


@dataclass(frozen=True, slots=True)
class Exact:
    """The same value, bit for bit once rounded to the dtype."""


@dataclass(frozen=True, slots=True)
class Ulp:
    """At most ``n`` units in the last place; ``n16`` for dtypes of 16 bits, where the same number if None."""

    n: float
    n16: float | None = None

    def of(self, dtype: DType) -> float:
        """The number for a dtype."""
        return self.n if self.n16 is None or dtype.itemsize > 2 else self.n16


@dataclass(frozen=True, slots=True)
class Terms:
    """At most ``factor * count * eps * sum(abs(terms))``."""

    factor: float


@dataclass(frozen=True, slots=True)
class Norm:
    """At most ``factor * eps * max(abs(result))``.

    Attributes:
        factor: the factor.
        cotangent: the largest cotangent counts as a result too: for rules whose terms cancel, to nothing at times.
    """

    factor: float
    cotangent: bool = False


Bound = Exact | Ulp | Terms | Norm

TABLE: Final[dict[str, Bound]] = {}


def bound_of(op: Op[..., Any], *, gradient: bool = False) -> Bound:
    """The bound of an op or of a rule.

    Args:
        op: the op.
        gradient: the bound of its gradient: that of its rule, or, for an op without one, whose gradient is that of
            what its body is made of, `INLINED`.
    """
    return TABLE.get(op.name, Norm(64.0, cotangent="attention" in op.name)) if not gradient else Norm(64.0)
