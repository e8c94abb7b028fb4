"""The OpenCL backend as its users meet it. What its kernels compute is the conformance suite's to check."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.backend import backends, get_backend
from plugrad.dispatch.statement import all_ops
from plugrad.errors import DeviceError, IndexRangeError


def on(values: Any, dtype: str | None = None) -> pg.Tensor:
    return pg.asarray(values, dtype=dtype, device="opencl")


def test_a_device_says_what_it_is() -> None:
    report = next(r for r in backends() if r.name == "opencl")
    assert report.distribution == "plugrad"
    first = report.devices[0]
    assert "OpenCL" in first.info.description
    assert "driver" in first.info.description


def test_every_primitive_has_a_kernel() -> None:
    primitives = {op.name for op in all_ops().values() if op.primitive and "." not in op.name}
    assert primitives <= {op.name for op in get_backend("opencl").kernels}


def test_views_share_memory() -> None:
    x = on(np.arange(24.0).reshape(2, 3, 4))
    views = [
        x[:, ::-1, 1:3],
        pg.permute_dims(x, (2, 0, 1)),
        x.reshape((6, 4)),
        pg.broadcast_to(x, (5, 2, 3, 4)),
    ]
    assert all(v._array.memory is x._array.memory for v in views)
    host = np.arange(24.0).reshape(2, 3, 4)
    wanted = [
        host[:, ::-1, 1:3],
        host.transpose(2, 0, 1),
        host.reshape(6, 4),
        np.broadcast_to(host, (5, 2, 3, 4)),
    ]
    for view, value in zip(views, wanted, strict=True):
        np.testing.assert_array_equal(view.numpy(), value)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2)])
def test_nothing_is_launched_for_no_elements(shape: tuple[int, ...]) -> None:
    x = on(np.zeros(shape, np.float32))
    assert (x + 1).shape == shape
    assert x.sum().item() == 0
    assert pg.prod(x).item() == 1
    assert pg.sort(x).shape == shape


def test_an_index_out_of_range_is_told_by_the_next_read() -> None:
    x, index = on([[1.0, 2.0], [3.0, 4.0]]), on([0, 2])
    wrong = pg.take(x, index, axis=1)
    with pytest.raises(IndexRangeError, match="gather_nd: index 2 is out of range for axis 1 of size 2"):
        wrong.numpy()
    assert pg.take(x, index - 1, axis=1).tolist() == [[2, 2], [4, 4]]


def test_an_index_out_of_range_is_told_by_synchronize() -> None:
    backend = get_backend("opencl")
    x = on([1.0, 2.0])
    wrong = pg.take(x, on([-3]))
    with pytest.raises(IndexRangeError, match="index -3"):
        backend.synchronize(x.device)
    backend.synchronize(x.device)
    assert wrong.numpy().shape == (1,)


def test_printing_tells_of_a_wrong_index_too() -> None:
    wrong = pg.take(on([1.0, 2.0]), on([5]))
    with pytest.raises(IndexRangeError, match="index 5"):
        repr(wrong)


def test_indices_of_an_axis_without_elements_are_all_out_of_range() -> None:
    wrong = pg.take(on(np.zeros((0, 2), np.float32)), on([0]), axis=0)
    with pytest.raises(IndexRangeError, match="of size 0"):
        wrong.numpy()


def test_what_is_added_to_one_place_is_added_in_order() -> None:
    """The sum is that of the order of the indices, bit for bit."""
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(5000) * 10.0 ** rng.integers(-4, 4, 5000)).astype(np.float32)
    wanted = np.float32(0)
    for value in values:
        wanted += value
    out = pg.scatter_add(on(np.zeros(3, np.float32)), on(np.ones(5000, np.int64)), on(values))
    assert out.tolist() == [0, float(wanted), 0]


@pytest.mark.parametrize("n", [1, 15, 16, 17, 1000, 40_000])
@pytest.mark.parametrize("descending", [False, True])
def test_orders_are_stable(n: int, descending: bool) -> None:
    values = np.random.default_rng(n).integers(0, 9, n).astype(np.float32)
    values[::7] = np.nan
    order = pg.argsort(on(values), descending=descending, stable=True).numpy()
    rank = np.where(np.isnan(values), 10, values)
    np.testing.assert_array_equal(order, np.argsort(-rank if descending else rank, kind="stable"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "k", "m"), [(1, 1, 1), (5, 3, 15), (7, 33, 16), (13, 70, 65), (97, 101, 103)])
@pytest.mark.parametrize("turned", [False, True])
def test_products_of_matrices(n: int, k: int, m: int, turned: bool, dtype: str) -> None:
    """Sizes around those of a tile; operands as they are and transposed; a batch that broadcasts."""
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((2, 1, n, k)), rng.standard_normal((3, k, m))
    x, y = on(a, dtype), on(b, dtype)
    if turned:
        x = pg.permute_dims(on(a.transpose(0, 1, 3, 2).copy(), dtype), (0, 1, 3, 2))
        y = pg.permute_dims(on(b.transpose(0, 2, 1).copy(), dtype), (0, 2, 1))
    np.testing.assert_allclose(pg.matmul(x, y).numpy(), a @ b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 5), (70, 40), (5, 17, 33), (3, 200_000), (3001, 37)])
@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_reductions(shape: tuple[int, ...], axis: int | None) -> None:
    """Rows, columns and the general form, whole vectors and what is left of them, rows cut into blocks."""
    host = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    x = on(host)
    np.testing.assert_allclose(
        x.sum(axis=axis).numpy(), host.sum(axis=axis, dtype=np.float64), rtol=1e-4, atol=1e-2
    )
    np.testing.assert_array_equal(x.max(axis=axis).numpy(), host.max(axis=axis))
    np.testing.assert_array_equal(pg.argmax(x, axis=axis).numpy(), host.argmax(axis=axis))


def test_the_largest_of_nan_is_nan() -> None:
    host = np.arange(100.0, dtype=np.float32)
    for at in (0, 50, 99):
        host[at] = np.nan
        assert np.isnan(on(host).max().item())
        assert np.isnan(on(np.stack([host, host + 1])).max(axis=1).numpy()).all()
        assert np.isnan(on(np.stack([host, host + 1])).max(axis=0).numpy()).any()
        host[at] = at


def test_threads_have_kernels_of_their_own() -> None:
    failures: list[str] = []

    def work(seed: int) -> None:
        for i in range(50):
            value = float(seed * 1000 + i)
            if (on(np.full(1000, value)) * 2.0 + 1.0).numpy().tolist() != [value * 2 + 1] * 1000:
                failures.append(f"{seed}: {i}")

    threads = [threading.Thread(target=work, args=(s,)) for s in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


FORKED = """
import os, sys
import plugrad as pg
x = pg.asarray([1.0], device="opencl")
child = os.fork()
if not child:
    try:
        x + 1
    except pg.errors.DeviceError as error:
        os._exit(7 if "spawn" in str(error) else 8)
    os._exit(9)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_gets_an_error() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], timeout=60, check=False)
    assert done.returncode == 7


