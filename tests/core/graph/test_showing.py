"""Graphs as text, JSON, DOT and SVG; where a node of the backward stands; the command that shows them."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

import plugrad as pg
from core.distributions import PLUGIN_GROUP, install
from core.graph.test_passes import graph_of, x
from core.test_cli import plugrad
from plugrad.backend.null import NOTHING
from plugrad.dispatch.statement import Kind
from plugrad.errors import ArgumentError, DataError
from plugrad.graph.drawing import COLOURS, dot, svg
from plugrad.graph.ir import Graph
from plugrad.graph.mirror import Place, Side, places
from plugrad.graph.printing import short, text
from plugrad.graph.serial import from_json, same, to_json


def network(images: Any, kernel: Any, weight: Any) -> Any:
    hidden = pg.tanh(pg.conv(images, kernel, padding=1))
    return pg.linear(pg.tanh(hidden.reshape((2, -1))), weight).sum()


def operands() -> list[Any]:
    given = [x(2, 1, 4, 4), x(3, 1, 3, 3), x(5, 48)]
    for tensor in given[1:]:
        tensor.requires_grad = True
    return given


def step(*args: Any) -> Any:
    loss = network(*args)
    loss.backward()
    return loss, args[1].grad, args[2].grad + 1


def test_text() -> None:
    nodes, _, outputs = text(graph_of(step, *operands())).rpartition("\n  return ")
    assert {"v5", "v13", "v14"} <= set(outputs.split(", "))
    assert nodes == (
        """\
