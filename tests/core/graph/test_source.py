"""The templates of kernels' sources, written out in plain C and run by the host's compiler where there is one."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugrad import dtypes, ops
from plugrad.graph.source import (
    Dialect,
    Source,
    cast_of,
    collapse,
    contiguous_strides,
    elementwise,
    expression_of,
    merge_runs,
    product,
    reduce,
    sort_runs,
)

COMPILER = shutil.which("cc")
TYPES = {
    **{d: f"{'u' if d.kind == 'uint' else ''}int{8 * d.itemsize}_t" for d in dtypes.INTEGER},
    dtypes.bool: "uint8_t",
    dtypes.float32: "float",
    dtypes.float64: "double",
}
C = Dialect(
    kernel="void",
    function="static",
    pointer="{type} *{name}",
    indices=("index0", "index1", "index2"),
    types=TYPES,
    convert="({type})({value})",
    claim="*{name} == 0 && (*{name} = {value})",
    preambles={},
    lanes={},
)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


def run(source: Source, arguments: list[Any], size: tuple[int, ...], folder: Path) -> None:
    """Compile a kernel, and call it for each work-item."""
    text = "#include <stdint.h>\n#include <math.h>\nint64_t index0, index1, index2;\n" + source.text
    (folder / "kernel.c").write_text(text)
    library = folder / f"kernel{len(list(folder.iterdir()))}.so"
    command = [
        str(COMPILER),
        "-O1",
        "-fwrapv",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(folder / "kernel.c"),
        "-lm",
    ]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    given_: list[Any] = []
    for value, kind in zip(arguments, source.parameters, strict=True):
        if isinstance(kind, str):
            given_.append(ctypes.c_void_p(value.ctypes.data))
        else:
            given_.append(np.ctypeslib.as_ctypes_type(kind.numpy)(value))
    places = [ctypes.c_int64.in_dll(loaded, f"index{i}") for i in range(3)]
    for index in itertools.product(*(range(n) for n in reversed(size))):
        for place, value in zip(places, reversed(index), strict=False):
            place.value = value
        getattr(loaded, source.name)(*given_)


@given(st.lists(st.integers(1, 3), max_size=4), st.randoms())
def test_collapsed_axes_reach_the_same_places_in_the_same_order(shape: list[int], random: Any) -> None:
    strides = [
        random.choice([contiguous_strides(shape), tuple(random.randint(-3, 3) for _ in shape)]) for _ in "ab"
    ]
    sizes, steps = collapse(shape, strides)

    def places(sizes: Any, strides: Any) -> list[int]:
        indices = itertools.product(*map(range, sizes))
        return [sum(i * s for i, s in zip(index, strides, strict=True)) for index in indices]

    for before, after in zip(strides, steps, strict=True):
        assert places(shape, before) == places(sizes, after)
    assert 1 not in sizes


def test_a_contiguous_array_has_one_axis() -> None:
    assert collapse((2, 3, 4), [(12, 4, 1)]) == ((24,), [(1,)])
    assert collapse((2, 3, 4), [(12, 4, 1), (0, 0, 1)]) == ((6, 4), [(4, 1), (0, 1)])
    assert collapse((1, 1), [(7, 7)]) == ((), [()])


@needs_compiler
def test_an_expression_over_strides(tmp_path: Path) -> None:
    """A transposed operand, one that is repeated, and a number."""
    a, b = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([10.0, 20.0, 30.0], np.float32)
    out = np.zeros((2, 3), np.float32)
    operands = (("x", dtypes.float32, "s"), ("y", dtypes.float32, "c"), ("z", dtypes.float32, "n"))
    source = elementwise(C, "x + y * z", "", operands, dtypes.float32, "c", 2)
    run(source, [a, 0, 1, 2, b, 0, 0, 1, 0.5, out, 0, 3, 1, 2, 3], (4, 2, 1), tmp_path)
    np.testing.assert_array_equal(out, a.T + b * np.float32(0.5))


@needs_compiler
@pytest.mark.parametrize("dtype", [dtypes.int8, dtypes.uint8, dtypes.int64])
@pytest.mark.parametrize(
    "op", [ops.add, ops.multiply, ops.floor_divide, ops.remainder, ops.pow, ops.bitwise_right_shift]
)
def test_integers(op: Any, dtype: Any, tmp_path: Path) -> None:
    """Wrapping around, division by 0 and by -1, negative exponents: as the ops' docstrings say."""
    low, high = int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max)
    some = [low, low + 1, high, 0, 1, 2, 3, 7, *([-1, -2, -7] if low else [])]
    shifts = op is ops.bitwise_right_shift
    pairs = [(a, b) for a in some for b in ([0, 1, 7, 8, 100] if shifts else some)]
    a, b = (np.array(v, dtype.numpy) for v in zip(*pairs, strict=True))
    out = np.zeros_like(a)
    expression, helper = expression_of(op, dtype, C)
    source = elementwise(C, expression, helper, (("x1", dtype, "c"), ("x2", dtype, "c")), dtype, "c", 1)
    run(source, [a, 0, 1, b, 0, 1, out, 0, 1, a.size], (a.size,), tmp_path)

    def wanted(a: int, b: int) -> int:
        if op is ops.pow:
            value = (a**-b if a in (1, -1) else 0) if b < 0 else pow(a, b, 1 << 64)
        elif op in (ops.floor_divide, ops.remainder):
            value = 0 if b == 0 else a // b if op is ops.floor_divide else a % b
        elif shifts:
            value = a >> b
        else:
            value = a + b if op is ops.add else a * b
        return (value - low) % (high - low + 1) + low

    assert out.tolist() == [wanted(*pair) for pair in pairs]


