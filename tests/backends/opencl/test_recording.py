"""What a captured function launches is put into the queue anew at each call, without the Python that found it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.backend import get_backend
from plugrad.errors import DeviceError, IndexRangeError
from plugrad.generated.array import StridedArray
from plugrad.generated.memory import Memory, Pool, rounded
from plugrad.generated.recording import KEPT, PATIENCE, Recordings
from plugrad.spec import Spec

_device = pytest.importorskip(
    "plugrad_opencl._device", reason="pyopencl is not installed", exc_type=ImportError
)
CLDevice = _device.CLDevice


@pytest.fixture(autouse=True)
def _here() -> Iterator[None]:
    with pg.use_device("opencl"):
        yield


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that Python launches one by one."""
    seen: list[str] = []
    launch = CLDevice.launch

    def noted(self: CLDevice, source: Any, *args: Any, **kwargs: Any) -> None:
        seen.append(source.name)
        launch(self, source, *args, **kwargs)

    monkeypatch.setattr(CLDevice, "launch", noted)
    return seen


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def settle(function: Callable[[], Any], launches: list[str]) -> None:
    """Call until nothing is launched from Python any more."""
    for _ in range(6):
        launches.clear()
        function()
    assert not launches


def test_a_call_launches_nothing_from_python(launches: list[str]) -> None:
    captured = pg.jit(lambda x, y: pg.softmax(x @ y, axis=-1).sum(axis=0))
    y = pg.asarray(normal(5, 7))
    settle(lambda: captured(pg.asarray(normal(3, 5)), y), launches)
    for seed in range(4):
        x = normal(3, 5, seed=seed)
        wanted = np.exp(x @ y.numpy())
        wanted = (wanted / wanted.sum(1, keepdims=True)).sum(0)
        np.testing.assert_allclose(captured(pg.asarray(x), y).numpy(), wanted, rtol=1e-5)
    assert not launches


def test_what_left_stays_as_it_was() -> None:
    captured = pg.jit(lambda x: (x + 1, (x * 2).T))
    results = [captured(pg.asarray(normal(4, 6, seed=i))) for i in range(8)]
    for i, (a, b) in enumerate(results):
        np.testing.assert_array_equal(a.numpy(), normal(4, 6, seed=i) + 1)
        np.testing.assert_array_equal(b.numpy(), normal(4, 6, seed=i).T * 2)


def test_outputs_of_every_kind(launches: list[str]) -> None:
    """A result twice, views of it, an input, a view of an input, what is known beforehand, and nothing."""
    table = pg.asarray(normal(3, 2, seed=9))

    def outputs(x: pg.Tensor, none: pg.Tensor) -> tuple[pg.Tensor, ...]:
        y = x * 3
        return y, y, y[1:], y.T, x, x[::-1], table.T, none + 1, x.sum(), pg.ones((2,)) * 2

    captured = pg.jit(outputs)
    none = pg.zeros((0, 4))
    settle(lambda: captured(pg.asarray(normal(3, 2)), none), launches)
    found = [captured(pg.asarray(normal(3, 2, seed=i)), none) for i in range(3)]
    for i, got in enumerate(found):
        x = normal(3, 2, seed=i)
        wanted = [x * 3, x * 3, 3 * x[1:], 3 * x.T, x, x[::-1], normal(3, 2, seed=9).T, np.zeros((0, 4))]
        wanted += [x.sum(), np.full(2, 2.0)]
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-6)
    assert not launches


def test_inputs_may_lie_in_one_memory_or_in_two() -> None:
    captured = pg.jit(lambda x, y: x - 2 * y)
    x, y = pg.asarray(normal(4, 4)), pg.asarray(normal(4, 4, seed=1))
    again = x.reshape((2, 8)).reshape((4, 4))
    pairs = [
        (x, y),
        (x, again),
        (x, y),
        (x, again),
        (y, x),
        (x, x),
        (x, x.T),
        (y, x),
        (again, x[::-1]),
        (y, y),
    ]
    for _ in range(3):
        for a, b in pairs:
            np.testing.assert_array_equal(captured(a, b).numpy(), a.numpy() - 2 * b.numpy())
    np.testing.assert_array_equal(x.numpy(), normal(4, 4))


def test_batches_that_are_rows_of_a_table_need_few_recordings(launches: list[str]) -> None:
    table, weight = pg.asarray(normal(64, 8)), pg.asarray(normal(8, 8, seed=1))
    captured = pg.jit(lambda x: (x @ weight @ weight @ weight, x))
    host, power = normal(64, 8), np.linalg.matrix_power(normal(8, 8, seed=1), 3)
    for i in range(6):
        captured(table[4 * i : 4 * i + 4])
    launches.clear()
    kept = []
    for i in range(16):
        product, same = captured(table[4 * i : 4 * i + 4])
        np.testing.assert_allclose(product.numpy(), host[4 * i : 4 * i + 4] @ power, rtol=1e-4, atol=1e-4)
        kept.append(same)
    # Each batch is copied to where the launches read it, and that is all.
    assert len(launches) == 16
    for i, batch in enumerate(kept):
        np.testing.assert_array_equal(batch.numpy(), host[4 * i : 4 * i + 4])