graph(x0: float32[2, 1, 4, 4], x1: float32[3, 1, 3, 3], x2: float32[5, 48])
  v0: float32[2, 3, 4, 4]  = conv(x0, x1, None, padding=((1, 1), (1, 1)))
  v1: float32[2, 3, 4, 4]  = tanh(v0)
  v2: float32[2, 48]       = reshape(v1)
  v3: float32[2, 48]       = tanh(v2)
  v4: float32[2, 5]        = linear(v3, x2, None)
  v5: float32[]            = sum(v4, axis=(0, 1))
  v6: float32[]            = full(fill_value=1)
  v7: float32[2, 5]        = sum.vjp.x(v6, axis=(0, 1))
  v8: float32[2, 48]       = linear.vjp.x(v7, x2)
  v9: float32[5, 48]       = linear.vjp.weight(v7, v3)
  v10: float32[2, 48]      = tanh.vjp.x(v8, v3)
  v11: float32[2, 3, 4, 4] = reshape.vjp.x(v10)
  v12: float32[2, 3, 4, 4] = tanh.vjp.x(v11, v1)
  v13: float32[3, 1, 3, 3] = conv.vjp.weight(v12, x0, padding=((1, 1), (1, 1)))
  v14: float32[5, 48]      = add(v9, 1)"""
    )


def test_text_with_the_users_lines() -> None:
    lines = text(graph_of(step, *operands()), lines=True).splitlines()
    comments = [line.partition("  # ")[2] for line in lines[1:-1]]
    assert re.fullmatch(r"test_showing\.py:\d+: hidden = pg\.tanh\(.*", comments[0])
    assert comments[8].endswith(": loss.backward()")
    assert comments[-1].endswith("return loss, args[1].grad, args[2].grad + 1")


def test_a_graph_of_nothing() -> None:
    assert text(Graph()) == "graph()\n  return"
    assert same(from_json(to_json(Graph())), Graph())
    ElementTree.fromstring(svg(Graph()))
    assert dot(Graph()).startswith("digraph")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (slice(1, None, 2), "1::2"),
        (slice(None, 4), ":4"),
        ((1,), "(1,)"),
        ((), "()"),
        ("mean", "'mean'"),
        (math.nan, "nan"),
        (
            (1000000,) * 40,
            "(1000000, 1000000, 1000000, 1000000, 1000000, 1000000, 1000000, 1000000, 1000000, ...)",
        ),
    ],
)
def test_attributes_are_shown_shortly(value: Any, shown: str) -> None:
    assert short(value).replace(" ", "") == shown.replace(" ", "")


def odd() -> Graph:
    """A graph with everything that an operand, an attribute and a result can be."""
    graph = Graph()
    spec = x().spec
    a = graph.input(spec)
    c = graph.constant(NOTHING, spec)
    attributes = {
        "none": None,
        "flag": True,
        "one": 1,
        "float": 1.0,
        "special": (math.nan, math.inf, -math.inf, -0.0, 1e-310),
        "text": "x0",
        "dtype": pg.bfloat16,
        "device": spec.device,
        "spec": spec,
        "parts": (slice(0, None, -1), (1, (2,)), []),
    }
    first, (second, _) = graph.add(
        pg.add,
        [a, None, 0.5, (a, c)],
        attributes,
        (spec, [spec.with_dtype(pg.int8), None]),
        "f.py:1, in f: x",
    )
    graph.outputs = [second, first, a, c]
    return graph


def test_json_there_and_back() -> None:
    graph = odd()
    again = from_json(to_json(graph))
    assert same(graph, again)
    assert same(again, graph)
    assert to_json(again) == to_json(graph)
    assert again.nodes[0].line == graph.nodes[0].line
    special = again.nodes[0].attributes["special"]
    assert math.isnan(special[0])
    assert math.copysign(1, special[3]) == -1
    assert type(again.nodes[0].attributes["flag"]) is bool
    json.loads(to_json(graph), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    captured = graph_of(step, *operands())
    assert same(from_json(to_json(captured, constants=False, indent=2)), captured)


def test_an_attribute_that_json_cannot_hold() -> None:
    graph = Graph()
    graph.add(pg.add, [], {"what": object()}, None)
    with pytest.raises(ArgumentError, match="an attribute of type object cannot be written as JSON"):
        to_json(graph)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: "{", "no JSON"),
        (lambda d: "[]", "no graph"),
        (lambda d: {**d, "format": "other"}, "no graph"),
        (lambda d: {**d, "version": 2}, "version 2"),
        (lambda d: {**d, "outputs": ["v9"]}, "reads 'v9'"),
        (lambda d: {k: v for k, v in d.items() if k != "nodes"}, "damaged: KeyError"),
        (lambda d: {**d, "nodes": [{**d["nodes"][0], "op": "no_such_op"}]}, "no op of that name"),
        (lambda d: {**d, "nodes": [{**d["nodes"][0], "operands": [{"value": "v0"}]}]}, "reads 'v0'"),
        (lambda d: {**d, "nodes": [{**d["nodes"][0], "operands": [{"what": 1}]}]}, "no 'what'"),
        (lambda d: {**d, "constants": [{**d["constants"][0], "base64": "AAAA"}]}, "3 bytes for a constant"),
        (lambda d: {**d, "inputs": [{"spec": {"shape": [2], "dtype": "float12"}}]}, "float12|device"),
    ],
)
def test_json_that_is_damaged(change: Any, why: str) -> None:
    changed = change(json.loads(to_json(odd())))
    given = changed if isinstance(changed, str) else json.dumps(changed)
    with pytest.raises((DataError, TypeError), match=why):
        from_json(given)


def test_graphs_that_are_not_the_same() -> None:
    def made(
        number: Any = 1.0, swap: bool = False, dtype: str = "float32", axis: Any = 0, second: bool = False
    ) -> Graph:
        graph = graph_of(
            lambda a, b: ((b if swap else a) * number).sum(axis=axis), x(dtype=dtype), x(dtype=dtype)
        )
        if second:
            graph.outputs = [*graph.outputs, graph.outputs[0]]
        return graph

    assert same(made(), made())
    others = [made(1), made(True), made(swap=True), made(dtype="float64"), made(axis=1), made(second=True)]
    for other in others:
        assert not same(made(), other)
        assert not same(other, made())


def test_each_rule_stands_beside_what_it_mirrors() -> None:
    graph = graph_of(step, *operands())
    at = places(graph)
    where = {n.op.name + str(i): p for i, (n, p) in enumerate(zip(graph.nodes, at, strict=True))}
    assert [p for p in at if p.side is Side.FORWARD] == [Place(Side.FORWARD, row) for row in range(6)]
    mirrored = {
        "full6": 5,
        "sum.vjp.x7": 5,
        "linear.vjp.x8": 4,
        "linear.vjp.weight9": 4,
        "tanh.vjp.x10": 3,
        "reshape.vjp.x11": 2,
        "tanh.vjp.x12": 1,
        "conv.vjp.weight13": 0,
    }
    assert {k: p.row for k, p in where.items() if p.side is Side.BACKWARD} == mirrored
    assert where["add14"] == Place(Side.UPDATE, 4)


def test_rules_that_save_nothing_are_told_apart_by_order() -> None:
    a = x(4, 6)
    a.requires_grad = True

    def fn(a: Any) -> Any:
        a.reshape((2, 12)).reshape((3, 8)).reshape((4, 6)).sum().backward()
        return a.grad

    at = places(graph_of(fn, a))
    assert [(p.side, p.row) for p in at][-3:] == [(Side.BACKWARD, 2), (Side.BACKWARD, 1), (Side.BACKWARD, 0)]


def test_the_backward_of_results_begins_where_the_capture_says() -> None:
    graph = graph_of(lambda a: pg.exp(pg.sin(a)), x())
    assert {p.side for p in places(graph)} == {Side.FORWARD}
    assert [p.side for p in places(graph, 1)] == [Side.FORWARD, Side.BACKWARD]


def test_dot() -> None:
    graph = graph_of(step, *operands())
    written = dot(graph)
    assert all(f"n{i} [label=" in written for i in range(len(graph)))
    assert '"tanh.vjp.x\\nfloat32[2, 48]"' in written
    solid = re.findall(r"(n\d+ -> n\d+) \[constraint=false, tooltip=\"[^\"]*\"\];", written)
    saved = re.findall(r"(n\d+ -> n\d+) \[constraint=false, .*dashed", written)
    assert {"n0 -> n1", "n7 -> n8", "n9 -> n14"} <= set(solid)
    assert set(saved) == {"n1 -> n12", "n3 -> n10", "n3 -> n9"}
    assert "{ rank=same; n4; n8; n9; n14; }" in written
    assert written.count("{") == written.count("}")


def test_svg() -> None:
    graph = graph_of(step, *operands())
    root = ElementTree.fromstring(svg(graph))
    name = "{http://www.w3.org/2000/svg}"
    groups = root.findall(f"{name}g")
    assert [g.find(f"{name}text").text for g in groups] == [n.op.name for n in graph.nodes]  # type: ignore[union-attr]
    boxes = [g.find(f"{name}rect").attrib for g in groups]  # type: ignore[union-attr]
    assert [b["fill"] for b in boxes] == [COLOURS[n.op.kind] for n in graph.nodes]
    assert len({(b["x"], b["y"]) for b in boxes}) == len(boxes)
    assert boxes[4]["y"] == boxes[8]["y"] == boxes[9]["y"]  # linear beside its rules
    assert boxes[0]["y"] == boxes[13]["y"]  # conv beside its rule
    assert float(boxes[12]["x"]) > float(boxes[0]["x"]) + float(boxes[0]["width"])
    dashed = [p for p in root.findall(f"{name}path") if "stroke-dasharray" in p.attrib]
    assert len(dashed) == 3
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for box in boxes:
        assert float(box["x"]) + float(box["width"]) <= width
        assert float(box["y"]) + float(box["height"]) <= height
    assert set(COLOURS) == set(Kind)


SCRIPT = """\
import plugrad as pg
pg.use_device("null")
print("said by the script")

