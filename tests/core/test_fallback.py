"""`fallback`: ops that a device has no kernel for run on another one, where it is switched on, and are counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from core.distributions import BACKEND_GROUP, backend_source, install

SCRIPT = """\
import json
import plugrad as pg
from plugrad.errors import UnsupportedOp
from plugrad.modes import fallback, fallback_counts

said = []
x = pg.asarray([0.0, 1.0], device="few").requires_grad_()
try:
    pg.exp(x)
except UnsupportedOp as error:
    said.append(str(error))

@fallback("many")
def f(x):
    y = pg.exp(x) + x
    return y

y = f(x)
said.append([str(y.device), y.tolist(), fallback_counts()])
try:
    y.backward(pg.asarray([1.0, 1.0], device="few"))
except UnsupportedOp as error:
    said.append(str(error))
with fallback("many"):
    y = f(x)
    y.backward(pg.asarray([1.0, 1.0], device="few"))
    with fallback(None):
        try:
            pg.exp(x)
        except UnsupportedOp as error:
            said.append(str(error))
    with fallback("few"):
        try:
            pg.exp(x)
        except UnsupportedOp as error:
            said.append(str(error))
said.append([str(x.grad.device), x.grad.tolist(), fallback_counts()])
print(json.dumps(said))
"""

KERNEL = """\
@kernels(ops.{name})
def _(*arrays, into=None):
    return np.{name}(*arrays)
"""


CAPTURED = """\
import json
import plugrad as pg
from plugrad.errors import UnsupportedOp
from plugrad.modes import fallback, fallback_counts

said = []
x = pg.asarray([0.0, 1.0], device="few").requires_grad_()

@pg.jit
def f(x):
    return pg.exp(x) + x

with fallback("many"):
    for _ in range(3):
        y = f(x)
    said.append([str(y.device), y.tolist(), fallback_counts()])
    y.backward(pg.asarray([1.0, 1.0], device="few"))
    said.append([str(x.grad.device), x.grad.tolist(), fallback_counts()])
    said.append([[n.op.name for n in c.plan.graph.nodes] for c in f.captures()])
for other in (None, "few"):
    with fallback(other):
        try:
            f(x)
        except UnsupportedOp as error:
            said.append(str(error))
print(json.dumps(said))
"""


def ran(tmp_path: Path, script: str) -> list[Any]:
    for name, ops in (("few", ["add"]), ("many", ["add", "exp", "multiply"])):
        source = backend_source(
            name, setup="from plugrad import ops", kernels="\n".join(KERNEL.format(name=o) for o in ops)
        )
        install(tmp_path, f"plug-{name}", {BACKEND_GROUP: {name: f"plug_{name}"}}, {f"plug_{name}": source})
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said: list[Any] = json.loads(run.stdout)
    return said


def test_fallback(tmp_path: Path) -> None:
    alone, forward, backward_alone, off, itself, backward = ran(tmp_path, SCRIPT)
    message = "exp: device few:0 has no kernel for float32[2], and exp is a primitive"
    for text in (alone, off, itself):
        assert text.startswith(message)
        assert "plugrad.fallback(device) runs such ops on another device" in text
    e1 = float(np.exp(np.float32(1)) + np.float32(1))
    assert forward == ["few:0", [1.0, e1], {"exp": 1}]
    # Outside the block, backward stands alone.
    assert backward_alone.startswith("multiply: device few:0 has no kernel")
    assert backward == ["few:0", [2.0, e1], {"exp": 2, "multiply": 1}]


def test_a_plan_holds_what_another_device_computes(tmp_path: Path) -> None:
    forward, backward, nodes, off, itself = ran(tmp_path, CAPTURED)
    e1 = float(np.exp(np.float32(1)) + np.float32(1))
    assert forward == ["few:0", [1.0, e1], {"exp": 3}]
    assert backward == ["few:0", [2.0, e1], {"exp": 3, "multiply": 1}]
    assert nodes == [["exp", "add"]]
    for text in (off, itself):
        assert text.startswith("exp: the device has no kernel for it, and it is a primitive")
