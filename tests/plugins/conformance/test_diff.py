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