@pg.jit
def fn(a):
    return (pg.exp(a) * 1).reshape((6,))

class Model:
    @pg.jit
    def half(self, a):
        return a / 2

model = Model()
number = 3
def plain(a, b):
    return a + b

fn(pg.zeros((2, 3)))
fn(pg.zeros((6, 1)))
model.half(pg.zeros(3))

if __name__ == "__main__":
    raise SystemExit("not for the command")
"""


def test_the_command(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    run = plugrad(tmp_path, "graph", f"{script}:fn", "--all")
    assert run.returncode == 0, run.stderr
    assert "said by the script" in run.stderr
    heading, *parts = run.stdout.split("\n\n")
    assert heading.startswith(f"# {script}:fn, capture 2 of 2: (float32[6, 1])")
    assert [p.splitlines()[0] for p in parts] == [
        "# before dead_code: 3 nodes",
        "# after dead_code: the same",
        "# after lower: the same",
        "# after algebra: 2 nodes",
        "# after common_subexpressions: the same",
        "# after constants: the same",
        "# after stack: the same",
        "# after bundle: the same",
        "# after epilogues: the same",
        "# after fuse: the same",
        "# after generate: the same",
    ]
    assert "multiply(v0, 1)" in parts[0]
    assert "multiply" not in parts[3]
    first = plugrad(tmp_path, "graph", f"{script}:fn", "--capture", "1", "--lines")
    assert "x0: float32[2, 3]" in first.stdout
    assert "# train.py:7: return (pg.exp(a) * 1)" in first.stdout
    out = tmp_path / "out"
    for given in ("json", "dot", "svg"):
        run = plugrad(
            tmp_path, "graph", f"{script}:fn", "--format", given, "--pass", "algebra", "-o", str(out)
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout == ""
        written = out.read_text()
        assert "reshape" in written
        assert "multiply" not in written
    method = plugrad(tmp_path, "graph", f"{script}:model.half", "--format", "json", "--all")
    assert [s["pass"] for s in json.loads(method.stdout)][:2] == [None, "dead_code"]


EXAMPLE = SCRIPT.replace("fn(pg.zeros((2, 3)))\nfn(pg.zeros((6, 1)))\n", "")


def test_the_command_calls_the_function_with_example_args(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(EXAMPLE + "def example_args():\n    return pg.zeros((2, 3)), pg.zeros(3)\n")
    run = plugrad(tmp_path, "graph", f"{script}:plain")
    assert "= add(x0, x1)" in run.stdout, run.stderr


@pytest.mark.parametrize(
    ("source", "target", "given", "why"),
    [
        (SCRIPT, "train.py", (), "takes SCRIPT.py:FUNCTION"),
        (SCRIPT, "other.py:fn", (), "there is no file other.py"),
        (SCRIPT, "train.py:plane", (), "defines no 'plane'; did you mean 'plain'?"),
        (SCRIPT, "train.py:number", (), "number is no function, but int"),
        (SCRIPT, "train.py:model.whole", (), "Model has no 'whole'"),
        (SCRIPT, "train.py:fn", ("--pass", "magic"), "there is no pass 'magic'; there are dead_code"),
        (SCRIPT, "train.py:fn", ("--pass", "lower", "--all"), "not both"),
        (SCRIPT, "train.py:fn", ("--all", "--format", "svg"), "choose one with --pass"),
        (SCRIPT, "train.py:fn", ("--capture", "3"), "there is no capture 3; there are 2"),
        (SCRIPT, "train.py:fn", ("-o", "no/such/folder"), "cannot write no/such/folder"),
        (EXAMPLE, "train.py:fn", (), "neither calls fn nor defines example_args()"),
        (EXAMPLE + "example_args = lambda: [1]\n", "train.py:fn", (), "returns list; return a tuple"),
    ],
)
def test_what_the_command_cannot_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    target: str,
    given: tuple[str, ...],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(source)
    run = plugrad(tmp_path, "graph", target, *given)
    assert run.returncode == 1
    assert why in run.stderr
    assert "Traceback" not in run.stderr


PLUGIN = """\
import plugrad as pg
from plugrad.backend import hookimpl
from plugrad.graph.passes import Pass
from plugrad.graph.rewrite import Rewriter, specs_of

