"""Each pass by itself, on graphs before and after it, as text."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import dtypes, tree
from plugrad.backend import KernelTable
from plugrad.backend.kernels import Kernel, OpLike
from plugrad.backend.null import NOTHING, NullBackend
from plugrad.dispatch.modes import local
from plugrad.errors import ArgumentError
from plugrad.graph.capture import Capture
from plugrad.graph.ir import Graph
from plugrad.graph.passes import PASSES, Context, Pass, run_passes
from plugrad.graph.passes.algebra import algebra, exact_cast
from plugrad.graph.passes.common import common_subexpressions
from plugrad.graph.passes.constants import constants
from plugrad.graph.passes.dead_code import dead_code
from plugrad.graph.passes.lowering import lower
from plugrad.graph.passes.plugins import guarded

NULL = NullBackend()


def graph_of(fn: Callable[..., Any], *args: Any) -> Graph:
    leaves, structure = tree.flatten((args, {}))
    return Capture(fn, structure, leaves).graph


def body(graph: Graph) -> list[str]:
    """The lines of constants and nodes, without specs, and that of the outputs."""
    lines = [re.sub(r": \w+\[[^\]]*\]", "", line.strip()) for line in str(graph).splitlines()]
    return [re.sub(" += ", " = ", line) for line in lines if re.match("[cv]|return", line)]


def x(*shape: int, dtype: str = "float32") -> Any:
    return pg.zeros(shape or (2, 3), dtype=dtype)


def test_dead_code_goes_and_what_it_alone_reads() -> None:
    def fn(a: Any) -> Any:
        pg.exp(pg.sin(a))
        return pg.cos(a)

    graph = graph_of(fn, x())
    assert body(graph) == ["v0 = sin(x0)", "v1 = exp(v0)", "v2 = cos(x0)", "return v2"]
    assert body(dead_code(graph)) == ["v0 = cos(x0)", "return v0"]


def test_dead_constants_go() -> None:
    graph = Graph()
    a = graph.input(x().spec)
    graph.constant(NOTHING, a.spec)
    read = graph.constant(NOTHING, a.spec)
    graph.outputs = [graph.add(pg.add, [a, read], {}, a.spec)]
    assert body(dead_code(graph)) == ["c0 = constant", "v0 = add(x0, c0)", "return v0"]


def test_a_node_of_which_one_result_is_needed_stays_whole() -> None:
    graph = graph_of(
        lambda a: pg.adam_update(
            *[a] * 4, *[a.sum()] * 2, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.0, decoupled=False
        )[1],
        x(),
    )
    assert body(dead_code(graph)) == body(graph)


def test_the_same_application_happens_once() -> None:
    graph = graph_of(lambda a: pg.exp(a * 2) + pg.exp(a * 2) * pg.exp(a * 3), x())
    assert len(graph) == 8
    assert body(common_subexpressions(graph)) == [
        "v0 = multiply(x0, 2)",
        "v1 = exp(v0)",
        "v2 = multiply(x0, 3)",
        "v3 = exp(v2)",
        "v4 = multiply(v1, v3)",
        "v5 = add(v1, v4)",
        "return v5",
    ]


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (0.0, -0.0), (True, 1)])
def test_numbers_that_are_equal_and_not_the_same_stay_apart(one: Any, other: Any) -> None:
    graph = graph_of(lambda a: (a + one) * (a + other), x())
    assert len(common_subexpressions(graph)) == 3


def test_attributes_and_seeds_that_differ_stay_apart() -> None:
    graph = graph_of(lambda a: a.sum(axis=0).sum() + a.sum(axis=1).sum(), x())
    assert len(common_subexpressions(graph)) == 5


def test_two_draws_stay_two() -> None:
    graph = graph_of(lambda: (pg.random.normal((3,)), pg.random.normal((3,))))
    after = common_subexpressions(graph)
    assert len(set(after.outputs)) == len(graph.outputs)


def pairs() -> dict[str, tuple[Callable[..., Any], Any, list[str]]]:
    """By name: a function, its operand, and what is left of it."""
    small = x(2, 3, 4)
    return {
        "reshape of reshape": (
            lambda a: pg.reshape(pg.reshape(a, (6, 4)), (4, 6)),
            small,
            ["v0 = reshape(x0)", "return v0"],
        ),
        "reshape there and back": (
            lambda a: pg.exp(pg.reshape(pg.reshape(a, (6, 4)), (2, 3, 4))),
            small,
            ["v0 = exp(x0)", "return v0"],
        ),
        "three reshapes": (
            lambda a: pg.reshape(pg.reshape(pg.reshape(a, (6, 4)), (24,)), (8, 3)),
            small,
            ["v0 = reshape(x0)", "return v0"],
        ),
        "reshape to the same": (lambda a: pg.reshape(a, (2, 3, 4)), small, ["return x0"]),
        "permute of permute": (
            lambda a: pg.permute_dims(pg.permute_dims(a, (2, 0, 1)), (2, 1, 0)),
            small,
            ["v0 = permute_dims(x0, axes=(1, 0, 2))", "return v0"],
        ),
        "permute there and back": (
            lambda a: pg.permute_dims(pg.permute_dims(a, (2, 0, 1)), (1, 2, 0)),
            small,
            ["return x0"],
        ),
        "permute to the same": (lambda a: pg.permute_dims(a, (0, 1, 2)), small, ["return x0"]),
        "broadcast of broadcast": (
            lambda a: pg.broadcast_to(pg.broadcast_to(a, (5, 2, 3, 4)), (6, 5, 2, 3, 4)),
            small,
            ["v0 = broadcast_to(x0)", "return v0"],
        ),
        "broadcast to the same": (lambda a: pg.broadcast_to(a, (2, 3, 4)), small, ["return x0"]),
        "slice of everything": (
            lambda a: pg.exp(pg.strided_slice(a, ((0, 2, 1), (None, None, 1), (-9, 9, 1)))),
            small,
            ["v0 = exp(x0)", "return v0"],
        ),
        "slice backwards": (
            lambda a: pg.strided_slice(a, ((0, 2, 1), (0, 3, 1), (None, None, -1))),
            small,
            ["v0 = strided_slice(x0, bounds=((0, 2, 1), (0, 3, 1), (3, -1, -1)))", "return v0"],
        ),
        "concatenation of one": (
            lambda a: pg.concat([a], axis=1) * 2,
            small,
            ["v0 = multiply(x0, 2)", "return v0"],
        ),
        "two negations": (lambda a: pg.negative(pg.negative(a)), small, ["return x0"]),
        "three negations": (
            lambda a: pg.negative(pg.negative(pg.negative(a))),
            small,
            ["v0 = negative(x0)", "return v0"],
        ),
        "x * 1": (lambda a: 1 * (a * 1.0), small, ["return x0"]),
        "x times ones": (lambda a: a * pg.ones((2, 3, 4)) * pg.ones(()), small, ["return x0"]),
        "x / 1": (lambda a: a / 1, small, ["return x0"]),
        "x - 0": (lambda a: a - 0, small, ["return x0"]),
        "x - -0": (lambda a: a - -0.0, small, ["v0 = subtract(x0, -0.0)", "return v0"]),
        "x + 0": (lambda a: a + 0, small, ["v0 = add(x0, 0)", "return v0"]),
        "x * 0": (lambda a: a * 0, small, ["v0 = multiply(x0, 0)", "return v0"]),
        "1 / x": (lambda a: 1 / a, small, ["v0 = divide(1, x0)", "return v0"]),
        "ones that broadcast": (
            lambda a: a * pg.ones((5, 1, 1, 1)),
            small,
            ["v0 = full(fill_value=1)", "v1 = multiply(x0, v0)", "return v1"],
        ),
        "a sum over no axes starts from 0": (
            lambda a: pg.sum(a, axis=()),
            small,
            ["v0 = sum(x0, axis=())", "return v0"],
        ),
        "cast wide and back": (
            lambda a: pg.astype(pg.astype(a, "float64"), "float32"),
            small,
            ["return x0"],
        ),
        "cast narrow and back": (
            lambda a: pg.astype(pg.astype(a, "float16"), "float32"),
            small,
            ["v0 = astype(x0)", "v1 = astype(v0)", "return v1"],
        ),
        "two exact casts": (
            lambda a: pg.astype(pg.astype(a, "float32"), "float64"),
            x(3, dtype="float16"),
            ["v0 = astype(x0)", "return v0"],
        ),
        "an integer by way of float": (
            lambda a: pg.astype(pg.astype(a, "float64"), "float16"),
            x(3, dtype="int32"),
            ["v0 = astype(x0)", "v1 = astype(v0)", "return v1"],
        ),
        "an integer times 1.0 is a float": (
            lambda a: a * 1.0,
            x(3, dtype="int32"),
            ["v0 = astype(x0)", "return v0"],
        ),
    }


@pytest.mark.parametrize("name", pairs())
def test_algebra(name: str) -> None:
    fn, operand, wanted = pairs()[name]
    assert body(algebra(graph_of(fn, operand))) == wanted


def test_a_reshape_that_promises_not_to_copy_keeps_its_promise() -> None:
    graph = graph_of(lambda a: pg.reshape(pg.reshape(a, (6,)), (3, 2), copy=False), x())
    assert len(algebra(graph)) == 2


def bits(dtype: dtypes.DType) -> np.ndarray[Any, Any]:
    """Every value of a small dtype, or what stands for a large one: its limits and powers of two with neighbours."""
    if dtype.itemsize <= 2 and dtype is not dtypes.bool:
        return np.arange(256**dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype.numpy)
    if dtype is dtypes.bool:
        return np.array([False, True])
    if dtype.is_floating:
        info = pg.finfo(dtype)
        edge = [info.max, info.smallest_normal, info.smallest_normal / 8, 1 + info.eps, 0.0, np.inf, np.nan]
        return np.array([*edge, *(-v for v in edge)], dtype.numpy)
    low, high = pg.iinfo(dtype).min, pg.iinfo(dtype).max
    around = [s * 2**k + d for k in range(65) for d in (-1, 0, 1) for s in (1, -1)]
    return np.array([v for v in (*around, low, high) if low <= v <= high], dtype.numpy)


def _exact(dtype: dtypes.DType) -> np.dtype[Any]:
    """A dtype of NumPy's own that holds the values of ``dtype``."""
    return np.dtype(np.float32) if dtype is dtypes.bfloat16 else dtype.numpy


