"""How far a result may be from what is wanted: units in the last place, sums, norms, and what is no number."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from plugrad.dtypes import DType, as_dtype, bfloat16, float16, float32, float64, int32
from plugrad_conformance.measure import Failure, Wanted, Worst, compare, same_zeros, ulp
from plugrad_conformance.tolerances import Bound, Exact, Gradient, Norm, Terms, Ulp

NAN, INF = math.nan, math.inf
EPS = 2.0**-23


def measure(got: Any, wanted: Any, bound: Bound, dtype: DType = float32, **more: Any) -> Worst:
    """The worst error; ``got`` is rounded to the dtype, ``wanted`` stays as it is."""
    worst = Worst()
    with np.errstate(all="ignore"):
        host = np.asarray(got, np.float64).astype(dtype.numpy)
    compare("op", host, Wanted(np.asarray(wanted, np.float64), **more), dtype, bound, worst)
    return worst


def refused(*args: Any, told: str, **more: Any) -> None:
    with pytest.raises(Failure) as caught:
        measure(*args, **more)
    assert told in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("dtype", "eps"), [(float32, EPS), (float64, 2.0**-52), (float16, 2.0**-10), (bfloat16, 2.0**-7)]
)
def test_the_unit_in_the_last_place(dtype: DType, eps: float) -> None:
    tiny = float(ml_dtypes.finfo(dtype.numpy).smallest_normal)  # type: ignore[no-untyped-call]
    values = np.array([1.0, 1.5, -1.0, 2.0, 0.75, 0.0, tiny, tiny / 4])
    assert ulp(values, dtype).tolist() == [eps, eps, eps, 2 * eps, eps / 2, *[tiny * eps] * 3]


def test_units_in_the_last_place() -> None:
    assert measure(1 + EPS, 1.0, Ulp(1)) == Worst(1.0, "ULP")
    assert measure([1.0, 2 + 4 * EPS], [1.0, 2.0], Ulp(2)) == Worst(2.0, "ULP")
    refused(
        1 + 2 * EPS, 1.0, Ulp(1), told="op: got 1.000000238418579, wanted 1.0 (up to 2 ULP away, 1 allowed)"
    )
    # What is wanted need not be representable.
    assert measure(1.0, 1 + 0.25 * EPS, Ulp(0.5)) == Worst(0.25, "ULP")
    refused(1.0, 1 + 0.75 * EPS, Ulp(0.5), told="up to 0.75 ULP away")


def test_dtypes_of_16_bits_have_a_number_of_their_own() -> None:
    bound = Ulp(8, 2)
    assert measure(1 + 2 * 2.0**-10, 1.0, bound, float16) == Worst(2.0, "ULP")
    refused(1 + 3 * 2.0**-10, 1.0, bound, float16, told="up to 3 ULP away, 2 allowed")
    refused(1 + 3 * 2.0**-7, 1.0, bound, bfloat16, told="up to 3 ULP away, 2 allowed")
    assert measure(1 + 3 * EPS, 1.0, bound) == Worst(3.0, "ULP")


def test_differences_are_told_in_units_of_the_larger_operand() -> None:
    bound = Ulp(1, operands=True)
    refused(EPS, 0.0, bound, told="ULP away")
    assert measure(EPS, 0.0, bound, largest=np.asarray(1.0)) == Worst(1.0, "ULP")
    refused(2 * EPS, 0.0, bound, largest=np.asarray(1.0), told="up to 2 ULP away")
    refused(EPS, 0.0, Ulp(1), largest=np.asarray(1.0), told="ULP away")


def test_where_and_how_often_is_told() -> None:
    got = [[1.0, 2.0, 3.0], [4.0, 6.0, 7.0]]
    refused(
        got,
        [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
        Ulp(1),
        told="got 6.0 at [1, 1], wanted 5.0; 2 of 6 elements are wrong",
    )


@pytest.mark.parametrize("bound", [Ulp(4), Exact(), Norm(8), Gradient(8), Terms(2)])
@pytest.mark.parametrize("dtype", [float32, float16, bfloat16, float64])
def test_what_is_no_number_stands_where_it_is_wanted(bound: Bound, dtype: DType) -> None:
    terms = (np.full(4, 3.0), np.ones(4))
    right = [NAN, INF, -INF, 1.0]
    measure(right, right, bound, dtype, terms=terms)
    for i, other in [
        (0, 1.0),
        (0, INF),
        (1, NAN),
        (1, -INF),
        (1, 1.0),
        (2, INF),
        (2, NAN),
        (3, NAN),
        (3, INF),
    ]:
        got = [*right[:i], other, *right[i + 1 :]]
        refused(got, right, bound, dtype, terms=terms, told=f"at [{i}]")


def test_what_rounds_to_an_infinity_is_wanted_as_one() -> None:
    assert measure([INF, -INF], [1e39, -1e39], Ulp(1)).value == 0.0
    refused([3.4e38, -INF], [1e39, -1e39], Ulp(1), told="at [0], wanted inf")
    assert measure([1e39], [1e39], Ulp(1), float64).value == 0.0


def test_what_is_below_the_smallest_normal_number_may_be_flushed() -> None:
    tiny = 2.0**-126
    for got, wanted in [(0.0, tiny / 2), (tiny / 2, tiny / 4), (-tiny / 2, tiny / 2), (0.0, -tiny / 4)]:
        assert measure(got, wanted, Ulp(1)).value == 0.0
    refused(0.0, tiny, Ulp(1), told="ULP away")
    refused(2 * tiny, tiny / 2, Ulp(1), told="ULP away")
    refused(0.0, tiny / 2, Exact(), told="bit for bit")


def test_a_tail_holds_what_float64_cannot() -> None:
    eps = 2.0**-52
    worst = measure(1 + eps, 1.0, Ulp(0.5), float64, tail=np.asarray(0.75 * eps))
    assert worst == Worst(0.25, "ULP")
    refused(1.0, 1.0, Ulp(0.5), float64, tail=np.asarray(0.75 * eps), told="up to 0.75 ULP away")


def test_exact() -> None:
    assert measure([0.1, NAN, -0.0], [0.1, NAN, 0.0], Exact(), float16) == Worst(0.0, "ULP")
    refused(1 + EPS, 1.0, Exact(), told="bit for bit")
    refused(NAN, 1.0, Exact(), told="wanted 1.0")


def test_sums_by_their_terms() -> None:
    """``factor * count * eps * sum(abs(terms))`` and one unit of rounding the result."""
    terms = (np.asarray(100.0), np.asarray(10.0))
    allowed = 2 * 10 * EPS * 100
    worst = measure(allowed / 2, 0.0, Terms(2), terms=terms)
    assert worst.unit == "bound"
    assert worst.value == pytest.approx(0.5, rel=1e-3)
    measure(allowed * 0.999, 0.0, Terms(2), terms=terms)
    refused(allowed * 1.001, 0.0, Terms(2), terms=terms, told="allowed")
    # No terms: the result is that of an empty sum.
    nothing = (np.asarray(0.0), np.asarray(0.0))
    measure(0.0, 0.0, Terms(2), terms=nothing)
    refused(EPS, 0.0, Terms(2), terms=nothing, told="allowed")
    with pytest.raises(TypeError, match="needs the sum of their magnitudes"):
        measure(1.0, 1.0, Terms(2))


def test_norms_by_the_largest_result() -> None:
    wanted = [1000.0, 0.0]
    measure([1000.0, 7.9 * EPS * 1000], wanted, Norm(8))
    refused([1000.0, 8.1 * EPS * 1000], wanted, Norm(8), told="at [1]")
    # Infinities do not make the bound one.
    refused([INF, 1e-3], [INF, 0.0], Norm(8), told="at [1]")
    refused([7 * EPS], [0.0], Norm(8), largest=np.asarray(1.0), told="allowed")
    measure([7 * EPS], [0.0], Norm(8, operands=True), largest=np.asarray(1.0))
    measure([7 * EPS], [0.0], Gradient(8), largest=np.asarray(1.0))
    refused([9 * EPS], [0.0], Gradient(8), largest=np.asarray(1.0), told="allowed")


def test_loose_positions_are_not_compared() -> None:
    loose = np.array([True, False])
    for bound in (Ulp(1), Exact(), Norm(8)):
        assert measure([5.0, 1.0], [1.0, 1.0], bound, loose=loose).value == 0.0
        measure([NAN, 1.0], [1.0, 1.0], bound, loose=loose)
        refused([1.0, 5.0], [1.0, 1.0], bound, loose=loose, told="at [1]")


def test_shape_and_dtype_are_the_rules_own() -> None:
    worst = Worst()
    value = np.zeros((2, 1))
    with pytest.raises(Failure, match="the array has dtype float64, the op's rule says float32"):
        compare("op", value, Wanted(value), float32, Ulp(1), worst)
    with pytest.raises(Failure, match=r"the array has shape \(2, 1\), wanted \(2,\)"):
        compare("op", value, Wanted(np.zeros(2)), float64, Ulp(1), worst)
    compare("op", np.zeros((0, 3), np.float32), Wanted(np.zeros((0, 3))), float32, Ulp(1), worst)
    assert worst == Worst(None, None)


def test_integers_and_bools_are_equal() -> None:
    worst = Worst()
    compare("op", np.array([1, 2], np.int32), Wanted(np.array([1, 2])), int32, Ulp(9), worst)
    assert worst == Worst(0.0, "ULP")
    with pytest.raises(Failure, match=r"at \[1\]"):
        compare("op", np.array([1, 3], np.int32), Wanted(np.array([1, 2])), int32, Ulp(9), worst)
    with pytest.raises(Failure, match="True"):
        compare("op", np.array(True), Wanted(np.array(False)), as_dtype("bool"), Exact(), worst)


def test_the_worst_of_several() -> None:
    worst = Worst()
    worst.meet(1.0, "ULP")
    worst.meet(0.5, "ULP")
    worst.meet(9.0, "bound")
    assert worst == Worst(1.0, "ULP")
    worst.meet(2.0, "ULP")
    assert worst == Worst(2.0, "ULP")


def test_the_signs_of_zeros() -> None:
    same_zeros("op", np.array([0.0, -0.0, 1.0]), np.array([0.0, -0.0, -0.0]))
    with pytest.raises(Failure, match=r"op, the sign of zero: got .* at \[1\]"):
        same_zeros("op", np.array([0.0, 0.0]), np.array([0.0, -0.0]))