def sines(graph, context):
    assert context.backend.name == "null"
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        if node.op is pg.exp:
            form = rewriter.add(pg.sin, rewriter.operands(node), {}, specs_of(node.form))
            rewriter.replace(node, form)
        else:
            rewriter.copy(node)
    return rewriter.finish()

def broken(graph, context):
    raise KeyError("broken")

@hookimpl
def plugrad_passes():
    return [Pass("sines", sines, after="lower"), Pass("broken", broken, before="lower")]
"""


def test_a_plugin_brings_passes(tmp_path: Path) -> None:
    modules = {
        "plug_sines": PLUGIN,
        "plug_twice": PLUGIN,
        "plug_nowhere": PLUGIN.replace('after="lower"', 'after="nowhere"').replace('"sines"', '"others"'),
        "plug_raises": "1 / 0",
    }
    entries = {f"passes.{name[5:]}": name for name in modules}
    install(tmp_path, "dist-passes", {PLUGIN_GROUP: entries}, modules)
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    run = plugrad(tmp_path, "graph", f"{script}:fn", "--all")
    assert run.returncode == 0, run.stderr
    heads = re.findall(r"^# after (\w+): (.*)$", run.stdout, re.MULTILINE)
    assert heads[:4] == [
        ("dead_code", "the same"),
        ("broken", "the same"),
        ("lower", "the same"),
        ("sines", "3 nodes"),
    ]
    assert "the pass 'broken' of dist-passes is left out of a graph: KeyError('broken')" in run.stderr
    assert "the passes 'twice' of dist-passes are left out" in run.stderr
    assert "there is a pass 'sines' already" in run.stderr
    assert "places itself by 'nowhere'" in run.stderr
    assert "the passes 'raises' of dist-passes are left out: ZeroDivisionError" in run.stderr
