"""What a capture makes of a function: its graph, what the graph is bound to, and that nothing is left of the capturing."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import plugrad as pg
from core.distributions import BACKEND_GROUP, backend_source, install
from plugrad import nn, optim, tree
from plugrad.backend.null import NullBackend
from plugrad.dispatch.modes import local
from plugrad.dispatch.tracing import local as tracing
from plugrad.errors import CaptureError
from plugrad.graph.capture import Capture
from plugrad.graph.ir import Graph, Value
from plugrad.graph.passes.common import common_subexpressions
from plugrad.graph.passes.dead_code import dead_code
from plugrad.graph.passes.lowering import lower


def capture(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Capture:
    leaves, structure = tree.flatten((args, kwargs))
    return Capture(fn, structure, leaves)


def lines(graph: Graph) -> list[str]:
    return [" ".join(line.split()) for line in str(graph).splitlines()]


def test_arguments_come_first_then_cells_in_the_order_of_their_reading() -> None:
    w, b = pg.zeros((3, 4)), pg.zeros((4,))
    got = capture(lambda x, y: pg.tanh(x @ w + b) * y, pg.zeros((2, 3)), pg.zeros((4,)))
    assert lines(got.graph) == [
        "graph(x0: float32[2, 3], x1: float32[4], x2: float32[3, 4], x3: float32[4])",
        "v0: float32[2, 4] = matrix_product(x0, x2)",
        "v1: float32[2, 4] = add(v0, x3)",
        "v2: float32[2, 4] = tanh(v1)",
        "v3: float32[2, 4] = multiply(v2, x1)",
        "return v3",
    ]
    assert got.arguments == [0, 1]
    assert [(cell, index) for cell, index, _ in got.cells] == [(w, 2), (b, 3)]
    assert not got.assigns


def test_backward_nodes_are_nodes_like_any_other() -> None:
    w = nn.Parameter(pg.zeros((3,)))

    def step(x: Any) -> None:
        (x * w).sum().backward()
        with pg.no_grad():
            w.assign(w - w.grad * 0.5)

    got = capture(step, pg.zeros((3,)))
    assert lines(dead_code(got.graph)) == [
        "graph(x0: float32[3], x1: float32[3])",
        "v0: float32[] = full(fill_value=1)",
        "v1: float32[3] = sum.vjp.x(v0, axis=(0,))",
        "v2: float32[3] = multiply.vjp.x2(v1, x0)",
        "v3: float32[3] = multiply(v2, 0.5)",
        "v4: float32[3] = subtract(x1, v3)",
        "return v4, v2",
    ]
    assert [(a.cell, a.leaf, a.output) for a in got.assignments] == [(w, None, 0), (None, w._node, 1)]
    assert got.grads == [(w._node, None)]


def test_the_line_of_the_user_stands_at_each_node_those_of_the_backward_included() -> None:
    w = nn.Parameter(pg.zeros((3,)))

    def step(x: Any) -> None:
        h = pg.tanh(x * w)
        h.sum().backward()

    for node in capture(step, pg.zeros((3,))).graph.nodes:
        assert node.line.startswith(f"{__file__}:"), node
        assert "in step:" in node.line


def test_constants_of_the_host_are_inputs_of_the_capture_alone() -> None:
    got = capture(lambda x: x * pg.asarray([1.0, 2.0]), pg.zeros((2,)))
    assert lines(got.graph)[0] == "graph(x0: float32[2], x1: float32[2])"
    assert len(got.cells) == 1
    assert not got.assigns


def test_what_is_bound_to_the_value_that_it_had_is_not_assigned() -> None:
    a = pg.zeros((2,))

    def fn(x: Any) -> Any:
        before = a.detach()
        a.assign(a + x)
        a.assign(before)
        x += 0.0
        return before

    got = capture(fn, pg.zeros((2,)))
    assert got.assignments == []
    assert [(a.index, a.gradient) for a in got.argument_assignments] == [(0, False)]


def test_where_gradients_go_from_a_result() -> None:
    w = nn.Parameter(pg.zeros((3,)))
    x, y = pg.zeros((3,)).requires_grad_(), pg.zeros((3,))
    got = capture(lambda a, b, c: [pg.exp(a * w), b + 1.0, c], y, x, y)
    assert got.followed == [0, 1]
    assert got.passed == [(2, 0)]
    assert got.parents == [w._node, x._node]
    assert got.own == {1: 1}
    assert [got.graph.inputs[i].spec.shape for i in got.cotangents] == [(3,), (3,)]


def model_and_step() -> tuple[nn.Module, optim.Optimizer, Callable[[Any], Any]]:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    optimizer = optim.AdamW(model.parameters())

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


@pytest.mark.parametrize("fails", [False, True])
def test_capturing_leaves_no_trace(fails: bool) -> None:
    model, optimizer, step = model_and_step()
    for p in model.parameters():
        p.grad = pg.zeros(p.shape)
    pg.random.uniform((1,))
    tensors = [*model.parameters(), *model.buffers(), *(t for s in optimizer.state for t in s.values())]
    before = [(t._array, t._key, t._node) for t in tensors]
    grads = [p.grad for p in model.parameters()]
    modes = local.modes

    def fn(x: Any) -> Any:
        loss = step(x)
        if fails:
            raise KeyError
        return loss

    if fails:
        with pytest.raises(KeyError):
            capture(fn, pg.zeros((5, 3)))
    else:
        capture(fn, pg.zeros((5, 3)))
    for t, (array, key, node) in zip(tensors, before, strict=True):
        assert t._array is array
        assert t._key is key
        assert t._node is node
    for p, g in zip(model.parameters(), grads, strict=True):
        assert p.grad is g
    assert local.modes is modes
    assert tracing.trace is None
    assert not isinstance(pg.random.uniform((2,))._array, Value)


def test_what_was_only_there_while_capturing_is_freed() -> None:
    made: list[weakref.ref[Any]] = []

    def fn(x: Any) -> Any:
        h = pg.tanh(x)
        made.append(weakref.ref(h))
        total = pg.asarray(0.0)
        total += h.sum()
        made.append(weakref.ref(total))
        return total * 2.0

    gc.disable()
    try:
        kept = capture(fn, pg.zeros((3,)))
        assert [m() for m in made] == [None, None]
        assert not kept.assigns
    finally:
        gc.enable()


def test_the_first_draw_on_a_device_may_be_inside() -> None:
    generator = pg.random.Generator(0)
    got = capture(lambda: pg.random.uniform((4,), generator=generator))
    assert [a.cell is not None for a in got.assignments] == [True]
    assert not isinstance(pg.random.uniform((4,), generator=generator)._array, Value)


def test_a_generator_that_the_function_makes_starts_anew_at_each_call() -> None:
    def fn() -> Any:
        return pg.random.uniform((4,), generator=pg.random.Generator(3))

    def replayed() -> Any:
        with pg.random.replayed({"seed": 3, "device": None, "counters": {"null:0": [4, 0, 0, 0]}}):
            return pg.random.uniform((4,))

    assert not capture(fn).assigns
    assert not capture(replayed).assigns


def test_another_thread_is_not_captured() -> None:
    found: list[Any] = []

    def fn(x: Any) -> Any:
        def work() -> None:
            with pg.use_device("null"):
                found.append(pg.tanh(pg.zeros((2,)))._array)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return x + 1.0

    graph = capture(fn, pg.zeros((2,))).graph
    assert len(graph) == 1
    assert not isinstance(found[0], Value)


def test_a_capture_inside_the_tensors_of_another() -> None:
    inner = pg.jit(lambda x: pg.tanh(x) * 2.0)
    graph = capture(lambda x: inner(x) + inner(x), pg.zeros((2,))).graph
    assert [n.op.name for n in graph.nodes] == ["tanh", "multiply", "tanh", "multiply", "add"]
    assert len(common_subexpressions(graph)) == 3


def test_modules_that_a_function_makes_are_its_own() -> None:
    assert len(capture(lambda x: nn.GELU()(x), pg.zeros((2,))).graph) == 1


def test_an_attribute_of_a_module_outside_is_not_set() -> None:
    model = nn.Linear(2, 2)

    def fn(x: Any) -> Any:
        model.last = x
        del model.bias
        return model.weight

    kinds, names = dict(model._kinds), list(model.__dict__)
    with pytest.raises(
        CaptureError, match=r"Linear.last is set .*test_capture.py:\d+, in fn: model.last = x"
    ):
        capture(fn, pg.zeros((2,)))
    assert model._kinds == kinds
    assert sorted(model.__dict__) == sorted(names)


# -- cost -------------------------------------------------------------------------------------------------


def calls(fn: Callable[[], Any]) -> tuple[int, Any]:
    """How many functions, of Python and of C, ``fn`` calls, and what it gives."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        result = fn()
    finally:
        sys.setprofile(None)
    return count, result


