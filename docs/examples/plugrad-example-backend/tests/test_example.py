"""The backend as its users meet it. What its kernels compute is the conformance suite's to check."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.backend import backends, get_backend
from plugrad.dispatch.statement import all_ops
from plugrad.errors import DTypeError, IndexRangeError

INFINITY, NAN = float("inf"), float("nan")


def on_example(values: Any, dtype: str | None = None) -> pg.Tensor:
    """A tensor on the device under test."""
    return pg.asarray(values, dtype=dtype, device="example")


def test_the_backend_is_found_by_its_name() -> None:
    """The entry point names it; nobody imports it."""
    report = next(r for r in backends() if r.name == "example")
    assert report.distribution == "plugrad-example-backend"
    assert [str(d.device) for d in report.devices] == ["example:0"]


def test_there_is_a_kernel_for_each_primitive_and_for_nothing_else() -> None:
    """Composites and rules run by their bodies."""
    primitives = {op.name for op in all_ops().values() if op.primitive}
    assert {op.name for op in get_backend("example").kernels} == primitives


def test_the_host_and_the_device_share_no_memory() -> None:
    """Both ways are copies, also of an array that has strides."""
    host = np.arange(6.0).reshape(2, 3).T
    x = on_example(host)
    host[...] = 0
    read = x.numpy()
    assert read.tolist() == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(ValueError, match="read-only"):
        read[0, 0] = 7


def test_a_result_is_written_into_the_memory_that_is_given() -> None:
    """A kernel fills the buffer that it gets, also where that is an operand."""
    backend = get_backend("example")
    x = on_example([1.0, 2.0, 3.0])
    kernel = backend.kernels.find(pg.add, [x.spec, x.spec], {})
    assert kernel is not None
    buffer = backend.from_host(x.numpy(), x.device)
    assert kernel.function(buffer, buffer, into=buffer) is buffer
    assert buffer.elements.tolist() == [2, 4, 6]


def test_integers_wrap_around() -> None:
    """As in C, though Python's own never end."""
    assert (on_example([127, -128], "int8") + on_example([1, -1], "int8")).tolist() == [-128, 127]
    assert (on_example([2], "uint64") ** on_example([63], "uint64") * 2).tolist() == [0]


def test_what_python_raises_for_is_an_infinity_or_nan() -> None:
    """As IEEE 754 has it."""
    x = on_example([0.0, -1.0, 1e3])
    expected = {
        pg.log: [-INFINITY, NAN, np.log(1e3)],
        pg.sqrt: [0.0, NAN, np.sqrt(1e3)],
        pg.exp: [1.0, np.exp(-1), INFINITY],
    }
    for op, values in expected.items():
        np.testing.assert_allclose(op(x).numpy(), np.float32(values), rtol=1e-6)
    assert (1 / on_example([0.0, -0.0])).tolist() == [INFINITY, -INFINITY]


def test_an_index_that_is_out_of_range_is_an_error() -> None:
    """And the tensors are as good as before."""
    x, index = on_example([1.0, 2.0]), on_example([0, 2])
    with pytest.raises(IndexRangeError, match="index 2 is out of range for axis 0 of size 2"):
        pg.take(x, index)
    assert pg.take(x, index - 1).tolist() == [2, 2]


def test_a_dtype_that_the_device_lacks_is_an_error() -> None:
    """Python has no arrays of 16-bit floats."""
    with pytest.raises(DTypeError, match="float16"):
        on_example([1.0], "float16")


def test_a_network_learns_on_it() -> None:
    """The four rows of XOR, by ops that the backend has never heard of."""
    with pg.use_device("example"):
        pg.random.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        rows = pg.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        truth = pg.asarray([[0.0], [1.0], [1.0], [0.0]])
        loss = nn.BCEWithLogitsLoss()
        for _ in range(100):
            optimizer.zero_grad()
            loss(model(rows), truth).backward()
            optimizer.step()
        assert ((model(rows) > 0) == (truth > 0.5)).numpy().all()
