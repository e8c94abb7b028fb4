"""The oracles of ops that are not elementwise, held against the `numpy` device in float64, and against what each op says."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from plugrad.dispatch.statement import Kind
from plugrad_conformance.oracles._register import ORACLES
from support.samples import flat, normalized, operands, samples_of, stated_ops

FAMILIES = [
    "attention",
    "convolution",
    "creation",
    "indexing",
    "linear",
    "loss",
    "movement",
    "normalization",
    "optimizer",
    "pooling",
    "recurrent",
    "reduction",
    "scan",
    "sets",
    "slicing",
    "softmax",
    "sorting",
]
for family in FAMILIES:
    importlib.import_module(f"plugrad_conformance.oracles.{family}")

ELSEWHERE = {"astype", "dropout", "positive"}
"""Ops that go with the elementwise ones."""

STRUCTURED = [
    op for op in stated_ops() if op.kind not in (Kind.ELEMENTWISE, Kind.RANDOM) and op.name not in ELSEWHERE
]

MOVING = {Kind.MOVEMENT, Kind.SORTING, Kind.CREATION}
"""Kinds whose results are elements of their operands, or exact."""


def attributes_of(op: Op[..., Any], args: list[Any], given: dict[str, Any]) -> dict[str, Any]:
    """The attributes as kernels get them, without the device."""
    defaults = {
        name: p.default
        for name, p in inspect.signature(op.__wrapped__).parameters.items()  # type: ignore[attr-defined]
        if p.default is not p.empty
    }
    whole = {k: v for k, v in {**defaults, **given}.items() if k in op.attributes}
    padded = [*args, *[None] * (len(op.operands) - len(args))]
    return {k: v for k, v in normalized(op, padded, whole).items() if k != "device"}


def host(value: Any) -> Any:
    if isinstance(value, list):
        return [host(v) for v in value]
    return value.numpy() if isinstance(value, pg.Tensor) else value


def by_oracle(op: Op[..., Any], args: list[Any], given: dict[str, Any]) -> list[Any]:
    """What the oracle gives for tensors, as a list of results."""
    padded = [host(a) for a in args] + [None] * (len(op.operands) - len(args))
    out = ORACLES[op.name](*padded, **attributes_of(op, args, given))
    return list(out) if isinstance(out, tuple) else [out]


def assert_agrees(op: Op[..., Any], results: list[Any], wanted: list[Any], message: str) -> None:
    assert len(wanted) == len(results), message
    for result, oracle in zip(results, wanted, strict=True):
        got = result.numpy()
        assert isinstance(oracle, np.ndarray), message
        assert oracle.shape == got.shape, message
        if not result.dtype.is_floating:
            assert oracle.dtype == got.dtype, message
            np.testing.assert_array_equal(got, oracle, err_msg=message)
            continue
        assert oracle.dtype == np.float64, message
        np.testing.assert_array_equal(np.isnan(got), np.isnan(oracle), err_msg=message)
        if op.kind in MOVING and op.name not in ("arange", "linspace"):
            np.testing.assert_array_equal(got, oracle, err_msg=message)
            continue
        finite = np.isfinite(oracle)
        np.testing.assert_array_equal(got[~finite], oracle[~finite], err_msg=message)
        # An attribute may ask for float32 whatever the operands are.
        bound = 1e-12 if result.dtype is pg.float64 else 1e-6
        scale = max(1.0, float(np.abs(oracle[finite]).max(initial=0.0)))
        error = float(np.abs(got[finite].astype(np.float64) - oracle[finite]).max(initial=0.0))
        assert error <= bound * scale, f"{message}: off by {error} of {scale}"


@pytest.mark.parametrize("op", STRUCTURED, ids=lambda op: op.name)
def test_an_oracle_agrees_with_the_device(op: Op[..., Any]) -> None:
    for sample in samples_of(op):
        args = operands(sample, "float64", "numpy")
        results = list(flat(sample.apply(op, args)))
        assert_agrees(op, results, by_oracle(op, args, sample.attributes), f"{op.name} {sample}")


def test_every_op_has_an_oracle() -> None:
    modules = {f"plugrad_conformance.oracles.{family}" for family in FAMILIES}
    named = {name for name, oracle in ORACLES.items() if oracle.__module__ in modules}
    assert named == {op.name for op in STRUCTURED}


@pytest.mark.parametrize("op", STRUCTURED, ids=lambda op: op.name)
def test_an_oracle_takes_what_a_kernel_takes(op: Op[..., Any]) -> None:
    parameters = inspect.signature(ORACLES[op.name]).parameters.values()
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert keywords == set(op.attributes) - {"device"}
    assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == [o.name for o in op.operands]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_oracle_shares_no_code_with_what_it_judges(family: str) -> None:
    module = importlib.import_module(f"plugrad_conformance.oracles.{family}")
    imported = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    ours = {name for name in imported if name.startswith("plugrad")}
    assert all(n == "plugrad.dtypes" or n.startswith("plugrad_conformance.oracles.") for n in ours)


# -- what samples do not reach -----------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


def case(name: str, *args: Any, **attributes: Any) -> Any:
    label = f"{name}-{len(args)}-{'-'.join(map(str, attributes))}"
    return pytest.param(name, args, attributes, id=label)


@pytest.mark.parametrize(
    ("name", "args", "attributes"),
    [
        case("max", [[1.0, NAN], [INF, 2.0]], axis=1),
        case("min", [[1.0, NAN], [-INF, 2.0]], axis=1),
        case("argmax", [[1.0, NAN, NAN], [3.0, INF, INF]], axis=1),
        case("argmin", [[1.0, NAN, NAN], [3.0, -INF, -INF]], axis=1),
        case("all", [[NAN, 1.0], [0.0, NAN]], axis=1),
        case("any", [[NAN, 0.0], [0.0, -0.0]], axis=1),
        case("count_nonzero", [NAN, 0.0, -0.0, INF]),
        case("nonzero_indices", [[NAN, 0.0], [-0.0, INF]]),
        case("nonzero_indices", np.array(3)),
        case("var", [1.0, 2.0, 3.0], correction=3),
        case("std", [2.0, 2.0, 2.0], correction=1),
        case("sum", np.array([100, 100], np.int8), dtype="int8"),
        case("sum", np.array([100, 100], np.int8), dtype="float32"),
        case("sum", np.array([2**31, 2**31], np.uint32)),
        case("sum", np.array([True, True])),
        case("prod", np.array([7, 100], np.int8), dtype="int8"),
        case("cumulative_sum", np.array([100, 100], np.int8), dtype="uint8"),
        case("cumulative_prod", np.array([True, False]), include_initial=True),
        case("argsort", [2.0, NAN, 0.0, -0.0, NAN, -INF]),
        case("argsort", [2.0, NAN, 0.0, -0.0, NAN, -INF], descending=True),
        case("sort", [2.0, NAN, 1.0, NAN, -INF], descending=True),
        case("top_k", [2.0, NAN, 1.0, 2.0], k=3),
        case("top_k", [2.0, NAN, 1.0, 1.0], k=3, largest=False),
        case("searchsorted", [1.0, 2.0, NAN], [NAN, 3.0, 2.0]),
        case("searchsorted", [1.0, 2.0, NAN], [NAN, 3.0, 2.0], side="right"),
        case("searchsorted", [2.0, 1.0], [1.5], np.array([-1, 0])),
        case("unique_all", [[NAN, 1.0], [NAN, 1.0]]),
        case("unique_inverse", [3.0, 0.0, -0.0]),
        case("softmax", [[-INF, 1.0], [-INF, -INF], [INF, 1.0]]),
        case("log_softmax", [[-INF, 1.0], [-INF, -INF], [INF, 1.0]]),
        case("logsumexp", [[-INF, 1.0], [-INF, -INF], [INF, 1.0], [NAN, 1.0]], axis=1),
        case("logsumexp", [1000.0, 1000.0]),
        case("max_pool", [[[1.0, NAN, -3.0, -4.0]]], kernel_size=2),
        case("mse_loss", np.zeros((0,)), np.zeros((0,))),
        case("cross_entropy", np.zeros((0, 3)), np.zeros((0,), np.int64)),
        case("cross_entropy", [[NAN, 1.0], [0.0, 1.0]], np.array([-100, 1])),
        case("cross_entropy", np.zeros((0, 3)), np.zeros((0, 3))),
        case("binary_cross_entropy_with_logits", [1000.0, -1000.0], [0.0, 1.0], reduction="none"),
        case("full", shape=(2,), fill_value=2**64 - 1, dtype="uint64"),
        case("full", shape=(2,), fill_value=1, dtype="bool"),
        case("full", shape=(), fill_value=NAN),
        case("iota", length=300, dtype="int8"),
        case("arange", start=2**63, stop=2**63 + 5, step=2, dtype="uint64"),
        case("arange", start=5.0, stop=0.0, step=-1.0, dtype="int32"),
        case("arange", start=5, stop=0, step=-2, dtype="float32"),
        case("linspace", start=-1e308, stop=1e308, num=3, dtype="float64"),
        case("eye", n_rows=2, n_cols=3, k=-1, dtype="bool"),
        case("tril", np.array([[True, True], [True, True]])),
        case("pad", np.array([True, False]), pad_width=1, value=True),
        case("pad", np.array([[1, 2], [3, 4]]), pad_width=((3, 2), (0, 5)), mode="wrap"),
        case("matrix_product", np.full((1, 2), 100, np.int8), np.full((2, 1), 100, np.int8)),
        case("vecdot", np.full(3, 100, np.int8), np.full(3, 100, np.int8)),
        case("tensordot", np.full(3, 100, np.int8), np.full(3, 100, np.int8), axes=1),
        case("diff", np.array([3, 1], np.uint8)),
        case("scatter_add", [0.0, 0.0], np.array([1, -1, 0]), [1.0]),
        case("update_nd", [0.0, 0.0], [np.array([1, -1, 0])], [1.0, 2.0, 3.0]),
        case("update_slice", np.array([True, True]), np.array(False), bounds=((None, None, -1),)),
        case("scatter_slice", np.array([True, True]), shape=(3,), bounds=((2, 0, -1),)),
        case("reshape", [1.0, 2.0], shape=(2, 1), copy=False),
    ],
)
def test_an_oracle_agrees_where_samples_do_not_go(
    name: str, args: tuple[Any, ...], attributes: dict[str, Any]
) -> None:
    def tensor(value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
            return [tensor(v) for v in value]
        return pg.asarray(np.asarray(value), device="numpy")

    op = next(o for o in STRUCTURED if o.name == name)
    tensors = [tensor(a) for a in args]
    sample = Sample(*tensors, **attributes)
    results = list(flat(sample.apply(op, tensors)))
    assert_agrees(op, results, by_oracle(op, tensors, attributes), f"{name} {sample}")


@pytest.mark.parametrize(
    ("name", "args", "attributes"),
    [
        ("gather_nd", (np.zeros((2, 2)), [np.array([2])]), {"axis": 0}),
        ("scatter_nd", (np.zeros(1), [np.array([-3])]), {"axis": 0, "shape": (2,)}),
        ("one_hot", (np.array([-1]),), {"num_classes": 2, "dtype": pg.float32}),
        ("embedding", (np.array([-1]), np.zeros((2, 2))), {"padding_idx": None}),
        (
            "cross_entropy",
            (np.zeros((1, 2)), np.array([-1]), None),
            {"ignore_index": -100, "reduction": "sum", "label_smoothing": 0.0},
        ),
    ],
)
def test_an_oracle_reads_nothing_outside(name: str, args: Any, attributes: dict[str, Any]) -> None:
    with pytest.raises(IndexError):
        ORACLES[name](*args, **attributes)


LINEAR = {
    "avg_pool": 1,
    "broadcast_to": 1,
    "conv": 1,
    "conv_transpose": 1,
    "conv_weight": 2,
    "cumulative_sum": 1,
    "diff": 1,
    "gather_nd": 1,
    "linear": 1,
    "matmul": 2,
    "matrix_product": 2,
    "mean": 1,
    "scatter_nd": 1,
    "scatter_slice": 1,
    "strided_slice": 1,
    "sum": 1,
    "sum_to": 1,
    "take": 1,
    "take_along_axis": 1,
    "tensordot": 2,
    "vecdot": 2,
}
"""Oracles that sums of absolute values and numbers of terms are made with, and of how many operands each is linear,
one at a time."""


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_op_has_a_linear_oracle(name: str) -> None:
    op = next(o for o in STRUCTURED if o.name == name)
    rng = np.random.default_rng(5)
    for sample in samples_of(op):
        args = operands(sample, "float64", "numpy")
        attributes = attributes_of(op, args, sample.attributes)
        whole = [host(a) for a in args] + [None] * (len(op.operands) - len(args))
        if whole[0].dtype.kind != "f":
            continue
        # What is added to the rest would make it affine.
        whole = [None if o.optional else v for o, v in zip(op.operands, whole, strict=True)]
        for i in range(LINEAR[name]):
            one, two = whole[i], rng.standard_normal(whole[i].shape)

            def at(value: Any, i: int = i, whole: Any = whole, attributes: Any = attributes) -> Any:
                return ORACLES[name](*whole[:i], value, *whole[i + 1 :], **attributes)

            wanted = 2 * at(one) - 3 * at(two)
            np.testing.assert_allclose(at(2 * one - 3 * two), wanted, rtol=1e-11, atol=1e-11)


def test_convolution_of_an_image_by_hand() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 33, 33)), rng.standard_normal((4, 3, 3, 3))
    geometry = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    out = ORACLES["conv"](x, weight, None, **geometry)
    around = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for place in ((0, 0), (16, 5), (32, 32)):
        seen = around[1, :, place[0] : place[0] + 3, place[1] : place[1] + 3]
        np.testing.assert_allclose(out[(1, 2, *place)], (seen * weight[2]).sum(), rtol=1e-12)
