"""Products with what follows them, against their nodes one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import ops, tree
from plugrad.backend import get_backend
from plugrad.dispatch.modes import local
from plugrad.dispatch.statement import Kind, all_ops
from plugrad.graph.capture import Capture
from plugrad.graph.epilogue import Epilogue
from plugrad.graph.ir import Graph
from plugrad.graph.passes.dead_code import dead_code
from plugrad.graph.passes.epilogues import epilogues
from plugrad.graph.passes.lowering import lower
from plugrad.graph.plan import Plan
from plugrad.spec import Spec
from plugrad_numpy import _parallel
from plugrad_numpy.kernels import _tail

BACKEND = get_backend("numpy")
RANDOM = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of any size take a tail, in blocks of a few rows, on three threads."""
    monkeypatch.setattr(_tail, "LEAST", 0)
    monkeypatch.setattr(_tail, "STEP", 40)
    monkeypatch.setattr(_parallel._state, "size", 3)
    monkeypatch.setattr("plugrad_numpy._blas._WORTH", 100)
    monkeypatch.setattr("plugrad_numpy._blas._ALONE", 10)
    monkeypatch.setattr("plugrad_numpy._conv._WORTH", 100)
    monkeypatch.setattr("plugrad_numpy.kernels.linear_algebra._SMALL", 0)


def array(*shape: int, dtype: str = "float32") -> Any:
    values = RANDOM.standard_normal(shape)
    return pg.asarray(values > 0 if dtype == "bool" else values, dtype=dtype)


def graph_of(fn: Callable[..., Any], *args: Any) -> Graph:
    leaves, structure = tree.flatten((args, {}))
    return dead_code(lower(Capture(fn, structure, leaves).graph, BACKEND, local.modes))


def agree(fn: Callable[..., Any], *args: Any, tails: int = 1, nodes: int = 1) -> list[Any]:
    """A function's plan with epilogues gives what it gives without, at every run; the arrays."""
    graph = graph_of(fn, *args)
    done = epilogues(graph, BACKEND, local.modes)
    assert sum(isinstance(n.op, Epilogue) for n in done.nodes) == tails
    assert len(done) == nodes
    inputs = [a._array for a in args]
    kept = [np.array(a) for a in inputs]
    expected = Plan(graph, BACKEND, local.modes).run(inputs)
    plan = Plan(done, BACKEND, local.modes)
    for _ in range(3):
        got = plan.run(inputs, [plan.new_target(o) for o in plan.targets])
        for g, e in zip(got, expected, strict=True):
            assert g.dtype == e.dtype
            assert g.shape == e.shape
            np.testing.assert_allclose(g, e, rtol=2e-6, atol=1e-6)
    for a, k in zip(inputs, kept, strict=True):
        np.testing.assert_array_equal(a, k)
    return got


ROWS = [(7, 5), (40, 3), (1, 9), (3, 50), (2, 3, 11), (2, 1, 2, 7)]


@pytest.mark.parametrize("shape", ROWS)
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    given = [array(*shape), array(13, shape[-1]), *([array(13)] if bias else [])]
    residual = array(*shape[:-1], 13)
    agree(lambda r, *a: pg.relu(pg.linear(*a)) + r, residual, *given)
    agree(lambda r, *a: pg.relu(r + pg.linear(*a) * 2) * r, array(13), *given)
    agree(lambda r, *a: r - pg.linear(*a), array(*shape[:-1], 1), *given)
    agree(lambda r, *a: pg.maximum(pg.linear(*a), r), array(), *given)


@pytest.mark.parametrize("shape", ROWS)
def test_products(shape: tuple[int, ...]) -> None:
    agree(lambda a, b, r: pg.tanh(a @ b) * r, array(*shape), array(shape[-1], 6), array(*shape[:-1], 6))
    # A mask, and operands of which a part is not side by side.
    mask = array(*shape[:-1], 6, dtype="bool")
    agree(lambda a, b, m: pg.where(m, 0.0, a @ b), array(*shape), array(shape[-1], 6), mask)
    turned = array(6, shape[-1])
    agree(lambda a, b: pg.relu(a @ b.mT), array(*shape), turned, nodes=2)