def kernel(name: str) -> Callable[..., StridedArray]:
    """The first kernel of an op."""
    kernels = get_backend("opencl").kernels
    return next(kernels._kernels[op][0].function for op in kernels if op.name == name)  # type: ignore[index]


def test_arrays_that_lie_in_another_way_each_time() -> None:
    """More ways than recordings are kept, and more than are made."""
    recordings = Recordings(pg.zeros((1,))._array.device)
    negative, calls = kernel("negative"), []

    def line(inputs: Any, targets: Any) -> list[Any]:
        calls.append(len(targets))
        return [negative(x) for x in inputs]

    for step in range(PATIENCE + 5):
        host = normal(40 * (step + 1), 3, seed=step)
        x = pg.asarray(host)[:: step + 1]
        (out,) = recordings.run(line, [x._array], [])
        np.testing.assert_array_equal(get_backend("opencl").to_host(out), -host[:: step + 1])
    assert len(recordings._kept) <= KEPT
    assert len(calls) == PATIENCE + 5


def test_a_run_that_reads_the_device_is_not_repeated() -> None:
    device = pg.zeros((1,))._array.device
    recordings = Recordings(device)
    negative, calls = kernel("negative"), []

    def line(inputs: Any, targets: Any) -> list[Any]:
        found = np.empty(1, np.float32)
        device.download(found.view(np.uint8), inputs[0].memory, 0)
        calls.append(float(found[0]))
        return [negative(inputs[0])]

    for value in (1.0, 2.0, 3.0):
        (out,) = recordings.run(line, [pg.asarray([value])._array], [])
        assert get_backend("opencl").to_host(out).tolist() == [-value]
    assert calls == [1, 2, 3]


def test_memory_that_a_run_met_stays() -> None:
    """What is neither given to the run nor its own is not given out again while the recording lives."""
    backend, add = get_backend("opencl"), kernel("add")
    x, met = pg.asarray(normal(1000)), [pg.asarray(normal(1000, seed=1))._array]
    recordings = Recordings(x._array.device)

    def line(inputs: Any, targets: Any) -> list[Any]:
        return [add(inputs[0], met.pop())]

    outs = recordings.run(line, [x._array], [])
    others = [pg.asarray(np.zeros(1000, np.float32)) for _ in range(4)]
    outs += recordings.run(line, [x._array], [])
    for out in outs:
        np.testing.assert_array_equal(backend.to_host(out), normal(1000) + normal(1000, seed=1))
    assert not any(o.numpy().any() for o in others)


def test_what_leaves_one_recording_is_not_the_memory_of_another() -> None:
    backend, negative = get_backend("opencl"), kernel("negative")
    recordings = Recordings(pg.zeros((1,))._array.device)

    def line(inputs: Any, targets: Any) -> list[Any]:
        first = negative(inputs[0])
        return [first] if inputs[0].strides[0] == 1 else [negative(first)]

    x = normal(30, 30)
    straight, turned = pg.asarray(x)._array, pg.asarray(np.ascontiguousarray(x.T)).T._array
    for _ in range(3):
        (twice,) = recordings.run(line, [straight], [])
        (once,) = recordings.run(line, [turned], [])
        recordings.run(line, [straight], [])
        np.testing.assert_array_equal(backend.to_host(twice), x)
        np.testing.assert_array_equal(backend.to_host(once), -x)


def test_memory_that_left_a_run_is_used_again() -> None:
    device = pg.zeros((1,))._array.device
    recordings, negative = Recordings(device), kernel("negative")
    (out,) = recordings.run(lambda inputs, _: [negative(inputs[0])], [pg.asarray(normal(777))._array], [])
    number, size = out.memory.block.number, out.memory.block.size
    del out
    assert number in [b.number for b in device.pool.free[size]]


