"""Fused kernels written in plain C, which knows no vectors, and run by the host's compiler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.core.graph.test_generation import BACKEND
from tests.core.graph.test_source import C, needs_compiler, run

import plugrad as pg
from plugrad import dtypes, tree
from plugrad.dispatch.modes import local
from plugrad.graph.capture import Capture
from plugrad.graph.passes.algebra import algebra
from plugrad.graph.passes.lowering import lower
from plugrad.graph.source import Program, launch_of
from plugrad.graph.source.statements import Statements, Term, statements_of


def captured(fn: Callable[..., Any], *arrays: np.ndarray[Any, Any]) -> tuple[Program, list[Any]]:
    """What a function is as loops, and its constants, which are its last inputs."""
    with pg.use_device("numpy"):
        leaves, structure = tree.flatten((tuple(map(pg.asarray, arrays)), {}))
        graph = algebra(lower(Capture(fn, structure, leaves).graph, BACKEND, local.modes))
    constants = list(graph.constants.values())
    graph.inputs += graph.constants
    graph.constants = {}
    return Program(graph, C), constants


def program(fn: Callable[..., Any], *arrays: np.ndarray[Any, Any]) -> Program:
    """What a function is as loops."""
    return captured(fn, *arrays)[0]


def steps(array: np.ndarray[Any, Any]) -> tuple[int, ...]:
    return tuple(s // array.itemsize for s in array.strides)


def computed(made: Program, arrays: list[Any], folder: Path, parts: bool | None = None) -> list[Any]:
    """The results of a program, in new memory."""
    launch = launch_of(made, [steps(a) for a in arrays], [None] * len(made.graph.outputs))
    if parts is not None:
        assert (launch.after is not None) is parts
    arguments: list[Any] = []
    for i, strides in launch.reads:
        arguments += [0, *strides] if i is None else [arrays[i], 0, *strides]
    arguments += [value for value, _ in launch.numbers]
    specs = [v.spec for v in made.graph.outputs]
    flat = [np.zeros(max(s.size, 1), s.dtype.numpy) for s in specs]
    for i, more, strides in launch.writes:
        arguments += [flat[i], more, *strides]
    partial = [(np.zeros(s.size, s.dtype.numpy), s, t) for s, t in launch.partial]
    arguments += [a for a, _, _ in partial]
    run(launch.source, [*arguments, *launch.tail], (launch.items,), folder)
    strided = np.lib.stride_tricks.as_strided
    found = [
        strided(f, s.shape, [n * f.itemsize for n in steps_])
        for f, s, steps_ in zip(flat, specs, launch.layouts, strict=True)
    ]
    if launch.after is not None:
        given = [strided(a, s.shape, [n * a.itemsize for n in t]) for a, s, t in partial]
        rest = iter(computed(launch.after, [*given, *arrays], folder))
        done = {i for i, _, _ in launch.writes}
        found = [f if i in done else next(rest) for i, f in enumerate(found)]
    return found


def check(fn: Callable[..., Any], arrays: list[Any], folder: Path, parts: bool | None = None) -> None:
    made, constants = captured(fn, *arrays)
    found = computed(made, [*arrays, *constants], folder, parts)
    with pg.use_device("numpy"):
        wanted = fn(*map(pg.asarray, arrays))
    for have, want in zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        assert have.dtype == want.numpy().dtype
        np.testing.assert_allclose(have, want.numpy(), 1e-5, 1e-5)


RNG = np.random.default_rng(0)
A = RNG.standard_normal((7, 5)).astype(np.float32)


@needs_compiler
@pytest.mark.parametrize(
    "fn",
    [
        lambda a: pg.where(a > 0.3, a, pg.exp(a)) * 1.7,
        lambda a: (a > 0).astype("float32") + (a * 9).astype("int32"),
        lambda a: pg.softmax(a),
        lambda a: pg.softmax(a, axis=0),
        lambda a: pg.layer_norm(a, (5,)),
        lambda a: (pg.relu(a), pg.sum(pg.relu(a), axis=0), pg.max(a, axis=0)),
        lambda a: pg.sum(a * a) / 3,
        lambda a: pg.prod(a, axis=1, keepdims=True),
        lambda a: pg.stack([a * 2, a + 1], axis=2),
        lambda a: a + pg.arange(5, dtype="float32"),
        lambda a: (a + pg.mean(a, axis=1, keepdims=True), a > 0),
    ],
)
def test_against_eager_mode(fn: Any, tmp_path: Path) -> None:
    check(fn, [A], tmp_path)


@needs_compiler
def test_strides_of_operands(tmp_path: Path) -> None:
    """A transposed one, every other column, a row for all, a column for all."""
    wide = RNG.standard_normal((5, 14)).astype(np.float32)
    row, column = (
        RNG.standard_normal((1, 5)).astype(np.float32),
        RNG.standard_normal((7, 1)).astype(np.float32),
    )
    for fn in (
        lambda a, b, c, d: a * b + c - d,
        lambda a, b, c, d: pg.softmax(a * c + d) * b,
        lambda a, b, c, d: (pg.sum(a * d, axis=0), pg.sum(b, axis=0) + pg.reshape(c, (5,))),
    ):
        check(fn, [np.ascontiguousarray(A.T).T, wide[:, ::2].T, row, column], tmp_path)


@needs_compiler
def test_long_sums_are_made_of_parts(tmp_path: Path) -> None:
    x = RNG.standard_normal((3, 20000)).astype(np.float32)
    check(lambda a: pg.mean(a * a, axis=1), [x], tmp_path, parts=True)
    check(lambda a: (pg.sum(a, axis=0), a * 2), [np.ascontiguousarray(x[:, :700].T)], tmp_path, parts=True)
    check(lambda a: pg.softmax(a), [x], tmp_path, parts=False)


@needs_compiler
def test_integers_wrap_around(tmp_path: Path) -> None:
    i = RNG.integers(-(2**31), 2**31 - 1, (4, 9)).astype(np.int32)
    check(lambda a: (a * 3, pg.sum(a, axis=1, dtype="int32"), pg.max(a, axis=1), a // 7), [i], tmp_path)


def test_what_is_kept_of_a_row_is_costly_and_lies_where_a_result_goes() -> None:
    made = program(lambda a: pg.softmax(a), A)
    ((place, kept),) = made.scratch.items()
    assert place[0].node is not None
    assert (place[0].node.op.name, kept) == ("exp", (2, 0))
    assert program(lambda a: pg.layer_norm(a, (5,)), A).scratch == {}


def test_sizes_make_no_other_text() -> None:
    """One kernel serves all sizes: the divisor of a mean, too, is a parameter."""
    short, whole = (program(lambda a: pg.layer_norm(a, a.shape[1:]), A[:, :n]) for n in (3, 5))
    assert launch_of(short, [(5, 1)], [None]).source == launch_of(whole, [(5, 1)], [None]).source


def test_statements_of_a_tail() -> None:
    """What joins the tile of a product: a graph of elementwise nodes over names that there are."""
    tail = program(lambda a: pg.exp(a + 0.3) * a, A).graph
    write = Statements(C, 1)
    (result,) = statements_of(tail, [Term("sum", dtypes.float32)], write)
    assert write.lines == [
        "const float v0 = (float)((sum) + ((0.30000001192092896f)));",
        "const float v1 = (float)(exp((v0)));",
        "const float v2 = (float)((v1) * (sum));",
    ]
    assert result.text == "v2"


def test_what_is_no_program_says_so() -> None:
    with pytest.raises(ValueError, match="other axes"):
        program(
            lambda a: pg.sum(a, axis=0) + pg.sum(pg.permute_dims(a, (1, 0)), axis=1), np.zeros((5, 5), "f")
        )
