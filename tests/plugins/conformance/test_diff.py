"""`plugrad diff` names the op whose results part: on devices that are the default one with a fault of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

import plugrad as pg
from plugrad.backend import Backend, Capabilities, DeviceInfo, KernelTable, get_backend, register_backend
from plugrad.backend.kernels import Kernel, OpLike
from plugrad.dispatch.statement import all_ops
from plugrad.spec import Device, Shape, Spec
from plugrad.storage import save_tensors
from plugrad_conformance.diff import diff_command
from plugrad_conformance.diff.agreement import difference
from plugrad_conformance.diff.application import Application, compute

GOOD = "numpy"
Fault = Callable[[Any], Any]

SCRIPT = """\
import plugrad as pg
from plugrad import nn, optim

model = nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 3))
optimizer = optim.AdamW(model.parameters(), lr=0.01)
x = pg.random.normal((8, 4))
y = pg.random.integers((8,), 0, 3)
for _ in range(3):
    optimizer.zero_grad()
    out = model(x)
    probabilities = pg.softmax(out)  # line 11
    loss = nn.CrossEntropyLoss()(out, y) + (probabilities * probabilities).sum() * 0.1
    loss.backward()
    optimizer.step()
print("trained")
"""


class Table(KernelTable):
    """The kernels of another backend: some of them left out, the results of some of them spoilt."""

    def __init__(self, other: KernelTable, faults: Mapping[str, Fault], without: Sequence[str]) -> None:
        super().__init__()
        self.other, self.faults, self.without = other, faults, without

    def find(self, op: OpLike, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
        kernel = None if op.name in self.without else self.other.find(op, specs, attributes)
        fault = self.faults.get(op.name)
        if kernel is None or fault is None:
            return kernel
        function = kernel.function
        return replace(kernel, function=lambda *a, **k: fault(function(*a, **k)))


class Wrapped(Backend):
    """The default backend under another name."""

    def __init__(
        self,
        name: str,
        faults: Mapping[str, Fault],
        without: Sequence[str],
        capabilities: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.inner = get_backend(GOOD)
        self.kernels = Table(self.inner.kernels, faults, without)
        self.changes = capabilities

    def devices(self) -> Sequence[DeviceInfo]:
        return [DeviceInfo("a test")]

    def capabilities(self, device: Device) -> Capabilities:
        return replace(self.inner.capabilities(Device(GOOD)), **self.changes)

    def allocate(self, spec: Spec) -> Any:
        return self.inner.allocate(spec)

    def from_host(self, value: np.ndarray[Any, Any], device: Device) -> Any:
        return self.inner.from_host(value, Device(GOOD))

    def to_host(self, array: Any) -> np.ndarray[Any, Any]:
        return self.inner.to_host(array)

    def shape(self, array: Any) -> Shape:
        return self.inner.shape(array)


_numbers = itertools.count()


def device(
    faults: Mapping[str, Fault] | None = None, *, without: Sequence[str] = (), **capabilities: Any
) -> str:
    """The name of a new device with faults."""
    name = f"faulty{next(_numbers)}"
    register_backend(Wrapped(name, faults or {}, without, capabilities))
    return name


def spoilt(result: Any) -> Any:
    """A result, the first of several, whose last element is a little off."""
    if isinstance(result, tuple):
        return (spoilt(result[0]), *result[1:])
    new = np.array(result)
    new.reshape(-1)[-1] *= new.dtype.type(1.01)
    return new


@pytest.fixture
def diff(tmp_path: Path) -> Callable[..., Result]:
    """Runs the command; a script given as text is written to ``script.py``."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(diff_command)

    def run(*arguments: str, script: str | None = None, rest: Sequence[str] = ()) -> Result:
        given = [*arguments, "-o", str(tmp_path / "saved")]
        if script is not None:
            file = tmp_path / "script.py"
            file.write_text(script)
            given.append(str(file))
        return CliRunner().invoke(app, [*given, *(["--", *rest] if rest else [])])

    return run


def test_devices_that_are_equal(diff: Callable[..., Result]) -> None:
    result = diff(GOOD, device(), script=SCRIPT)
    assert result.exit_code == 0, result.output
    assert result.output.count("trained") == 2
    last = result.output.splitlines()[-1]
    assert "ops agree; loss " in last
    assert int(last.split(" applications")[0].rsplit(" ", 1)[1]) > 100