def test_training_writes_over_its_parameters(launches: list[str]) -> None:
    """In the same memory from the second step on; what was read before is as it was; the losses are those of eager mode."""
    host = normal(16, 5), normal(16, 1, seed=1)

    def losses(jitted: bool) -> tuple[list[float], nn.Module]:
        pg.manual_seed(3)
        model = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 1))
        optimizer = optim.AdamW(model.parameters(), lr=0.01)

        def step(x: pg.Tensor, y: pg.Tensor) -> pg.Tensor:
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        call = pg.jit(step) if jitted else step
        found = [call(pg.asarray(host[0]), pg.asarray(host[1])).item() for _ in range(12)]
        return found, model

    captured, model = losses(True)
    eager, other = losses(False)
    np.testing.assert_allclose(captured, eager, rtol=1e-5)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_batches_of_two_sizes_train_one_model() -> None:
    """Two captured functions write to the same parameters in turn, and each finds them elsewhere than it left them."""

    def losses(jitted: bool) -> list[float]:
        pg.manual_seed(3)
        model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4))
        optimizer = optim.AdamW(model.parameters(), lr=0.01)

        def step(x: pg.Tensor, y: pg.Tensor) -> pg.Tensor:
            optimizer.zero_grad()
            loss = pg.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        call = pg.jit(step) if jitted else step
        found = []
        for i in range(30):
            n = 5 if i % 4 == 3 else 8
            x, y = normal(n, 6, seed=i), np.random.default_rng(i).integers(0, 4, n)
            found.append(call(pg.asarray(x), pg.asarray(y)).item())
        return found

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-5)