def test_without_a_platform_the_fix_is_named(tmp_path: Any) -> None:
    """A process that is told of no driver."""
    code = "from plugrad.backend import get_backend; get_backend('opencl')"
    environment = {**os.environ, "OCL_ICD_VENDORS": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "BackendUnavailable" in done.stderr
    assert "apt-get install pocl-opencl-icd" in done.stderr


def test_more_memory_than_there_is_is_an_error() -> None:
    """And the device works as before."""
    with pytest.raises(DeviceError, match="opencl:0"):
        pg.zeros((1 << 46,), device="opencl")
    assert (on([1.0]) + 1).tolist() == [2]


def test_a_full_device_is_an_error_and_what_is_given_back_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool is emptied before the error, and the device works as before."""
    device = on([1.0])._array.device
    device.synchronize()
    idle = on(np.zeros(1 << 20, np.float32))
    del idle
    free = device.statistics()["pooled"]
    assert free >= 4 << 20
    total = device.statistics()["live"] + free
    monkeypatch.setattr(device._supply, "limit", total + (1 << 20))
    larger = pg.zeros(
        ((free + (1 << 20)) // 8,), device="opencl"
    )  # fits once the pool is empty, in another block
    assert device.statistics()["pooled"] < free
    with pytest.raises(DeviceError, match=r"opencl:0: out of memory: \d+ bytes are asked while \d+ of \d+"):
        pg.zeros((total // 4 + (1 << 20),), device="opencl")
    assert larger.sum().item() == 0
    assert (on([1.0]) + 1).tolist() == [2]


def test_a_kernel_that_needs_more_local_memory_than_there_is() -> None:
    from plugrad.graph.source import Source

    device = on([1.0])._array.device
    size = device._device.local_mem_size + 4096
    text = (
        f"__kernel void greedy(__global uchar *x) {{ __local uchar all[{size}]; "
        "all[get_local_id(0)] = x[0]; barrier(CLK_LOCAL_MEM_FENCE); x[0] = all[0]; }"
    )
    with pytest.raises(DeviceError, match="opencl:0: .*'greedy'"):
        device.launch(Source("greedy", text, ("memory",)), (1,), (1,), (on([1.0])._array.memory,))
    assert (on([1.0]) + 1).tolist() == [2]


def test_a_group_larger_than_the_device_has_is_made_smaller() -> None:
    from plugrad.graph.source import Source

    x = on(np.zeros(100_000, np.float32))
    device = x._array.device
    text = "__kernel void one(__global float *x) { x[get_global_id(0)] = 1; }"
    group = 2 * device._device.max_work_group_size
    device.launch(Source("one", text, ("memory",)), (98_304,), (group,), (x._array.memory,))
    assert x.sum().item() == 98_304


def test_a_launch_that_the_driver_refuses_names_device_and_kernel() -> None:
    from plugrad.graph.source import Source

    device = on([1.0])._array.device
    text = "__kernel void flat(__global float *x) { x[0] = 1; }"
    with pytest.raises(
        DeviceError, match="opencl:0: kernel 'flat' of 30 work-items in groups of 4 does not start"
    ):
        device.launch(Source("flat", text, ("memory",)), (1, 30), (1, 4), (on([1.0])._array.memory,))
    assert (on([1.0]) + 1).tolist() == [2]


def test_a_kernel_that_does_not_compile_names_the_device() -> None:
    from plugrad.graph.source import Source

    device = on([1.0])._array.device
    with pytest.raises(DeviceError, match="opencl:0: the driver does not build kernel 'wrong'"):
        device.launch(Source("wrong", "__kernel void wrong() { nothing; }", ()), (1,), (1,), ())
    assert (on([1.0]) + 1).tolist() == [2]


def test_memory_is_reused() -> None:
    backend, x = get_backend("opencl"), on(np.zeros(10_000, np.float32))
    before = backend.memory_stats(x.device)["live"]
    for _ in range(20):
        y = x + 1
    del y
    after = backend.memory_stats(x.device)
    assert after["live"] == before
    assert after["pooled"] > 0


def test_a_network_learns() -> None:
    """The four rows of XOR, eager and captured."""
    with pg.use_device("opencl"):
        pg.random.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        rows = pg.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        truth = pg.asarray([[0.0], [1.0], [1.0], [0.0]])
        loss = nn.BCEWithLogitsLoss()

        @pg.jit
        def step() -> pg.Tensor:
            optimizer.zero_grad()
            value = loss(model(rows), truth)
            value.backward()
            optimizer.step()
            return value

        for _ in range(150):
            step()
        assert ((model(rows) > 0) == (truth > 0.5)).numpy().all()