def chain(length: int) -> Callable[[Any], Any]:
    w = nn.Parameter(pg.zeros((2,)))

    def fn(x: Any) -> Any:
        for _ in range(length // 4):
            x = pg.silu(x * w)
        x.sum().backward()
        return w.grad

    return fn


def test_the_cost_grows_linearly() -> None:
    capture(chain(8), pg.zeros((2,)))  # settles the signatures
    backend, counts, sizes = NullBackend(), [], []
    for length in (100, 1_000, 10_000):
        fn, x = chain(length), pg.zeros((2,))

        def planned(fn: Any = fn, x: Any = x) -> list[Graph]:
            first = capture(fn, x).graph
            second = dead_code(first)
            third = lower(second, backend, local.modes)
            return [first, second, third, common_subexpressions(third)]

        count, graphs = calls(planned)
        counts.append(count)
        sizes.append([len(g) for g in graphs])
    for a, b in ((0, 1), (1, 2)):
        assert counts[b] / counts[a] < 10.5, counts
        for small, large in zip(sizes[a], sizes[b], strict=True):
            assert 8 < large / small < 10.5, sizes
    assert sizes[2][0] >= 10_000


# -- a device that lacks an op ----------------------------------------------------------------------------

SCRIPT = """\
import json
import plugrad as pg
from plugrad.errors import UnsupportedOp
from plugrad.modes import fallback

total = pg.asarray([0.0, 0.0], device="few")

@pg.jit
def fn(x, strange):
    total.assign(total + x)
    return pg.exp(x) if strange else x + x

x = pg.asarray([0.0, 1.0], device="few")
said = []
try:
    fn(x, True)
except UnsupportedOp as error:
    said.append(str(error))
said.append(total.tolist())
said.append(fn(x, False).tolist())
with fallback("many"):
    said.append(fn(x, True).shape)
said.append(total.tolist())
print(json.dumps(said))
"""

KERNEL = """\
@kernels(ops.{name})
def _(*arrays, into=None):
    return np.{name}(*arrays)
"""


def test_a_primitive_that_the_device_lacks(tmp_path: Path) -> None:
    for name, ops in (("few", ["add"]), ("many", ["add", "exp"])):
        source = backend_source(
            name, setup="from plugrad import ops", kernels="\n".join(KERNEL.format(name=o) for o in ops)
        )
        install(tmp_path, f"plug-{name}", {BACKEND_GROUP: {name: f"plug_{name}"}}, {f"plug_{name}": source})
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    error, *rest = json.loads(run.stdout)
    assert error.startswith("exp: the device has no kernel for it, and it is a primitive")
    assert f"{script}:11, in fn: return pg.exp(x)" in error
    assert rest == [[0.0, 0.0], [0.0, 2.0], [2], [0.0, 2.0]]


def test_another_thread_sees_nothing_of_what_is_assigned() -> None:
    model, optimizer, step = model_and_step()
    total = pg.zeros(())
    arrays: list[Any] = []
    tensors = [
        *model.parameters(),
        *model.buffers(),
        *(t for s in optimizer.state for t in s.values()),
        total,
    ]
    counter = pg.random.default_generator()
    pg.random.uniform((1,))
    before = [t._array for t in tensors]

    def fn(x: Any) -> Any:
        loss = step(x)
        total.assign(total + 1.0)
        total.assign(total + loss.detach())

        def work() -> None:
            with pg.use_device("null"):
                arrays.extend(t._array for t in tensors)
                arrays.append(pg.random.uniform((2,))._array)
                arrays.append(counter.draw(1)[1]._array)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return loss + total

    got = capture(fn, pg.zeros((5, 3)))
    assert not any(isinstance(a, Value) for a in arrays)
    assert all(a is b for a, b in zip(arrays, before, strict=False))
    assert {id(a.cell) for a in got.assignments if a.cell is not None} >= {id(total)}
    assert got.graph.nodes[-1].op.name == "add"


def test_what_another_thread_assigns_meanwhile_stays() -> None:
    total = pg.zeros(())
    other = pg.ones(())

    def fn(x: Any) -> Any:
        total.assign(total + x)
        thread = threading.Thread(target=lambda: total.assign(other))
        thread.start()
        thread.join()
        return total * 2.0

    got = capture(fn, pg.zeros(()))
    assert total._array is other._array
    assert [a.cell for a in got.assignments] == [total]