@pytest.mark.parametrize("source", dtypes.ALL, ids=str)
@pytest.mark.parametrize("target", dtypes.ALL, ids=str)
def test_a_cast_is_exact_where_every_value_comes_back(source: dtypes.DType, target: dtypes.DType) -> None:
    values = bits(source)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        there = values.astype(target.numpy)
        if source.is_floating and target.is_floating:
            back = there.astype(source.numpy)
            alike = (back == values) | (np.isnan(back) & np.isnan(values))
            kept = bool((alike & (np.signbit(back) == np.signbit(values))).all())
        elif source.is_floating:
            kept = False
        else:  # as Python's numbers, since NumPy's integers that wrap around come back
            kept = all(
                np.isfinite(t) and t.item() == v.item()
                for t, v in zip(there.astype(_exact(target)), values, strict=True)
            )
    assert exact_cast(source, target) == kept


def test_constants_are_computed_and_what_is_made_of_them() -> None:
    def fn(a: Any) -> Any:
        return a + pg.reshape(pg.astype(pg.iota(3), "float32") * 2, (1, 3))

    graph = graph_of(fn, x())
    assert body(graph)[0] == "v0 = iota(length=3)"
    after = constants(graph, NULL, local.modes)
    assert body(after) == ["c0 = constant", "v0 = add(x0, c0)", "return v0"]
    assert list(after.constants.values()) == [NOTHING]


