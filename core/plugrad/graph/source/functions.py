"""Functions that languages compute lane by lane, written for vectors.

A coefficient is the float32 nearest to what a least-squares fit gives that is weighted towards the smallest largest error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from plugrad import dtypes
from plugrad.graph.source.dialect import Dialect

# erf(x) / x in x^2 for |x| <= 1; relative error 1.1e-9. Highest power first.
_ERF: Final = (
    7.889109110692516e-05,
    -0.0008020838140510023,
    0.005189535208046436,
    -0.026854444295167923,
    0.11283600330352783,
    -0.3761262595653534,
    1.1283791065216064,
)
# -log(1 - erf(x)) in x for 1 <= x <= 4.05, from where on erf is 1; error 1.7e-11 of the result.
_TAIL: Final = (
    -2.1219784684944898e-07,
    2.4755807316978462e-05,
    -0.00046036727144382894,
    0.004270667675882578,
    -0.02534898929297924,
    0.10860668122768402,
    0.6330656409263611,
    1.1296494007110596,
    -0.00020207105262670666,
)
_END: Final = 4.05


def erf(dialect: Dialect, lanes: int) -> str:
    """The function ``erf_<lanes>`` of a float32 vector: NaN of NaN, -0 of -0, within 3 units in the last place."""
    kind = dialect.vector.format(type=dialect.types[dtypes.float32], lanes=lanes)

    def number(value: float) -> str:
        return dialect.splat.format(type=dialect.types[dtypes.float32], lanes=lanes, value=f"{value!r}f")

    def polynomial(name: str, of: str, coefficients: Sequence[float]) -> list[str]:
        lines = [f"    {kind} {name} = {number(coefficients[0])};"]
        for c in coefficients[1:]:
            lines.append(f"    {name} = {dialect.fma.format(a=name, b=of, c=number(c))};")
        return lines

    def choose(condition: str, a: str, b: str) -> str:
        return dialect.choose.format(condition=condition, a=a, b=b)

    one = number(1.0)
    return "\n".join(
        [
            f"{dialect.function} {kind} erf_{lanes}(const {kind} x)",
            "{",
            f"    const {kind} size = fabs(x), square = x * x;",
            f"    const {kind} within = {choose(f'size < {number(_END)}', 'size', number(_END))};",
            *polynomial("near", "square", _ERF),
            *polynomial("far", "within", _TAIL),
            f"    far = {one} - exp(-far);",
            f"    return {choose(f'size > {one}', 'copysign(far, x)', 'x * near')};",
            "}",
        ]
    )
