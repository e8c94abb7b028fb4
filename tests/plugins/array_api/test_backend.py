"""The backend: what it asks of a namespace, and what it makes of devices and dtypes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import array_api_strict
import numpy as np
import pytest

import plugrad as pg
from core.distributions import BACKEND_GROUP, install
from plugrad import dtypes
from plugrad.backend import KernelTable, get_backend, register_backend
from plugrad.errors import ArgumentError, BackendUnavailable, DTypeError
from plugrad.spec import Device, Spec
from plugrad_array_api import ArrayAPIBackend, kernels_of


class Named(ArrayAPIBackend):
    name = "named_under_test"


def namespace(*without: str, **more: Any) -> SimpleNamespace:
    """array-api-strict with some of its names left out, and others."""
    names = {n: getattr(array_api_strict, n) for n in dir(array_api_strict) if n not in without}
    return SimpleNamespace(**{**names, **more})


def test_devices_and_dtypes_are_those_of_the_library(strict: str) -> None:
    backend = get_backend(strict)
    shown = [d.description for d in backend.devices()]
    assert len(shown) == len(array_api_strict.__array_namespace_info__().devices())
    assert shown[0].startswith(f"array_api_strict {array_api_strict.__version__}, ")
    assert "CPU_DEVICE" in shown[0]
    first = backend.capabilities(Device(strict, 0))
    assert first.dtypes == set(dtypes.ALL) - {dtypes.float16, dtypes.bfloat16}
    assert first.broadcasting
    assert first.copy
    assert not first.scalars
    narrow = next(i for i, text in enumerate(shown) if "no_float64" in text)
    assert dtypes.float64 not in backend.capabilities(Device(strict, narrow)).dtypes
    with pytest.raises(DTypeError, match=f"device {strict}:{narrow} has no float64"):
        pg.asarray([1.0], dtype="float64", device=f"{strict}:{narrow}")
    with pytest.raises(DTypeError, match=f"astype: device {strict}:0 has no bfloat16"):
        pg.asarray([1.0], device=strict).astype("bfloat16")
    cast = backend.kernels.find(pg.astype, (), {})
    assert cast is not None
    with pytest.raises(DTypeError, match="array_api_strict has no bfloat16; takes bool, "):
        cast.function(array_api_strict.ones(1), dtype=dtypes.bfloat16)


def test_every_device_computes(strict: str) -> None:
    xs = [pg.asarray([1.0, 2.0], device=f"{strict}:{i}") for i in range(3)]
    for i, x in enumerate(xs):
        y = (pg.full((2,), 3.0, device=x.device) * x + 1.0).sum()
        assert y.item() == 11
        assert y._array.device == get_backend(strict).device(Device(strict, i))
    moved = xs[0].to(f"{strict}:1")
    assert (moved + xs[1]).tolist() == [2, 4]


def test_memory_is_never_shared_with_the_host(strict: str) -> None:
    host = np.arange(6.0).reshape(2, 3)
    x = pg.asarray(host.T, device=strict)
    host[:] = 0
    assert x.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert not x.numpy().flags.writeable
    assert np.asarray(x).tolist() == x.tolist()
    empty = get_backend(strict).allocate(Spec((2, 3), dtypes.int16, Device(strict)))
    assert empty.shape == (2, 3)
    assert empty.dtype == array_api_strict.int16


def test_results_go_where_the_plan_wants_them(strict: str) -> None:
    backend = get_backend(strict)

    def array(*values: float) -> Any:
        return backend.from_host(np.array(values), Device(strict))

    into = array(0, 0)
    kernel = backend.kernels.find(pg.add, (), {})
    assert kernel is not None
    assert kernel.function(array(1, 2), array(3, 4), into=into) is into
    assert backend.to_host(into).tolist() == [4, 6]


def test_a_namespace_that_tells_nothing_of_itself() -> None:
    silent = namespace("__array_namespace_info__", "uint64", "__version__", "__name__")
    backend = Named(silent)
    assert len(backend.devices()) == 1
    assert backend.devices()[0].description == "SimpleNamespace"
    assert dtypes.uint64 not in backend.capabilities(Device("named_under_test")).dtypes
    assert dtypes.float32 in backend.capabilities(Device("named_under_test")).dtypes


def test_arguments_name_devices_dtypes_and_kernels() -> None:
    own = KernelTable()

    @own(pg.add)
    def _(x1: Any, x2: Any, *, into: Any = None) -> Any:
        del x2, into
        return x1

    backend = Named(
        array_api_strict,
        devices=[array_api_strict.Device("device1")],
        dtypes={"float32": array_api_strict.float32, "int64": array_api_strict.int64},
        kernels=own,
    )
    [info] = backend.devices()
    assert "device1" in info.description
    assert backend.capabilities(Device("named_under_test")).dtypes == {dtypes.float32, dtypes.int64}
    assert not backend.capabilities(Device("named_under_test")).copy
    register_backend(backend)
    x = pg.asarray([1.0, 2.0], device="named_under_test")
    assert (x + x).tolist() == [1, 2]
    assert (x * x).tolist() == [1, 4]
    assert pg.argsort(pg.argmax(x, keepdims=True)).tolist() == [0]
    assert pg.sort(pg.asarray([2.0, np.nan, 1.0], device=x.device)).tolist()[:2] == [1, 2]


def test_what_cannot_be_taken() -> None:
    with pytest.raises(
        ArgumentError, match=r"has no function 'atan2'; takes a namespace .* 2023.12 or newer"
    ):
        Named(namespace("atan2"))
    with pytest.raises(ArgumentError, match="no dtypes are found; name them with dtypes="):
        Named(array_api_strict, dtypes={})
    with pytest.raises(BackendUnavailable, match="array_api_strict finds no device"):
        Named(array_api_strict, devices=[]).devices()


def test_a_function_newer_than_2023_is_done_without() -> None:
    table = kernels_of(namespace("reciprocal", "cumulative_prod", "nextafter"))
    assert pg.reciprocal not in table
    assert pg.cumulative_prod not in table
    assert pg.nextafter in table


def test_numpy_itself_is_such_a_library() -> None:
    # It gives scalars of its own where others give arrays without axes.
    table = kernels_of(np)

    def run(op: Any, *arrays: Any, **attributes: Any) -> Any:
        kernel = table.find(op, (), {})
        assert kernel is not None
        return kernel.function(*arrays, **attributes)

    x = np.array([3.0, np.nan, 1.0])
    total = run(pg.sum, x[::2], axis=(0,), dtype=dtypes.float64, keepdims=False)
    assert isinstance(total, np.ndarray)
    assert total == 4
    assert run(pg.argmax, x, axis=None, keepdims=False) == 1
    assert run(pg.argsort, x, axis=0, descending=True, stable=True).tolist() == [1, 0, 2]
    assert run(pg.mean, np.float16([60000, 60000]), axis=(0,), keepdims=False) == 60000


MODULE = """\
import array_api_strict

from plugrad.backend import hookimpl
from plugrad_array_api import ArrayAPIBackend


class StrictBackend(ArrayAPIBackend):
    name = "strict"

    def __init__(self):
        super().__init__(array_api_strict)


@hookimpl
def plugrad_create_backend():
    return StrictBackend()
"""

PROGRAM = """\
import json

import numpy as np

import plugrad as pg
from plugrad import nn, optim

pg.manual_seed(0)
rng = np.random.default_rng(0)
x = pg.asarray(rng.standard_normal((64, 2)), dtype="float32", device="strict")
y = pg.asarray((rng.standard_normal((64, 2)) > 0)[:, 0].astype("int64"), device="strict")
with pg.use_device("strict"):
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = pg.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
listed = [str(d.device) for b in pg.backend.backends() if b.name == "strict" for d in b.devices]
print(json.dumps({"losses": losses, "listed": listed}))
"""


def test_an_installed_distribution_trains(tmp_path: Path) -> None:
    install(tmp_path, "plugrad-strict", {BACKEND_GROUP: {"strict": "plug_strict"}}, {"plug_strict": MODULE})
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PLUGRAD_DEVICE", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["losses"][-1] < 0.9 * told["losses"][0]
    assert told["listed"][0] == "strict:0"