def test_large_constants_stay_nodes() -> None:
    graph = graph_of(lambda a: a + pg.full((4, 4), 2.0) + pg.full((), 2.0), x(4, 4))
    after = constants(graph, NULL, local.modes, limit=63)
    assert [n.op.name for n in after.nodes] == ["full", "add", "add"]
    assert [n.op.name for n in constants(graph, NULL, local.modes, limit=64).nodes] == ["add", "add"]


def test_what_is_returned_is_made_at_each_run() -> None:
    graph = graph_of(lambda: (pg.full((2, 3), 1.0), pg.reshape(pg.full((6,), 2.0) * 2, (2, 3))))
    after = constants(graph, NULL, local.modes)
    assert [n.op.name for n in after.nodes] == ["full", "multiply", "reshape"]


class _Table(KernelTable):
    """What the null device has, but for some ops; a kernel of others raises."""

    def __init__(self, without: Sequence[str] = (), raising: Sequence[str] = ()) -> None:
        super().__init__()
        self._without, self._raising = without, raising

    def find(self, op: OpLike, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
        if op.name in self._raising:
            return Kernel(_raise)
        return None if op.name in self._without else NULL.kernels.find(op, specs, attributes)


def _raise(*_: Any, **__: Any) -> Any:
    raise ArithmeticError


class Chip(NullBackend):
    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.kernels = _Table(**given)  # type: ignore[assignment]


def test_a_kernel_that_raises_does_so_when_it_runs() -> None:
    graph = graph_of(lambda a: a + pg.exp(pg.full((), 2.0)), x())
    after = constants(graph, Chip(raising=["exp"]), local.modes)
    assert body(after) == ["c0 = constant", "v0 = exp(c0)", "v1 = add(x0, v0)", "return v1"]


def test_lowering_puts_bodies_where_there_are_no_kernels() -> None:
    graph = graph_of(lambda a: pg.softmax(a, axis=-1), x())
    assert body(lower(graph, NULL, local.modes)) == ["v0 = softmax(x0, axis=1)", "return v0"]
    lowered = lower(graph, Chip(without=["softmax"]), local.modes)
    names = [n.op.name for n in lowered.nodes]
    assert "softmax" not in names
    assert {"max", "exp", "sum", "divide"} <= set(names)
    assert lowered.outputs[0].spec is graph.outputs[0].spec


def test_the_passes_run_in_their_order_and_tell() -> None:
    told: list[tuple[str, Graph, Graph]] = []
    graph = graph_of(lambda a: (a * 1).reshape((6,)).reshape((3, 2)) + pg.full((), 2.0), x())
    after = run_passes(graph, Context(NULL, local.modes), lambda *step: told.append(step))
    assert [name for name, _, _ in told] == list(PASSES)
    assert told[0][1] is graph
    assert all(before is last for (_, before, _), (_, _, last) in zip(told[1:], told, strict=False))
    assert told[-1][2] is after
    assert body(after) == ["c0 = constant", "v0 = reshape(x0)", "v1 = add(v0, c0)", "return v1"]


def test_passes_leave_the_graph_that_they_get() -> None:
    graph = graph_of(lambda a: pg.exp(a * 1) + pg.exp(a) + pg.full((), 2.0), x())
    before = str(graph)
    run_passes(graph, Context(NULL, local.modes))
    assert str(graph) == before


@pytest.mark.parametrize(("before", "after"), [("", ""), ("lower", "lower")])
def test_a_plugins_pass_says_where_it_runs(before: str, after: str) -> None:
    with pytest.raises(ArgumentError, match="takes either before= or after="):
        Pass("mine", lambda graph, _: graph, before=before, after=after)


def _other_outputs(graph: Graph, _: Context) -> Graph:
    new = dead_code(graph)
    new.outputs = []
    return new


def _upside_down(graph: Graph, _: Context) -> Graph:
    return Graph.of(graph.inputs, graph.nodes[::-1], graph.outputs)


def _foreign(graph: Graph, _: Context) -> Graph:
    return Graph.of(graph.inputs, [], graph.outputs)


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (_raise, "ArithmeticError"),
        (lambda graph, _: None, "NoneType, not a Graph"),
        (_other_outputs, "other outputs"),
        (_upside_down, "reads a value that is not there"),
        (_foreign, "another graph"),
    ],
)
def test_a_plugins_pass_that_is_wrong_is_left_out(run: Any, why: str) -> None:
    graph = graph_of(lambda a: pg.exp(pg.sin(a)), x())
    with pytest.warns(UserWarning, match=f"the pass 'mine' of dist-mine is left out of a graph.*{why}"):
        assert (
            guarded(Pass("mine", run, after="lower"), "dist-mine")(graph, Context(NULL, local.modes)) is graph
        )
