"""Casts between all dtypes, and the dtype that values promote to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import DTypeError
from support.oracles import FLOATING, assert_same, tensor

NAMES = [d.name for d in pg.dtypes.ALL]


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("target", NAMES)
def test_casts(source: str, target: str, device: str) -> None:
    x = tensor([0, 1, 1, 0] if source == "bool" else [0, 1, 100, 7], source, device)
    got = pg.astype(x, target)
    assert got.dtype.name == target
    assert_same(got, [bool(v) for v in x.tolist()] if target == "bool" else x.numpy().astype(np.float64))
    assert pg.astype(tensor(1, source, device), target).item() == 1


@pytest.mark.parametrize("source", FLOATING)
def test_floats_to_integers_are_truncated(source: str, device: str) -> None:
    x = tensor([1.75, -1.75, 0.5, -0.0], source, device)
    assert_same(pg.astype(x, "int32"), [1, -1, 0, 0])
    assert_same(pg.astype(x, "bool"), [True, True, True, False])
    assert_same(pg.astype(tensor([math.nan, math.inf], source, device), "bool"), [True, True])
    # Undefined, but neither an error nor a warning.
    assert pg.astype(tensor([math.nan, math.inf], source, device), "int8").shape == (2,)


def test_integers_wrap_around(device: str) -> None:
    assert_same(pg.astype(tensor([300, -1], "int64", device), "uint8"), [44, 255])


@pytest.mark.parametrize("size", [2, 50_000])
def test_narrower_floats_are_rounded_to_even(size: int, device: str) -> None:
    values = [1 + 2**-11, 1 + 3 * 2**-11, 1e30, -1e30, math.nan, 1 + 2**-8, 1 + 3 * 2**-8]
    x = tensor(np.resize(values, size * len(values)), "float64", device)
    half = [1, 1 + 2**-9, math.inf, -math.inf, math.nan, 1 + 2**-8, 1 + 3 * 2**-8]
    assert_same(pg.astype(x, "float16"), np.resize(half, x.size))
    low = pg.astype(x, "bfloat16").numpy().astype(np.float64)[: len(values)]
    assert low[5] == 1
    assert low[6] == 1 + 2**-6
    assert math.isnan(low[4])


@pytest.mark.parametrize("source", FLOATING)
@pytest.mark.parametrize("target", FLOATING)
def test_the_gradient_is_cast_back(source: str, target: str, device: str) -> None:
    x = tensor([1.5, 2.5], source, device).requires_grad_()
    pg.astype(x, target).backward(tensor([0.5, 2], target, device))
    assert x.grad is not None
    assert x.grad.dtype is x.dtype
    assert_same(x.grad, [0.5, 2])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("float32", 1.5), "float32"),
        (("float16", 1), "float16"),
        (("int8", 1), "int8"),
        (("int8", 1.5), "float32"),
        (("bool", True), "bool"),
        (("int8", "uint8"), "int16"),
        ((1, "int16", 2.0, "int8"), "float32"),
        (("bfloat16", "float16"), "float32"),
        (("int64", "float16"), "float16"),
        ((True, "uint8"), "uint8"),
        ((pg.dtypes.float64,), "float64"),
        ((np.float32, "int64"), "float32"),
    ],
)
def test_result_type(given: Any, expected: str, device: str) -> None:
    assert pg.result_type(*given).name == expected
    tensors = [tensor(1, g, device) if isinstance(g, str) else g for g in given]
    assert pg.result_type(*tensors).name == expected


def test_result_type_is_that_of_an_op(device: str) -> None:
    for a in NAMES[1:]:
        for b in NAMES[1:]:
            x, y = tensor([1], a, device), tensor([1], b, device)
            try:
                expected = pg.add(x, y).dtype
            except DTypeError:
                with pytest.raises(DTypeError, match="do not promote"):
                    pg.result_type(x, y)
            else:
                assert pg.result_type(x, y) is expected


def test_errors_name_what_was_given_and_what_is_taken(device: str) -> None:
    with pytest.raises(DTypeError, match=r"result_type: got \(1, 2.5\); takes at least one tensor or dtype"):
        pg.result_type(1, 2.5)
    with pytest.raises(DTypeError, match=r"unknown dtype 'float13'; the dtypes are bool, int8"):
        pg.astype(tensor([1], "int8", device), "float13")
    with pytest.raises(DTypeError, match=r"uint64 and int8 do not promote"):
        pg.result_type("uint64", "int8")
