"""Functions that languages compute slowly, or lane by lane, written for vectors of float32.

A coefficient is the float32 nearest to what a least-squares fit gives that is weighted towards the smallest largest error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from plugrad import dtypes
from plugrad.graph.source.dialect import Dialect

# (exp(x) - 1 - x) / x^2 in x for |x| <= log(2) / 2; error 6.3e-8. Highest power first, here and below.
_EXP: Final = (0.0013941202778369188, 0.00836323481053114, 0.04166637361049652, 0.16666576266288757, 0.5)
# log(2) in two parts, of which the first has few digits.
_LOG2: Final = (0.693145751953125, 1.428606765330187e-06)
_RAISED: Final = 12582912.0
# erf(x) / x in x^2 for |x| <= 1; relative error 3.9e-8.
_ERF: Final = (
    -0.0005660143215209246,
    0.004924786742776632,
    -0.02671770565211773,
    0.112804114818573,
    -0.3761235475540161,
    1.1283791065216064,
)
# The logarithm to the base 2 of 1 - erf(x) in x for 1 <= x <= 4, from where on erf is 1; error 1.6e-9 of erf.
_TAIL: Final = (
    0.00026889346190728247,
    -0.0042526209726929665,
    0.03150585666298866,
    -0.14875198900699615,
    -0.9206479787826538,
    -1.6260461807250977,
    -0.0004926536348648369,
)
# 2 to the power of x for |x| <= 0.5; relative error 7.5e-8.
_EXP2: Final = (
    0.001327645150013268,
    0.009675540961325169,
    0.05550713464617729,
    0.24022120237350464,
    0.6931469440460205,
    1.0000001192092896,
)


class _Text:
    """Lines of functions over vectors."""

    def __init__(self, dialect: Dialect, lanes: int) -> None:
        self.dialect = dialect
        self.lanes = lanes
        kinds = (dialect.types[d] for d in (dtypes.float32, dtypes.int32))
        self.kind, self.whole = (dialect.vector.format(type=k, lanes=lanes) for k in kinds)

    def number(self, value: float) -> str:
        """A number in each lane."""
        kind = self.dialect.types[dtypes.float32]
        return self.dialect.splat.format(type=kind, lanes=self.lanes, value=f"{value!r}f")

    def fma(self, a: str, b: str, c: str) -> str:
        """``a * b + c``."""
        return self.dialect.fma.format(a=a, b=b, c=c)

    def choose(self, condition: str, a: str, b: str) -> str:
        """``a`` where the condition holds, else ``b``."""
        return self.dialect.choose.format(condition=condition, a=a, b=b)

    def polynomial(self, name: str, of: str, coefficients: Sequence[float]) -> list[str]:
        """A variable that is a polynomial of another."""
        lines = [f"    {self.kind} {name} = {self.number(coefficients[0])};"]
        return lines + [f"    {name} = {self.fma(name, of, self.number(c))};" for c in coefficients[1:]]

    def rounded(self, x: str) -> list[str]:
        """``whole``, which is ``x`` rounded to a whole number, and ``raised``, whose last bits are that number."""
        # What is added has the value 1 in its last place.
        return [
            f"    const {self.kind} raised = {x};",
            f"    const {self.kind} whole = raised - {self.number(_RAISED)};",
        ]

    def as_whole(self, value: str) -> str:
        """The bits of floats."""
        return self.dialect.reinterpret.format(type=self.whole, value=value)

    def as_float(self, value: str) -> str:
        """The floats of these bits."""
        return self.dialect.reinterpret.format(type=self.kind, value=value)


def exp(dialect: Dialect, lanes: int) -> str:
    """The function ``exp_<lanes>``: within 1.1 units in the last place; 0, infinity and NaN where they belong."""
    text = _Text(dialect, lanes)
    first = text.as_float(f"{text.as_whole('grown')} + (half_of << 23)")
    second = text.as_float(f"((bits - half_of) << 23) + {text.as_whole(text.number(1.0))}")
    return "\n".join(
        [
            f"{dialect.function} {text.kind} exp_{lanes}(const {text.kind} x)",
            "{",
            # A comparison with NaN is false, so that it stays.
            f"    const {text.kind} above = {text.choose(f'x < {text.number(-104.0)}', text.number(-104.0), 'x')};",
            f"    const {text.kind} within = {text.choose(f'above > {text.number(89.0)}', text.number(89.0), 'above')};",
            *text.rounded(text.fma("within", text.number(1.4426950408889634), text.number(_RAISED))),
            f"    const {text.kind} near = {text.fma('-whole', text.number(_LOG2[0]), 'within')};",
            f"    const {text.kind} rest = {text.fma('-whole', text.number(_LOG2[1]), 'near')};",
            *text.polynomial("grown", "rest", _EXP),
            f"    grown = {text.fma('rest * rest', 'grown', 'rest')} + {text.number(1.0)};",
            # Two factors reach subnormal numbers, and infinity: halves of the last bits of what was raised.
            f"    const {text.whole} bits = {text.as_whole('raised')}, half_of = bits >> 1;",
            f"    const {text.kind} first = {first};",
            f"    return first * {second};",
            "}",
        ]
    )


def erf(dialect: Dialect, lanes: int) -> str:
    """The function ``erf_<lanes>``: NaN of NaN, -0 of -0, within 3 units in the last place."""
    text = _Text(dialect, lanes)
    kind, one, end = text.kind, text.number(1.0), text.number(4.0)
    # The last bits of what was raised are added to the exponent; those of what was added to it are 0.
    left = text.as_float(f"{text.as_whole('grown')} + ({text.as_whole('raised')} << 23)")
    sign = f"{text.as_whole('x')} & {text.as_whole(text.number(-0.0))}"
    outer = text.as_float(f"{text.as_whole(f'{one} - left')} | ({sign})")
    return "\n".join(
        [
            f"{dialect.function} {kind} erf_{lanes}(const {kind} x)",
            "{",
            f"    const {kind} size = fabs(x), square = x * x;",
            f"    const {kind} within = {text.choose(f'size < {end}', 'size', end)};",
            *text.polynomial("inner", "square", _ERF),
            *text.polynomial("tail", "within", _TAIL),
            *text.rounded(f"tail + {text.number(_RAISED)}"),
            f"    const {kind} rest = tail - whole;",
            *text.polynomial("grown", "rest", _EXP2),
            f"    const {kind} left = {left};",
            f"    const {kind} outer = {outer};",
            f"    return {text.choose(f'size > {one}', 'outer', 'x * inner')};",
            "}",
        ]
    )


FUNCTIONS: Final = {"exp": exp, "erf": erf}
"""The functions by op."""
