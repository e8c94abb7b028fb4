"""``plugin``: the backend is found, says what it is, and neither harms another plugin nor is harmed by one.

What other plugins do is tried in processes of their own, in which a distribution made for the case is installed too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

import plugrad as pg
from plugrad.backend import DeviceInfo, State, backends, get_backend, resolve_device
from plugrad.dispatch.op import Op
from plugrad.dispatch.statement import all_ops
from plugrad.errors import DataError, DeviceError
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run
from plugrad_conformance.manifest import check_names, manifest_of
from plugrad_conformance.measure import Failure

LIMIT: Final = 60
"""Seconds for a process."""


def cases() -> Iterator[Case]:
    """By name."""
    for name in NAMED:
        yield Case("plugin", name, level=Level.L0)


def run(run: Run) -> None:
    """One case."""
    NAMED[run.case.subject](run)
    run.samples += 1


def _listed(run: Run) -> bool:
    return any(r.name == run.subject.device.name and r.state is State.AVAILABLE for r in backends())


def _state(run: Run) -> None:
    """The backend is available, under its own name, and its devices are described."""
    backend = run.subject.backend
    if get_backend(run.subject.device.name) is not backend:
        raise Failure(f"the backend named {run.subject.device.name!r} is another one at each time")
    infos = backend.devices()
    for i, info in enumerate(infos):
        if not isinstance(info, DeviceInfo) or not info.description.strip():
            raise Failure(f"device {i} has no description")
    if len(infos) != len(backend.devices()):
        raise Failure("the number of devices changes")
    try:
        resolve_device(f"{backend.name}:{len(infos)}")
    except DeviceError:
        return
    raise Failure(f"device {backend.name}:{len(infos)} is taken, and there are {len(infos)}")


def _kernels(run: Run) -> None:
    """Kernels are of ops that there are."""
    table = run.subject.backend.kernels
    known = set(all_ops().values())
    for op in table:
        if not isinstance(op, Op) or op not in known:
            raise Failure(f"the table has a kernel for {op.name!r}, which is no op")


def every_case() -> Iterator[Case]:
    """The cases of all checks; `plugrad_conformance.checks` imports this module."""
    from plugrad_conformance import checks

    return checks.all_cases()


def _beside_null(run: Run) -> None:
    """Two devices at once: tensors go from one to the other, and no op takes both."""
    x = run.subject.tensor(np.arange(3.0), "float32")
    other = pg.ones((3,), device="null")
    try:
        _ = x + other
    except DeviceError:
        pass
    else:
        raise Failure("an op takes operands of two devices")
    if x.to("null").device != other.device:
        raise Failure("a tensor does not go to another device")
    if not np.array_equal(x.to(run.subject.device).numpy(), np.arange(3)):
        raise Failure("a tensor that goes to its own device changes")


def _manifest(run: Run) -> None:
    """The backend's manifest, where it has one, can be read, and waives cases that there are."""
    try:
        check_names("the manifest", manifest_of(run.subject.backend).waivers, {c.id for c in every_case()})
    except DataError as error:
        raise Failure(str(error)) from None


BROKEN: Final = "raise RuntimeError('this plugin is broken')\n"
ABSENT: Final = """
from plugrad.backend import hookimpl
from plugrad.errors import BackendUnavailable

@hookimpl
def plugrad_create_backend():
    raise BackendUnavailable("no such hardware")
"""
WORKS: Final = """
import plugrad as pg
from plugrad.backend import backends
x = pg.asarray([1.0, 2.0], device={device!r})
assert x.numpy().tolist() == [1.0, 2.0]
report = next(r for r in backends() if r.name == {backend!r})
assert str(report.state) == "available", report.reason
other = next((r for r in backends() if r.name == {name!r}), None)
assert other is not None and str(other.state) == {state!r}, other
"""
CLAIMED: Final = """
import plugrad as pg
try:
    pg.asarray([1.0], device={device!r})
except pg.errors.DeviceError as error:
    assert "is claimed by" in str(error) and "conformance-rival" in str(error), error
else:
    raise AssertionError("two distributions claim one name, and one of them gets it")
"""


def _process(run: Run, group: str, name: str, source: str, code: str) -> None:
    """Run ``code`` where the distribution ``conformance-rival`` registers ``name`` in ``group``."""
    if not _listed(run):
        run.not_exercised = "the backend is registered in this process alone, by no distribution"
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "conformance_rival.py").write_text(source, encoding="utf-8")
        info = Path(folder) / "conformance_rival-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: conformance-rival\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = conformance_rival\n")
        paths = [folder, *(p for p in sys.path if p)]
        done = subprocess.run(  # noqa: S603 - this interpreter, on code of this file
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    if done.returncode:
        last = done.stderr.strip().splitlines()
        raise Failure(f"in a process of its own: {last[-1] if last else f'exit code {done.returncode}'}")


def _beside(source: str, state: State, group: str = "plugrad.backend.v1") -> Callable[[Run], None]:
    def check(run: Run) -> None:
        device = run.subject.device
        name = "conformance_rival"
        code = WORKS.format(device=str(device), backend=device.name, name=name, state=str(state))
        _process(run, group, name, source, code)

    return check


def _claimed(run: Run) -> None:
    """A second distribution that claims the name is refused, and both are named."""
    device = run.subject.device
    _process(run, "plugrad.backend.v1", device.name, ABSENT, CLAIMED.format(device=str(device)))


NAMED: Final[dict[str, Callable[[Run], None]]] = {
    "state": _state,
    "kernels": _kernels,
    "manifest": _manifest,
    "beside-another-device": _beside_null,
    "beside-a-broken-one": _beside(BROKEN, State.BROKEN),
    "beside-absent-hardware": _beside(ABSENT, State.UNAVAILABLE),
    "beside-another-api": _beside(ABSENT, State.INCOMPATIBLE, "plugrad.backend.v99"),
    "name-claimed-twice": _claimed,
}
