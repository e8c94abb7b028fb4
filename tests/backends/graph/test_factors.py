"""What ops and rules say of their axes holds: parts along a factor make up the whole."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.backend import backend_of, resolve_device
from plugrad.dispatch.factors import SUM, Factor, factors_of
from plugrad.dispatch.modes import local
from plugrad.dispatch.op import Op
from plugrad.graph.ir import Composed, Graph, Node, Value
from plugrad.graph.jitted import jit
from plugrad.graph.memory import kernel_of
from plugrad.graph.region import Region, length_of
from plugrad.graph.rewrite import specs_of
from support.graphs import run_node
from support.samples import flat, operands, samples_of, stated_ops

OPS = [op for op in stated_ops() if op.sampler is not None and not op.data_dependent]


def graph_of(op: Op[..., Any], sample: Any, device: str) -> tuple[Graph, list[Any]]:
    """The lowered graph of an application and of its backward, and arrays for its inputs."""

    def applied(args: list[Any]) -> Any:
        outs = [r for r in flat(sample.apply(op, args)) if r.dtype.is_floating]
        loss = sum(((o * o).sum().astype("float32") for o in outs), start=pg.zeros((), device=device))
        if loss.requires_grad:
            loss.backward()
        return [*outs, *(t.grad for t in flat(args) if t.requires_grad)]

    args = operands(sample, "float32", device, requires_grad=bool(op.differentiable))
    captured = jit(applied, exact=True)
    captured(args)
    (found,) = captured.captures()
    plan = found.plan
    arrays = [x._array for x in flat(args)]
    return plan.graph, arrays[: len(plan.graph.inputs)]


def region_of(node: Node, factor: Factor, parts: int) -> Region:
    """A region of one node."""
    inner = Graph()
    axes: dict[Value, int | str] = {}
    given: list[Any] = []
    for stated, operand in zip(node.op.operands, node.operands, strict=True):

        def made(value: Value, axis: int | None = factor.axes.get(stated.name)) -> Value:
            new = inner.input(value.spec)
            if axis is not None:
                axes[new] = axis
            return new

        if isinstance(operand, Value):
            given.append(made(operand))
        else:
            given.append(tuple(map(made, operand)) if isinstance(operand, tuple) else operand)
    inner.add(node.op, given, node.attributes, specs_of(node.form))
    (alone,) = inner.nodes
    axes.update(zip(alone.results, factor.results, strict=True))
    inner.outputs = list(alone.results)
    return Region(inner, {alone: factor}, axes, parts, parts)


def units_of(node: Node, factor: Factor) -> int:
    sizes = []
    for stated, operand in zip(node.op.operands, node.operands, strict=True):
        if stated.name in factor.axes:
            values = operand if isinstance(operand, tuple) else (operand,)
            sizes += [v.spec.shape[factor.axes[stated.name]] for v in values]
    sizes += [length_of(node.attributes[k], a) for k, a in factor.axes.items() if k in node.attributes]
    sizes += [v.spec.shape[a] for v, a in zip(node.results, factor.results, strict=True) if a != SUM]
    return math.gcd(*sizes)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_parts_make_up_the_whole(op: Op[..., Any], device: str) -> None:
    backend = backend_of(resolve_device(device))
    if not backend.capabilities(resolve_device(device)).workers:
        pytest.skip("the device cuts nothing")
    for sample in samples_of(op):
        with pg.use_device(device):
            graph, inputs = graph_of(op, sample, device)
        known: dict[Value, Any] = {**dict(zip(graph.inputs, inputs, strict=False)), **graph.constants}
        for node in graph.nodes:
            if any(v not in known for v in node.reads()):
                continue  # it depends on a cell, such as a counter of random numbers
            whole = run_node(node, kernel_of(node, backend, local.modes).function, known)
            results = [v.spec for v in node.results]
            if isinstance(node.op, Composed):
                continue
            for factor in factors_of(node.op, node.specs(), node.attributes, results):
                check(node, factor, [known[v] for v in node.reads()], whole, backend)


def check(node: Node, factor: Factor, reads: list[Any], whole: list[Any], backend: Any) -> None:
    parts = units_of(node, factor)
    if parts < 2 or not all(v.spec.size for v in (*node.reads(), *node.results)):
        return
    what = f"{node.op.name} {node.specs()} {node.attributes} along {factor}"
    run = region_of(node, factor, parts).kernel(backend, local.modes, {}).function
    for _ in range(2):  # the plans of the parts learn, and then they have learned
        made = run(*reads)
        for result, wanted in zip(made if isinstance(made, tuple) else (made,), whole, strict=True):
            got, want = np.asarray(backend.to_host(result)), np.asarray(backend.to_host(wanted))
            assert got.shape == want.shape, what
            assert got.dtype == want.dtype, what
            # What is added up may cancel: the bound is relative to the addends.
            among = [want, *(np.asarray(backend.to_host(x)) for x in reads)]
            floating = [a[np.isfinite(a)] for a in among if a.dtype.kind == "f"]
            tolerance = 1e-5 * max((float(np.abs(a).max(initial=0)) for a in floating), default=0.0)
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance, err_msg=what)
            SEEN[node.op.name] += 1


SEEN: Counter[str] = Counter()


def test_much_has_factors(device: str) -> None:
    """Ops of all families, and rules, were cut above."""
    if not SEEN:
        pytest.skip("run with the test above")
    del device
    for name in (
        *("add", "exp", "where", "linear", "linear.vjp.x", "linear.vjp.weight", "conv", "conv.vjp.weight"),
        *("max_pool", "layer_norm", "layer_norm.vjp", "scaled_dot_product_attention", "embedding"),
        *("reshape", "permute_dims", "select", "concatenate", "sum", "adam_update", "broadcast_to"),
    ):
        assert SEEN[name], name