def test_products_of_stacks_stay_whole() -> None:
    agree(lambda a, b: pg.relu(a @ b), array(3, 4, 5), array(3, 5, 6), tails=0, nodes=2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_dtypes(dtype: str) -> None:
    given = [array(9, 4, dtype=dtype), array(4, 8, dtype=dtype)]
    wide = dtype not in ("float16", "bfloat16")
    agree(lambda a, b: pg.relu(a @ b), *given, tails=int(wide), nodes=2 - wide)


def rules() -> dict[str, tuple[Callable[..., Any], list[Any]]]:
    """Backward passes whose products are followed by the rule of an activation."""

    def gradient(fn: Callable[..., Any], wrt: int = 0) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            return pg.grad(lambda a: pg.sum(fn(a, *args[1:])))(args[wrt])

        return run

    return {
        "linear": (gradient(lambda a, w: pg.linear(pg.relu(a), w)), [array(9, 5), array(4, 5)]),
        "product": (gradient(lambda a, w: pg.tanh(a) @ w), [array(9, 5), array(5, 4)]),
        "product of rows": (gradient(lambda a, w: pg.relu(a) @ w), [array(2, 9, 5), array(5, 4)]),
        "conv": (
            gradient(lambda a, w: pg.conv(pg.relu(a), w, padding=1)),
            [array(3, 2, 6, 5), array(4, 2, 3, 3)],
        ),
        "conv of strides": (
            gradient(lambda a, w: pg.conv(pg.relu(a), w, stride=2)),
            [array(3, 2, 7, 6), array(4, 2, 3, 2)],
        ),
        "conv of strides that leave gaps": (
            gradient(lambda a, w: pg.conv(pg.sigmoid(a), w, stride=3)),
            [array(3, 2, 7, 8), array(4, 2, 2, 2)],
        ),
    }


@pytest.mark.parametrize("name", sorted(rules()))
def test_rules(name: str) -> None:
    fn, args = rules()[name]
    graph = graph_of(fn, *args)
    done = epilogues(graph, BACKEND, local.modes)
    assert sum(isinstance(n.op, Epilogue) for n in done.nodes) == 1
    assert len(done) < len(graph)
    inputs = [a._array for a in args]
    (expected,) = Plan(graph, BACKEND, local.modes).run(inputs)
    plan = Plan(done, BACKEND, local.modes)
    for _ in range(2):
        (got,) = plan.run(inputs, [plan.new_target(o) for o in plan.targets])
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((5, 3, 6, 7), (4, 3, 3, 3), {}),
    "padded": ((2, 3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
    "stride": ((4, 3, 8, 7), (4, 3, 3, 2), {"stride": (2, 3), "padding": 1}),
    "dilation": ((3, 2, 9, 9), (3, 2, 3, 3), {"dilation": 2}),
    "groups": ((3, 4, 5, 6), (6, 2, 2, 2), {"groups": 2}),
    "depthwise": ((3, 4, 5, 6), (4, 1, 3, 3), {"groups": 4, "padding": 1}),
    "pointwise": ((4, 5, 3, 3), (6, 5, 1, 1), {}),
    "one axis": ((4, 3, 11), (5, 3, 4), {"padding": 2}),
    "three axes": ((2, 2, 4, 3, 5), (3, 2, 2, 2, 2), {}),
    "winograd": ((4, 16, 18, 17), (24, 16, 3, 3), {"padding": 1}),
    "winograd of one channel block": ((3, 16, 32, 24), (16, 16, 3, 3), {}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("winograd"):
        monkeypatch.setattr("plugrad_numpy._winograd._WORTH", 0)
        monkeypatch.setattr("plugrad_numpy._winograd._POSITIONS", 0)
        monkeypatch.setattr("plugrad_numpy._winograd._BYTES", 0)
        monkeypatch.setattr("plugrad_numpy._winograd._PRODUCT", 0)
    shape, kernel, geometry = CONVOLUTIONS[name]
    x, w, b = array(*shape), array(*kernel), array(kernel[0])
    out = pg.conv(x, w, b, **geometry)
    residual, channels = array(*out.shape), array(1, kernel[0], *(1,) * (len(shape) - 2))
    agree(lambda x, w, b: pg.relu(pg.conv(x, w, b, **geometry)), x, w, b)
    agree(lambda x, w, r: pg.relu(pg.conv(x, w, **geometry) + r), x, w, residual)
    agree(lambda x, w, c, r: r - pg.conv(x, w, **geometry) * c, x, w, channels, residual)
    column = array(out.shape[0], 1, *(1,) * (len(shape) - 3), out.shape[-1])
    agree(lambda x, w, c: pg.sigmoid(c + pg.conv(x, w, **geometry)), x, w, column)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    ("shape", "geometry"),
    [
        ((5, 3, 8, 6), {"kernel_size": 2, "stride": 2}),
        ((4, 3, 7, 9), {"kernel_size": 3, "stride": 2, "padding": 1}),
        ((3, 2, 9), {"kernel_size": 3, "stride": 1}),
        ((2, 1, 300, 500), {"kernel_size": 2, "stride": 2}),  # rows of an image, spread over threads
    ],
)
def test_pools(shape: tuple[int, ...], geometry: dict[str, Any], last: bool) -> None:
    """The rule of an activation after that of a pool; the result has the layout of what is pooled."""

    def fn(x: Any) -> Any:
        return pg.grad(lambda x: pg.sum(pg.square(pg.max_pool(pg.relu(x), **geometry))))(x)

    x = array(*shape)
    graph = graph_of(fn, x)
    done = epilogues(graph, BACKEND, local.modes)
    assert [n.label for n in done.nodes if isinstance(n.op, Epilogue)] == ["max_pool.vjp.x + relu.vjp.x"]
    host = x.numpy().copy()
    if last:
        host = np.moveaxis(np.ascontiguousarray(np.moveaxis(host, 1, -1)), -1, 1)
    plan = Plan(done, BACKEND, local.modes)
    for _ in range(3):
        (expected,) = Plan(graph, BACKEND, local.modes).run([host])
        (got,) = plan.run([host], [plan.new_target(o) for o in plan.targets])
        np.testing.assert_array_equal(got, expected)
        assert got.strides == expected.strides


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("shape", [(5, 3, 4, 6), (40, 8), (3, 2, 90), (2, 3, 40, 500), (9, 17, 3, 3)])
def test_batch_norm(shape: tuple[int, ...], last: bool) -> None:
    """What follows the first of several results; the others come behind."""
    w, b, residual, one = array(shape[1]), array(shape[1]), array(*shape), array(1)

    def norm(x: Any) -> Any:
        return pg.batch_norm_training(x, w, b, eps=1e-5)

    def first(x: Any, r: Any) -> Any:
        y, mean, var = norm(x)
        return pg.relu(y + r), var, mean

    def several(x: Any, r: Any) -> Any:
        y, mean, _ = norm(x)
        return pg.tanh(y * one), y, mean, r - y

    x = array(*shape)
    host = x.numpy().copy()
    if last:
        host = np.moveaxis(np.ascontiguousarray(np.moveaxis(host, 1, -1)), -1, 1)
    for fn, label in ((first, "add + relu"), (several, "multiply + tanh + subtract")):
        graph = graph_of(fn, x, residual)
        done = epilogues(graph, BACKEND, local.modes)
        assert [n.label for n in done.nodes] == [f"batch_norm_training + {label}"]
        inputs = [host, residual._array, w._array, b._array, one._array][: len(graph.inputs)]
        expected = Plan(graph, BACKEND, local.modes).run(inputs)
        plan = Plan(done, BACKEND, local.modes)
        for _ in range(3):
            got = plan.run(inputs, [plan.new_target(o) for o in plan.targets])
            for g, e in zip(got, expected, strict=True):
                np.testing.assert_allclose(g, e, rtol=2e-6, atol=1e-6)


def test_images_that_are_computed_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with an infinity leave the road of fewer multiplications."""
    for name in ("_WORTH", "_POSITIONS", "_PRODUCT"):
        monkeypatch.setattr(f"plugrad_numpy._winograd.{name}", 0)
    x, w = array(5, 16, 8, 8), array(16, 16, 3, 3)
    x = pg.asarray(np.where(np.arange(x.size).reshape(x.shape) % 2500 == 7, np.inf, x.numpy()))
    graph = graph_of(lambda x, w: pg.relu(pg.conv(x, w) + 1), x, w)
    done = epilogues(graph, BACKEND, local.modes)
    assert len(done) == 1
    inputs = [x._array, w._array]
    (expected,) = Plan(graph, BACKEND, local.modes).run(inputs)
    (got,) = Plan(done, BACKEND, local.modes).run(inputs)
    assert not np.isfinite(expected).all()
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)


def test_a_single_image_is_left_to_kernels_of_their_own() -> None:
    agree(lambda x, w: pg.relu(pg.conv(x, w)), array(1, 3, 8, 8), array(4, 3, 3, 3), tails=0, nodes=2)


def test_several_results_and_values_in_between() -> None:
    a, w, r = array(9, 4), array(6, 4), array(9, 6)
    agree(lambda a, w: (lambda y: (y, pg.relu(y)))(pg.linear(a, w)), a, w)
    agree(lambda a, w: (lambda y: (pg.relu(y), pg.tanh(y) * y))(pg.linear(a, w)), a, w)
    agree(lambda a, w: (lambda y: (y > 0, pg.exp(y), y * 2))(pg.linear(a, w)), a, w)
    # leaky_relu reads its operand after it has written; the square is read twice, and is nobody's.
    agree(lambda a, w: pg.leaky_relu(pg.linear(a, w), negative_slope=2.0), a, w)
    agree(lambda a, w, r: (lambda s: s * pg.sin(s) - r)(pg.square(pg.linear(a, w))), a, w, r)
    # A test of the result, another dtype, is selected by; as a result of its own it stays a node.
    agree(lambda a, w, r: pg.where(pg.linear(a, w) > 0, r, 1.0), a, w, r)
    agree(lambda a, w: pg.linear(a, w) > 0, a, w, tails=0, nodes=2)


def elementwise() -> list[str]:
    found = []
    for name, op in all_ops().items():
        spec = Spec((4, 4), pg.float32, pg.zeros(()).spec.device)
        if op.kind is not Kind.ELEMENTWISE or op.attributes or any(o.optional for o in op.operands):
            continue
        if BACKEND.kernels.find(op, [spec] * len(op.operands), {}) is not None:
            found.append(name)
    return found


@pytest.mark.parametrize("name", elementwise())
def test_every_elementwise_op(name: str) -> None:
    """At each operand in turn, the product."""
    op = all_ops()[name]
    for place in range(len(op.operands)):
        graph = Graph()
        x, w, *others = [
            graph.input(array(*s).spec) for s in [(9, 4), (4, 6), *[(9, 6)] * (len(op.operands) - 1)]
        ]
        spec = array(9, 6).spec
        product = graph.add(ops.matrix_product, [x, w], {}, spec)
        operands = [*others[:place], product, *others[place:]]
        try:
            result = op(*(array(9, 6) for _ in operands)).spec
        except Exception:  # of integers, of booleans
            continue
        inputs = [np.abs(RANDOM.standard_normal(v.spec.shape)).astype(np.float32) for v in graph.inputs]
        if op.operands[0].name == "condition":
            continue
        graph.outputs = [graph.add(op, operands, {}, result), product]
        done = epilogues(graph, BACKEND, local.modes)
        assert len(done) == (2 if name in _tail.DEAR else 1)
        expected = Plan(graph, BACKEND, local.modes).run(inputs)
        got = Plan(done, BACKEND, local.modes).run(inputs)
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(g, e, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_graphs_at_random(seed: int) -> None:
    """Products and elementwise ops that read whatever there is."""
    random = np.random.default_rng(seed)

    def fn(*args: Any) -> Any:
        values = list(args)
        wanted = []
        for _ in range(24):
            a, b = (values[i] for i in random.integers(0, len(values), 2))
            kind = random.integers(0, 7)
            if kind < 2:
                values.append(pg.linear(a, b) / 8)
            elif kind == 2:
                values.append(a @ b / 8)
            elif kind == 3:
                values.append(pg.sum(a, axis=int(random.integers(0, 2)), keepdims=True) / 8 + b)
            else:
                following = [lambda a, b: pg.relu(a) + b, lambda a, b: pg.tanh(a), lambda a, b: a * b - a]
                values.append(following[kind - 4](a, b))
            if random.random() < 0.2:
                wanted.append(values[-1])
        return (*wanted, values[-1])

    args = [array(6, 6) for _ in range(3)]
    graph = graph_of(fn, *args)
    done = epilogues(graph, BACKEND, local.modes)
    inputs = [a._array for a in args]
    expected = Plan(graph, BACKEND, local.modes).run(inputs)
    plan = Plan(done, BACKEND, local.modes)
    for _ in range(2):
        got = plan.run(inputs, [plan.new_target(o) for o in plan.targets])
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-5)


def test_most_random_graphs_have_some() -> None:
    a = array(6, 6)
    graph = graph_of(lambda a: pg.relu(a @ a) @ pg.tanh(a @ a), a)
    done = epilogues(graph, BACKEND, local.modes)
    assert [isinstance(n.op, Epilogue) for n in done.nodes] == [True, True, False]