def test_kernels_and_bodies_agree(diff: Callable[..., Result]) -> None:
    """One device runs kernels where the other has none, in both directions, and is not broadcast for."""
    kernels = all_ops()
    composites = [n for n, op in kernels.items() if not op.primitive]
    bare = device(without=composites, broadcasting=False, scalars=False)
    for pair in ((GOOD, bare), (bare, GOOD)):
        result = diff(*pair, script=SCRIPT)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("op", "line"),
    [
        ("softmax", "probabilities = pg.softmax(out)  # line 11"),
        ("softmax.vjp.x", "probabilities = pg.softmax(out)  # line 11"),
        ("tanh.vjp.x", "out = model(x)"),
        ("layer_norm", "out = model(x)"),
        ("linear.vjp.weight", "out = model(x)"),
        (
            "cross_entropy",
            "loss = nn.CrossEntropyLoss()(out, y) + (probabilities * probabilities).sum() * 0.1",
        ),
        ("adam_update", "optimizer.step()"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_names_the_op_with_a_fault(
    diff: Callable[..., Result], tmp_path: Path, op: str, line: str, swapped: bool
) -> None:
    faulty = device({op: spoilt})
    pair = (faulty, GOOD) if swapped else (GOOD, faulty)
    result = diff(*pair, script=SCRIPT)
    assert result.exit_code == 1, result.output
    assert "trained" not in result.output, "the script stops where the devices part"
    first, applied = result.output.splitlines()[:2]
    assert first.startswith(f"{op} ({'vjp' if '.vjp' in op else 'forward'}) parts: application ")
    assert applied.startswith("  in the backward of" if ".vjp" in op else "  applied at")
    assert "script.py:" in applied
    assert applied.endswith(line)
    assert "1 of " in result.output
    (saved,) = (tmp_path / "saved").iterdir()
    assert f"plugrad diff {pair[0]}:0 {pair[1]}:0 --replay {saved}" in result.output
    assert diff(*pair, "--replay", str(saved)).exit_code == 1
    assert diff(pair[0], "--replay", str(saved)).exit_code == 0
    r = diff(pair[1], "--replay", str(saved))
    print(r.output)
    assert diff(pair[1], "--replay", str(saved)).exit_code == 1
    assert diff(pair[0], pair[0], "--replay", str(saved)).exit_code == 0


def test_names_what_parts_within_a_body(diff: Callable[..., Result]) -> None:
    """The device has no kernel for the composite, and a wrong one for a part of its body."""
    faulty = device({"max": spoilt}, without=["softmax", "softmax.vjp.x"])
    script = "import plugrad as pg\nx = pg.random.normal((2, 3))\ny = pg.softmax(x)\n"
    for pair in ((GOOD, faulty), (faulty, GOOD)):
        # A shift of the exponents cancels out, so that the fault shows in the wrong values alone.
        assert diff(*pair, script=script).exit_code == 0
    faulty = device({"sum": spoilt}, without=["softmax", "softmax.vjp.x"])
    for pair in ((GOOD, faulty), (faulty, GOOD)):
        result = diff(*pair, script=script)
        assert result.exit_code == 1, result.output
        assert result.output.startswith("softmax (forward) parts")
        assert f"  within its body, as {faulty}:0 runs it, it is sum that parts:\n" in result.output


def test_a_rule_that_is_a_body_on_one_device_alone(diff: Callable[..., Result]) -> None:
    bare = device(without=["tanh.vjp.x"])
    result = diff(bare, device({"tanh.vjp.x": spoilt}), script=SCRIPT)
    assert result.output.startswith("tanh.vjp.x (vjp) parts"), result.output
    assert f"  computed by: body on {bare}:0, kernel on faulty" in result.output
    assert "cotangent of x: 1 of 128 elements differ, the most at [7, 15]: " in result.output


def test_a_backward_that_is_recorded(diff: Callable[..., Result]) -> None:
    script = """\
import plugrad as pg
x = pg.asarray([0.3, -0.2]).requires_grad_()
(g,) = pg.grad(lambda t: pg.tanh(t).sum())(x),
g.sum().backward()
"""
    assert diff(GOOD, device(), script=script).exit_code == 0
    result = diff(GOOD, device({"multiply.vjp.x1": spoilt}), script=script)
    assert result.output.startswith("multiply.vjp.x1 (vjp) parts"), result.output


def test_a_rule_whose_body_gives_another_dtype(diff: Callable[..., Result]) -> None:
    """Residuals are float32 where the operands have 16 bits; the core casts what comes of them."""
    script = """\
import plugrad as pg
lstm = pg.nn.LSTM(4, 3)
x = pg.random.normal((5, 2, 4))
with pg.autocast("bfloat16"):
    out, _ = lstm(x)
out.sum().backward()
loss = sum(p.grad.sum() for p in lstm.parameters())
"""
    bare = device(without=["lstm_sequence.vjp"])
    for pair in ((GOOD, bare), (bare, GOOD)):
        result = diff(*pair, script=script)
        assert result.exit_code == 0, result.output


def test_a_rule_that_is_applied_as_an_op(diff: Callable[..., Result]) -> None:
    script = "import plugrad as pg\nx = pg.ones((2,))\npg.sin(x)\npg.ops.tanh.vjp(x, x * 0.5)\n"
    assert diff(GOOD, device(without=["tanh.vjp.x"]), script=script).exit_code == 0
    result = diff(GOOD, device({"tanh.vjp.x": spoilt}), script=script)
    assert result.output.startswith("tanh.vjp.x (vjp) parts"), result.output


def test_all_names_every_parting(diff: Callable[..., Result], tmp_path: Path) -> None:
    result = diff(GOOD, device({"tanh": spoilt}), "--all", script=SCRIPT)
    assert result.exit_code == 1
    assert result.output.count("tanh (forward) parts") == 3
    assert "number 3 of this op" in result.output
    assert result.output.startswith("trained\n"), "the script runs to its end"
    assert len(list((tmp_path / "saved").iterdir())) == 3


def test_the_tolerance(diff: Callable[..., Result]) -> None:
    faulty = device({"tanh": spoilt})
    assert diff(GOOD, faulty, "--tolerance", "0.02", script=SCRIPT).exit_code == 0
    assert diff(GOOD, faulty, "--tolerance", "0.005", script=SCRIPT).exit_code == 1


def test_the_way_of_the_script_parts(diff: Callable[..., Result]) -> None:
    """What the script decides by its device is seen, though every application agrees."""
    script = """\
import plugrad as pg
x = pg.exp(pg.ones((2,)))
if pg.backend.current_device().name == "numpy":
    x = pg.sin(x)
x = pg.cos(x)
"""
    other = device()
    result = diff(GOOD, other, script=script)
    assert result.exit_code == 1
    assert "does not take the same way on both. Application 3:\n  numpy:0 applies sin, at " in result.output
    assert f"  {other}:0 applies cos, at " in result.output
    result = diff(GOOD, other, script=script.replace("x = pg.cos(x)\n", ""))
    assert result.exit_code == 1
    assert f"  {other}:0 applies nothing more\n" in result.output


def test_what_the_script_is_run_with(diff: Callable[..., Result], tmp_path: Path) -> None:
    """Its arguments, its folder's modules afresh on either device, and generators that start anew."""
    (tmp_path / "beside.py").write_text("import plugrad as pg\nweight = pg.random.normal((3,))\n")
    script = """\
import random, sys
import numpy as np
import plugrad as pg
import beside
pg.sin(beside.weight)
print(__name__, sys.argv[1:], random.random(), np.random.random(), pg.random.normal(()).item())
sys.exit(0)
"""
    result = diff(GOOD, device(), "--seed", "7", script=script, rest=["--epochs", "2"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("__main__ ['--epochs', '2'] 0.")
    assert lines[0] == lines[1]


def test_ops_whose_shapes_are_in_the_values(diff: Callable[..., Result]) -> None:
    script = "import plugrad as pg\nx = pg.asarray([3, 1, 3])\npg.unique_values(x)\npg.nonzero(x)\n"
    result = diff(GOOD, device(without=["sort", "argsort"]), script=script)
    assert result.exit_code == 2
    assert "raises UnsupportedOp: argsort: device faulty" in result.output
    assert diff(GOOD, device(), script=script).exit_code == 0


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("import plugrad as pg\npg.ones((2,)) + pg.ones((3,))\n", "do not broadcast together"),
        ("def broken(:\n", "SyntaxError"),
        ("import sys\nsys.exit('no data')\n", "exits with 'no data'"),
        ("print('no op')\n", "applies no op on numpy:0"),
        ("import plugrad as pg\npg.ones(2, device='null')\n", "must leave the device to plugrad.use_device"),
    ],
)
def test_scripts_that_cannot_be_compared(diff: Callable[..., Result], script: str, told: str) -> None:
    result = diff(GOOD, device(), script=script)
    assert result.exit_code == 2
    assert told in result.output
    assert "plugrad_conformance" not in result.output
    assert "runpy" not in result.output


def test_what_is_asked_wrongly(diff: Callable[..., Result], tmp_path: Path) -> None:
    for arguments, told in (
        (("nothere", GOOD, "x.py"), "no backend is named 'nothere'"),
        (("null", GOOD, "x.py"), "has no values to compare"),
        ((GOOD, GOOD, "x.py"), "there is no script x.py"),
        ((GOOD,), "takes two devices and a script"),
        ((GOOD, "--replay", "x.safetensors"), "x.safetensors cannot be read"),
        ((GOOD, GOOD, "x.py", "--replay", "x"), "not both"),
    ):
        result = diff(*arguments)
        assert result.exit_code == 2, arguments
        assert told in result.output
    save_tensors({"x": pg.ones((2,), device=GOOD)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("text")
    for name in ("other", "text"):
        result = diff(GOOD, "--replay", str(tmp_path / f"{name}.safetensors"))
        assert result.exit_code == 2
        assert "is no file that plugrad diff wrote" in result.output


def test_a_kernel_that_raises(diff: Callable[..., Result], tmp_path: Path) -> None:
    def fail(result: Any) -> Any:
        raise RuntimeError("out of local memory")

    faulty = device({"layer_norm.vjp": fail})
    result = diff(GOOD, faulty, script=SCRIPT)
    assert result.exit_code == 2
    assert result.output.startswith(f"layer_norm.vjp (vjp) does not run on {faulty}:0: application ")
    assert "raises RuntimeError: out of local memory" in result.output
    (saved,) = (tmp_path / "saved").iterdir()
    result = diff(GOOD, faulty, "--replay", str(saved))
    assert result.exit_code == 2
    assert "layer_norm.vjp does not run on faulty" in result.output


def test_whatever_an_op_takes_is_saved(diff: Callable[..., Result], tmp_path: Path) -> None:
    """Sequences, absent operands, numbers, dtypes, devices, specs of rules, 16 bits."""
    script = """\
import plugrad as pg
pg.full((2, 3), 1.5, dtype="bfloat16")
x = pg.asarray([[1.0, 2.0]], dtype="bfloat16").requires_grad_()
y = pg.concat([x, x * 2.5], axis=0)
z = pg.layer_norm(y[:, ::-1], (2,)) + y.astype("float32").max()
(z * 2).sum().backward()
"""
    names = [op.name for op in get_backend(GOOD).kernels]
    result = diff(GOOD, device(dict.fromkeys(names, spoilt)), "--all", "--tolerance", "1e-9", script=script)
    assert result.exit_code == 1, result.output
    files = sorted((tmp_path / "saved").iterdir())
    assert {f.name.split("-")[0] for f in files} >= {
        "full",
        "concatenate",
        "layer_norm",
        "astype",
        "multiply",
    }
    for file in files:
        replayed = diff(GOOD, "--replay", str(file))
        assert replayed.exit_code == 0, replayed.output


# -- the rule ---------------------------------------------------------------------------------------------


def differs(
    name: str, inputs: Sequence[Any], change: Callable[[np.ndarray[Any, Any]], Any], **attributes: Any
) -> bool:
    where = Device(GOOD)
    application = Application(all_ops()[name], tuple(inputs), attributes, "highest")
    expected = compute(application, where).results
    got = [np.array(change(np.array(r))) for r in expected]
    return difference(application, expected, got, None, {where: expected}) is not None


def test_elements_of_an_elementwise_primitive_count_alone() -> None:
    x = np.array([30.0, -30.0], np.float32)
    assert differs("exp", [x], lambda r: r * np.array([1, 1.001], np.float32))
    assert not differs("exp", [x], lambda r: r * np.float32(1 + 1e-6))


def test_what_cancels_is_left_to_rounding() -> None:
    """The terms of the sum are near 1, the sum is near 0: another order of additions gives another sum."""
    x = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    x[-1] -= x.sum(dtype=np.float64)
    attributes = {"axis": (0,), "keepdims": False, "dtype": pg.float32}
    assert not differs("sum", [x], lambda r: x[np.argsort(x)].cumsum(dtype=np.float32)[-1], **attributes)
    assert differs("sum", [x], lambda r: r + np.float32(1), **attributes)
    assert differs("sum", [np.abs(x)], lambda r: r * np.float32(1.01), **attributes)


def test_nan_and_infinity_stand_in_their_places() -> None:
    x = np.array([-1.0, 0.0, np.inf, np.nan, 1.0], np.float32)
    assert not differs("log", [x], lambda r: r)
    for value in (0.0, np.inf, np.nan, -np.inf):
        for place in range(5):
            changed = np.log(np.where(x < 0, np.nan, x), where=x != 0, out=np.full(5, -np.inf, np.float32))
            same = changed[place] == value or (np.isnan(value) and np.isnan(changed[place]))

            def put(
                r: np.ndarray[Any, Any], place: int = place, value: float = value
            ) -> np.ndarray[Any, Any]:
                r[place] = value
                return r

            assert differs("log", [x], put) is not bool(same), (place, value)


def test_integers_shapes_and_dtypes_are_exact() -> None:
    x = np.array([2**53, 2], np.int64)
    assert not differs("negative", [x], lambda r: r)
    assert differs("negative", [x], lambda r: r + 1)
    assert differs("negative", [x], lambda r: r.astype(np.int32))
    assert differs("negative", [x], lambda r: r[:1])
    assert differs("equal", [x, x], lambda r: ~r)
