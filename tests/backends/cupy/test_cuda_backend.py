"""What the CUDA backend asks of the device, seen on a stand-in for CuPy that records it and runs the kernels on the host."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.backend import get_backend
from plugrad.errors import DeviceError, IndexRangeError
from plugrad.graph.source import Source
from support.standin import cupy

DEVICE = "cupy"


def kinds(log: list[tuple[Any, ...]]) -> Counter[Any]:
    return Counter(entry[0] for entry in log)


class TestDevices:
    def test_they_are_described(self) -> None:
        backend = get_backend("cuda")
        assert backend.name == "cupy"
        assert [d.description for d in backend.devices()] == [
            "Stand-in, compute capability 9.0, CUDA 13.0, driver of CUDA 13.0"
        ] * 2

    def test_each_computes_on_its_own(self) -> None:
        with cupy.recorded() as log:
            x = pg.ones((3,), device="cupy:1") + 1
        assert {entry[-1] for entry in log} == {1}
        assert str(x.device) == "cupy:1"
        assert (x.to("cupy:0") * 2).numpy().tolist() == [4, 4, 4]

    def test_none_is_a_reason(self) -> None:
        code = (
            "import cupy\n"
            "def none(): raise cupy.cuda.runtime.CUDARuntimeError('cudaErrorNoDevice: no CUDA-capable device is detected')\n"
            "cupy.cuda.runtime.getDeviceCount = none\n"
            "import plugrad\nplugrad.ones(3, device='cuda')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "CUDA finds no device: cudaErrorNoDevice" in done.stderr
        assert "an NVIDIA driver must be installed" in done.stderr


class TestLaunches:
    def test_an_elementwise_op_is_one_and_waits_for_nothing(self) -> None:
        x = pg.ones((5, 7), device=DEVICE)
        x + x
        with cupy.recorded() as log:
            x + x
        assert kinds(log) == {"launch": 1} or kinds(log) == {"launch": 1, "allocate": 1}

    def test_a_composite_is_few(self) -> None:
        x = pg.ones((5, 7), device=DEVICE)
        x.softmax()
        with cupy.recorded() as log:
            x.softmax()
        assert kinds(log)["launch"] == 1

    def test_products_go_to_the_library(self) -> None:
        a, b = np.random.default_rng(0).normal(size=(2, 6, 6)).astype(np.float32)
        with cupy.recorded() as log:
            product = pg.asarray(a, device=DEVICE) @ pg.asarray(b, device=DEVICE).T
        assert kinds(log)["matmul"] == 1
        np.testing.assert_allclose(product.numpy(), a @ b.T, rtol=1e-5, atol=1e-6)

    def test_products_of_integers_do_not(self) -> None:
        with cupy.recorded() as log:
            product = pg.asarray([[1, 2], [3, 4]], device=DEVICE) @ pg.asarray(
                [[1, 0], [0, 2]], device=DEVICE
            )
        assert not kinds(log)["matmul"]
        assert product.numpy().tolist() == [[1, 4], [3, 8]]

    def test_more_than_65535_rows_fit(self) -> None:
        x = pg.arange(70_000 * 2, device=DEVICE).reshape(70_000, 2)
        assert (
            x.T.reshape(2, 70_000, 1) + pg.zeros((1, 1, 2), dtype=x.dtype, device=DEVICE)
        ).sum().item() == 2 * x.sum().item()

    def test_more_groups_than_a_grid_has_is_an_error(self) -> None:
        device = get_backend(DEVICE).found[0]  # type: ignore[attr-defined]
        with pytest.raises(
            DeviceError, match="'huge' wants 4294967296 groups of work-items, and a launch has 2147483647"
        ):
            device.launch(Source("huge", "", ()), (1 << 16, 1 << 16), (1, 1), ())

    def test_a_text_that_does_not_compile_is_an_error_and_nothing_more(self) -> None:
        device = get_backend(DEVICE).found[0]  # type: ignore[attr-defined]
        text = 'extern "C" __global__ void wrong(long long a, long long b) { nothing; }'
        with pytest.raises(DeviceError, match="cupy:0: a kernel does not start: .*|.*'wrong'"):
            device.launch(Source("wrong", text, (pg.int64, pg.int64)), (1,), (1,), ())
        assert pg.ones(2, device=DEVICE).sum().item() == 2


class TestMemory:
    def test_what_is_let_go_of_is_used_again(self) -> None:
        x = pg.ones((1000,), device=DEVICE)
        x + 1
        with cupy.recorded() as log:
            for _ in range(5):
                x + 1
        assert not kinds(log)["allocate"]

    def test_too_much_is_an_error_that_tells_how_much(self) -> None:
        x = pg.ones((1 << 20,), device=DEVICE)
        with pytest.raises(DeviceError, match="cupy:0: .* bytes are asked"):
            pg.zeros((1 << 31,), device=DEVICE)
        assert (x + 1).sum().item() == 2 << 20

    def test_an_index_out_of_range_is_found(self) -> None:
        x = pg.ones((4,), device=DEVICE)
        taken = x[pg.asarray([1, 9], device=DEVICE)]
        with pytest.raises(IndexRangeError, match="index 9 is out of range for axis 0 of size 4"):
            taken.numpy()
        assert x.sum().item() == 4


class TestCapturedSteps:
    def test_one_is_launches_alone(self) -> None:
        """From the second replay on: no compilation, no copy, no wait; memory only for what leaves."""
        step, data = _classifier()
        losses = [step(*data) for _ in range(3)]
        with cupy.recorded() as log:
            losses += [step(*data) for _ in range(4)]
        assert set(kinds(log)) <= {"launch", "matmul", "allocate"}
        assert kinds(log)["allocate"] <= 4, "memory for each loss that is kept"
        assert kinds(log)["matmul"] == 4 * 5, "two products forward, three backward"
        assert kinds(log)["launch"] <= 4 * 12
        values = [loss.item() for loss in losses]
        assert values == sorted(values, reverse=True)

    def test_it_computes_what_numpy_does(self) -> None:
        there, data = _classifier()
        here, host_data = _classifier("numpy")
        found = [there(*data).item() for _ in range(5)]
        np.testing.assert_allclose(found, [here(*host_data).item() for _ in range(5)], rtol=1e-4)


def _classifier(device: str = DEVICE) -> tuple[Any, tuple[pg.Tensor, pg.Tensor]]:
    """A training step of two linear layers, captured, and a batch."""
    pg.manual_seed(0)
    rng = np.random.default_rng(0)
    with pg.use_device(device):
        model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)

        @pg.jit
        def step(x: pg.Tensor, y: pg.Tensor) -> pg.Tensor:
            optimizer.zero_grad()
            loss = nn.CrossEntropyLoss()(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        x = pg.asarray(rng.normal(size=(8, 12)).astype(np.float32))
        y = pg.asarray(rng.integers(0, 4, 8))
    return step, (x, y)


def _in_child(queue: Any) -> None:
    try:
        pg.ones(2, device=DEVICE)
    except DeviceError as error:
        queue.put(str(error))


def test_a_forked_child_is_told() -> None:
    pg.ones(2, device=DEVICE)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    message = queue.get(timeout=30)
    child.join()
    assert "cupy:0 cannot be used in a forked process" in message
