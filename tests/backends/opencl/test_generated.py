"""Generated kernels against the ops' bodies on NumPy: sizes with and without vectors, strides, dtypes, memory that is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import dtypes, tree
from plugrad.backend import get_backend
from plugrad.dispatch.modes import local
from plugrad.dispatch.statement import all_ops
from plugrad.graph.capture import Capture
from plugrad.graph.fused import Fused
from plugrad.graph.passes import Context, run_passes

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gelu": lambda a: pg.gelu(a),
    "gelu by tanh": lambda a: pg.gelu(a, approximate="tanh"),
    "softmax": lambda a: pg.softmax(a),
    "softmax of columns": lambda a: pg.softmax(a, axis=0),
    "log_softmax": lambda a: pg.log_softmax(a),
    "logsumexp": lambda a: pg.logsumexp(a, axis=1),
    "layer_norm": lambda a: pg.layer_norm(a, a.shape[1:]),
    "choices": lambda a: pg.where((a > 0.3) & (a < 1), pg.maximum(a, 0.5), pg.minimum(-a, 0.25)),
    "signs": lambda a: pg.sign(a) + pg.signbit(a).astype("float32") + pg.floor(a) + pg.copysign(a, -1.0),
    "lane by lane": lambda a: pg.remainder(a, 0.7) + pg.floor_divide(a, 0.3),
    "casts": lambda a: (a * 9).astype("int8").astype("float32") + (a * 9).astype("int64").astype("float32"),
    "sums": lambda a: (pg.mean(a * a, axis=1), pg.sum(a * 2, axis=0), pg.sum(a + 1), a > 0),
    "largest": lambda a: (pg.max(a * 2, axis=1), pg.max(a + 1, axis=0), pg.min(a * 3)),
    "products": lambda a: pg.prod(a * 0.5 + 1, axis=1),
    "parts": lambda a: pg.stack([a * 2, a + 1, pg.exp(a)], axis=2),
    "counting": lambda a: a + pg.arange(a.shape[1], dtype="float32", device=a.device) * 2,
    "gradient": lambda a: pg.grad(lambda a: pg.sum(pg.softmax(pg.gelu(a)) * a))(a),
    "norms' gradient": lambda a: pg.grad(
        lambda a, w: pg.sum(pg.layer_norm(a, a.shape[1:], w) * a), argnums=(0, 1)
    )(a, a[0]),
}
SHAPES = ((37, 53), (3, 16), (2, 15), (5, 1), (1, 40), (700, 33))


def results(fn: Callable[..., Any], *arrays: Any) -> list[Any]:
    found = fn(*arrays)
    return [r.numpy() for r in (found if isinstance(found, tuple) else (found,))]


def close(found: list[Any], wanted: list[Any], tolerance: float = 2e-5) -> None:
    for have, want in zip(found, wanted, strict=True):
        assert (have.shape, have.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(have.astype("f8"), want.astype("f8"), tolerance, tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_captured(name: str, shape: tuple[int, int]) -> None:
    a = np.random.default_rng(0).standard_normal(shape).astype("f")
    fn = FUNCTIONS[name]
    close(results(pg.jit(fn), pg.asarray(a, device="opencl")), results(fn, pg.asarray(a, device="numpy")))


@pytest.mark.parametrize(
    "name", ["gelu", "softmax", "softmax of columns", "choices", "sums", "parts", "gradient"]
)
def test_operands_in_another_order_in_memory(name: str) -> None:
    a = np.random.default_rng(0).standard_normal((53, 74)).astype("f")
    fn = FUNCTIONS[name]

    def transposed(x: Any) -> Any:
        return fn(pg.permute_dims(x[:, ::2], (1, 0)))

    close(
        results(pg.jit(transposed), pg.asarray(a, device="opencl")),
        results(transposed, pg.asarray(a, device="numpy")),
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", ["gelu", "softmax", "layer_norm", "choices", "sums", "largest", "parts"])
def test_other_floats(name: str, dtype: str) -> None:
    """Of 16 bits, each value is rounded as it is made: the results are those of one op after the other."""
    a = np.random.default_rng(0).standard_normal((37, 53)).astype("f")
    fn = FUNCTIONS[name]
    found = results(pg.jit(fn), pg.asarray(a, device="opencl").astype(dtype))
    wanted = results(fn, pg.asarray(a, device="numpy").astype(dtype))
    close(found, wanted, {"float16": 2e-3, "bfloat16": 2e-2, "float64": 1e-12}[dtype])


def test_integers_and_truths() -> None:
    rng = np.random.default_rng(0)
    for dtype in (d.name for d in dtypes.INTEGER):
        a = rng.integers(-99 if dtype.startswith("i") else 0, 99, (19, 37)).astype(dtype)

        def fn(a: Any) -> Any:
            bits = (a & 5) | pg.bitwise_left_shift(a & 7, 2) ^ pg.bitwise_right_shift(a, 1)
            return (
                bits * 3 - a,
                ~a + pg.abs(a),
                a // 7 + a % 3,
                pg.sum(a + a, axis=1),
                pg.max(a + 1),
                (a > 9) | (a == 3),
            )

        close(results(pg.jit(fn), pg.asarray(a, device="opencl")), results(fn, pg.asarray(a, device="numpy")))

    truths = rng.random((9, 37)) < 0.5

    def logic(b: Any) -> Any:
        return (
            pg.where(b, 1.5, 2.0) + b.astype("float32"),
            ~b & (b | b),
            b.astype("int64") * 2,
            pg.sum(b, axis=0) * 2,
        )

    close(
        results(pg.jit(logic), pg.asarray(truths, device="opencl")),
        results(logic, pg.asarray(truths, device="numpy")),
    )


def test_special_values() -> None:
    a = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, -1e38, 88.8, -104.0, 4.5] * 5, "f").reshape(
        2, 25
    )

    def fn(a: Any) -> Any:
        return (
            pg.exp(a) * 1,
            pg.erf(a) * 1,
            pg.maximum(a, 0) * 1,
            pg.minimum(a, 1) * 1,
            pg.sign(a) * 1,
            pg.max(a * 1, axis=0),
            pg.sum(a * 1, axis=1),
            pg.where(a == a, -a, 0) * 1,
            pg.isfinite(a) | pg.isnan(a),
        )

    found, wanted = (results(f, pg.asarray(a, device=d)) for f, d in ((pg.jit(fn), "opencl"), (fn, "numpy")))
    for have, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(have, want, 1e-6, 1e-45)
        np.testing.assert_array_equal(np.signbit(have) & (have == 0), np.signbit(want) & (want == 0))


@pytest.mark.parametrize("name", ["exp", "erf"])
def test_own_functions(name: str) -> None:
    """Within a few units in the last place, over all of their range."""
    a = np.concatenate([np.linspace(-104, 89, 1 << 14), np.logspace(-38, 0, 1 << 10)]).astype("f")
    fn, wanted = getattr(pg, name), getattr(pg, name)(pg.asarray(a.astype("f8"), device="numpy")).numpy()
    (found,) = results(pg.jit(lambda a: fn(a) * 1.0 + 0.0), pg.asarray(a, device="opencl"))
    with np.errstate(over="ignore"):
        unit = np.spacing(np.maximum(np.abs(wanted), 1e-45).astype("f"))
    finite = np.isfinite(unit)
    assert np.max(np.abs(found[finite] - wanted[finite]) / unit[finite]) < 3


def test_nothing_is_fused_of_empty_values() -> None:
    a = pg.zeros((0, 5), device="opencl")
    close(results(pg.jit(FUNCTIONS["softmax"]), a), [np.zeros((0, 5), "f")])


def region_of(fn: Callable[..., Any], *tensors: Any) -> tuple[Any, list[int]]:
    """The generated kernel of a function that is one region, and which arguments it takes in which order."""
    leaves, structure = tree.flatten((tensors, {}))
    backend = get_backend("opencl")
    graph = run_passes(Capture(fn, structure, leaves).graph, Context(backend, local.modes))
    (node,) = graph.nodes
    assert isinstance(node.op, Fused)
    return node.op.kernel(backend, local.modes, {}), [graph.inputs.index(v) for v in node.operands]


def test_results_are_written_over_operands_where_the_kernel_says_so() -> None:
    backend = get_backend("opencl")
    rng = np.random.default_rng(0)
    hosts = [rng.standard_normal(5000).astype("f") for _ in range(3)]
    tensors = [pg.asarray(h, device="opencl") for h in hosts]
    kernel, order = region_of(lambda p, g, m: (p - g * 0.5, m * 0.9 + g), *tensors)
    assert sorted(kernel.inplace) == ["0", "1", "2"]
    p, _, m = arrays = [x._array for x in tensors]
    into = kernel.function(*(arrays[i] for i in order), into=(p, None))
    assert into[0] is p
    kernel.function(*(pg.asarray(hosts[i], device="opencl")._array for i in order), into=(p, m))
    np.testing.assert_allclose(backend.to_host(p), hosts[0] - hosts[1] * 0.5, 1e-6)
    np.testing.assert_allclose(backend.to_host(m), hosts[2] * 0.9 + hosts[1], 1e-6, 1e-6)


def test_a_row_that_is_gone_over_again_is_not_written_over() -> None:
    kernel, _ = region_of(lambda a: pg.softmax(a), pg.zeros((3, 40), device="opencl"))
    assert kernel.inplace == ()


def test_results_go_to_memory_of_any_strides() -> None:
    backend = get_backend("opencl")
    a = np.random.default_rng(0).standard_normal((20, 40)).astype("f")
    x = pg.asarray(a, device="opencl")
    kernel, _ = region_of(lambda a: pg.softmax(a), x)
    other = pg.zeros((40, 60), device="opencl")
    into = pg.permute_dims(other[:, 20:40], (1, 0))._array
    kernel.function(x._array, into=into)
    np.testing.assert_allclose(backend.to_host(into), pg.softmax(pg.asarray(a)).numpy(), 1e-5)
    assert not backend.to_host(other._array)[:, :20].any()
    assert not backend.to_host(other._array)[:, 40:].any()


COMPOSITES = [
    op
    for op in all_ops().values()
    if op.body is not None and op.owner is None and op.sampler is not None and not op.data_dependent
]


@pytest.mark.parametrize("op", COMPOSITES, ids=lambda op: op.name)
def test_bodies_in_eager_mode(op: Any) -> None:
    """Each composite on its samples, its cotangents too: the generated kernels and the bodies give the same."""
    for sample in op.sampler(np.random.default_rng(0)):
        found = []
        for device in ("opencl", "numpy"):
            tensors = [_placed(x, device) for x in sample.operands]
            with pg.use_device(device):
                given = sample.apply(op, tensors)
                outputs = [t for t in tree.flatten(given)[0] if isinstance(t, pg.Tensor)]
                loss = sum(
                    (pg.sum(t * t) for t in outputs if t.dtype.is_floating and t._node is not None), start=0.0
                )
                if isinstance(loss, pg.Tensor):
                    loss.backward()
            leaves = [t for t in tree.flatten(tensors)[0] if isinstance(t, pg.Tensor)]
            found.append(
                [t.numpy() for t in outputs] + [t.grad.numpy() for t in leaves if t.grad is not None]
            )
        close(*found, tolerance=2e-4)


def _placed(value: Any, device: str) -> Any:
    if isinstance(value, list):
        return [_placed(v, device) for v in value]
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    host = np.asarray(value)
    tensor = pg.asarray(host.astype("f") if host.dtype.kind == "f" else host, device=device)
    return tensor.requires_grad_() if host.dtype.kind == "f" else tensor