@needs_compiler
def test_largest_over_the_outer_axes(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    x[1, 1, 1] = np.nan
    out = np.zeros(4, np.float32)
    run(
        reduce(C, "max", dtypes.float32, dtypes.float32, 1, 2),
        [x, 0, 5, 20, 1, out, 0, 1, 4, 3, 5, 4],
        (4,),
        tmp_path,
    )
    np.testing.assert_array_equal(out, x.max(axis=(0, 2)))


@needs_compiler
def test_product_of_a_transposed_matrix(tmp_path: Path) -> None:
    a, b, out = np.arange(6).reshape(3, 2), np.arange(12).reshape(3, 4), np.zeros((2, 4), np.int64)
    arguments = [a, 0, 0, 0, 1, 2, b, 0, 0, 0, 4, 1, out, 0, 0, 0, 0, 4, 1, 2, 3, 4, 3, 1]
    run(product(C, dtypes.int64), arguments, (4, 2, 1), tmp_path)
    np.testing.assert_array_equal(out, a.T @ b)


@needs_compiler
@pytest.mark.parametrize("descending", [False, True])
def test_merging_is_stable(descending: bool, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 4, (2, 11)).astype(np.float32)
    x[:, ::5] = np.nan
    order, merged = np.zeros((2, 11), np.int64), np.zeros((2, 11), np.int64)
    run(sort_runs(C, dtypes.float32, descending), [x, 0, order, 11, 4, 3, 6], (6,), tmp_path)
    for length, pairs in ((4, 2), (8, 1)):
        source = merge_runs(C, dtypes.float32, descending)
        run(source, [x, 0, order, merged, 11, length, pairs, 2 * pairs], (2 * pairs,), tmp_path)
        order, merged = merged, order
    rank = np.where(np.isnan(x), 9, x)
    np.testing.assert_array_equal(order, np.argsort(-rank if descending else rank, axis=1, kind="stable"))


def test_casts() -> None:
    assert cast_of(dtypes.float32, dtypes.float32, C) == ("x", "")
    assert cast_of(dtypes.float32, dtypes.bool, C) == ("x != 0", "")
    assert cast_of(dtypes.int8, dtypes.uint16, C) == ("(uint16_t)x", "")