def test_memory_does_not_grow(launches: list[str]) -> None:
    pg.manual_seed(3)
    model = nn.Sequential(nn.Linear(30, 50), nn.GELU(), nn.Linear(50, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    @pg.jit
    def step(x: pg.Tensor) -> pg.Tensor:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    backend = get_backend("opencl")
    settle(lambda: step(pg.asarray(normal(8, 30))), launches)
    first = [p._array.memory.block.number for p in model.parameters()]
    before = backend.memory_stats(pg.current_device())
    seen = model[0].weight.detach().numpy()
    copy = seen.copy()
    for i in range(10):
        step(pg.asarray(normal(8, 30, seed=i)))
    assert backend.memory_stats(pg.current_device())["peak"] == before["peak"]
    assert [p._array.memory.block.number for p in model.parameters()] == first
    np.testing.assert_array_equal(seen, copy)


def test_what_a_user_keeps_of_a_parameter_is_not_written_over() -> None:
    """Neither memory that NumPy shares, nor a view."""
    model = nn.Linear(200, 200)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = pg.asarray(normal(4, 200))

    @pg.jit
    def step() -> None:
        optimizer.zero_grad()
        (model(x) ** 2).mean().backward()
        optimizer.step()

    def number() -> int:
        return int(model.weight._array.memory.block.number)

    def written_over() -> bool:
        before = number()
        step()
        return number() == before

    for _ in range(4):
        step()
    assert written_over()
    seen = model.weight.detach().numpy()
    copy = seen.copy()
    assert not seen.flags.writeable
    assert not written_over()
    assert written_over()
    view = model.weight.detach()[5:7]
    rows = view.numpy().copy()
    assert not written_over()
    assert written_over()
    np.testing.assert_array_equal(seen, copy)
    np.testing.assert_array_equal(view.numpy(), rows)
    assert (rows != copy[5:7]).any()


def test_many_small_parameters() -> None:
    parameters = [nn.Parameter(pg.asarray(normal(n, seed=n))) for n in (3, 5, 1, 16, 2)]
    optimizer = optim.Adam(parameters, lr=0.1)
    twins = [nn.Parameter(pg.asarray(normal(n, seed=n))) for n in (3, 5, 1, 16, 2)]
    other = optim.Adam(twins, lr=0.1)

    def step(of: list[Any], by: Any) -> None:
        by.zero_grad()
        total = pg.zeros(())
        for p in of:
            total = total + (p * p).sum()
        total.backward()
        by.step()

    captured = pg.jit(lambda: step(parameters, optimizer))
    for _ in range(6):
        captured()
        step(twins, other)
    for p, q in zip(parameters, twins, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-6)


def test_an_index_out_of_range_is_told_after_a_replay(launches: list[str]) -> None:
    table = pg.asarray(normal(5, 2))
    captured = pg.jit(lambda index: pg.take(table, index, axis=0))
    settle(lambda: captured(pg.asarray([0, 4])).numpy(), launches)
    wrong = captured(pg.asarray([0, 5]))
    with pytest.raises(IndexRangeError, match="index 5 is out of range for axis 0 of size 5"):
        wrong.numpy()
    np.testing.assert_array_equal(captured(pg.asarray([3, 4])).numpy(), table.numpy()[3:])
    assert not launches


@pytest.mark.parametrize("at", [0, 1])
def test_a_launch_that_fails_leaves_nothing_half_made(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = pg.jit(lambda x: (x @ x).sum(axis=0) + 1)
    x = pg.asarray(normal(4, 4))
    captured(x)  # the first run, which learns where results lie
    launch, made = CLDevice.launch, []

    def failing(self: CLDevice, *args: Any, **kwargs: Any) -> None:
        made.append(1)
        if len(made) == at + 1:
            raise DeviceError("this driver has enough")
        launch(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(CLDevice, "launch", failing)
        with pytest.raises(DeviceError, match="enough"):
            captured(x)
    for _ in range(3):
        np.testing.assert_allclose(captured(x).numpy(), (x.numpy() @ x.numpy()).sum(0) + 1, rtol=1e-5)


def test_without_memory_a_replay_is_an_error_and_the_next_one_works(
    launches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = pg.jit(lambda x: x + 1)
    settle(lambda: captured(pg.asarray(normal(2100))), launches)
    x, kept = pg.asarray(normal(2100)), captured(pg.asarray(normal(2100)))

    def full(self: Pool, size: int) -> Any:
        raise DeviceError("opencl:0: out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(Pool, "block", full)
        with pytest.raises(DeviceError, match="out of memory"):
            captured(x)
    np.testing.assert_array_equal(captured(x).numpy(), normal(2100) + 1)
    np.testing.assert_array_equal(kept.numpy(), normal(2100) + 1)


def test_threads_that_call_at_the_same_time() -> None:
    captured = pg.jit(lambda x: pg.tanh(x @ x).sum(axis=1))
    captured(pg.asarray(normal(20, 20)))
    failures: list[str] = []

    def work(seed: int) -> None:
        with pg.use_device("opencl"):
            for i in range(30):
                x = normal(20, 20, seed=100 * seed + i)
                got = captured(pg.asarray(x)).numpy()
                if not np.allclose(got, np.tanh(x @ x).sum(1), atol=1e-4):
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
pg.use_device("opencl")
f = pg.jit(lambda x: x + 1)
x = pg.asarray([1.0])
for _ in range(4):
    f(x)
child = os.fork()
if not child:
    try:
        f(x)
    except pg.errors.DeviceError as error:
        os._exit(7 if "spawn" in str(error) else 8)
    os._exit(9)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_gets_an_error() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], timeout=60, check=False)
    assert done.returncode == 7


def test_times_are_told_node_by_node() -> None:
    captured = pg.jit(lambda x: pg.tanh(x @ x))
    x = pg.asarray(normal(64, 64))
    captured(x)
    rows = captured.profile(x).rows
    assert rows
    assert all(r.seconds > 0 for r in rows)


def test_a_plan_that_is_gone_gives_its_memory_back(launches: list[str]) -> None:
    backend, x = get_backend("opencl"), pg.asarray(normal(500, 500))
    gc.collect()
    before = backend.memory_stats(x.device)["live"]
    captured = [pg.jit(lambda x: ((x @ x) * 2) @ x)]
    settle(lambda: captured[0](x), launches)
    assert backend.memory_stats(x.device)["live"] > before
    captured.clear()
    gc.collect()
    assert backend.memory_stats(x.device)["live"] == before


def test_arrays_side_by_side_are_joined() -> None:
    """As long as they are those that were made together; what refers to one refers to no other."""
    backend, device = get_backend("opencl"), pg.current_device()
    specs = [Spec(shape, pg.float32, device) for shape in ((3,), (2, 2), (1,))]
    row = list(backend.side_by_side(specs))
    for i, array in enumerate(row):
        kernel("negative")(pg.asarray(np.full(array.shape, i, np.float32))._array, into=array)
    whole = backend.joined(row)
    assert backend.to_host(whole).tolist() == [0, 0, 0, -1, -1, -1, -1, -2]
    view = row[1].view((2, 2), (1, 2))
    for others in (row[:2], row[::-1], [row[0], view, row[2]], [row[0], None, row[2]]):
        assert backend.joined(others) is None
    del whole, array
    assert not backend.exclusive(row, [1, 1, 1])
    del view, others
    assert backend.exclusive(row, [1, 1, 1])
    assert not backend.exclusive([*row, None], [1, 1, 1, 1])
    again = list(backend.side_by_side(specs))
    assert backend.joined([row[0], again[1], row[2]]) is None


@pytest.mark.parametrize("nbytes", [1, 63, 64, 65, 512, 513, 1000, 4097, 123_456_789])
def test_blocks_have_few_sizes(nbytes: int) -> None:
    size = rounded(nbytes)
    assert nbytes <= size <= max(64 * -(-nbytes // 64), nbytes * 9 // 8)
    assert rounded(size) == size


def test_memory_goes_back_to_its_pool() -> None:
    device = pg.zeros((1,))._array.device
    pool = Pool(device.pool.block)
    memory = pool.memory(4096)
    number = memory.block.number
    del memory
    assert [b.number for b in pool.free[4096]] == [number]
    again = pool.memory(4096)
    assert again.block.number == number
    pool.merge_into(device.pool)
    del again
    assert number in [b.number for b in device.pool.free[4096]]
    assert isinstance(StridedArray(device, device.allocate(4), pg.float32, (1,)).memory, Memory)
