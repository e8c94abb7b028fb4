"""Between Python, the host's arrays and tensors: `asarray`, `numpy()`, DLPack, and moves between devices."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import plugrad as pg
from plugrad.backend import backend_of
from plugrad.errors import ArgumentError, DeviceError, DTypeError, GradientError, ShapeError
from support.oracles import assert_same, tensor

NAMES = [d.name for d in pg.dtypes.ALL]


@pytest.fixture
def dlpack(device: str) -> str:
    """The device, where it shares memory through DLPack."""
    resolved = pg.asarray(0, device=device).device
    if not backend_of(resolved).capabilities(resolved).dlpack:
        pytest.skip(f"{device} has no DLPack")
    return device


@pytest.mark.parametrize(
    ("obj", "dtype", "shape"),
    [
        (True, "bool", ()),
        (3, "int64", ()),
        (2.5, "float32", ()),
        ([1, 2], "int64", (2,)),
        ([1, 2.5], "float32", (2,)),
        ([True, 2], "int64", (2,)),
        ([[True], [False]], "bool", (2, 1)),
        ([], "float32", (0,)),
        ([[], []], "float32", (2, 0)),
        ((1, (2)), "int64", (2,)),
        (range(3), "int64", (3,)),
        (np.float64(1), "float64", ()),
        (np.int8(1), "int8", ()),
        ([np.float32(1), np.float32(2)], "float32", (2,)),
        ([np.float64(1)], "float64", (1,)),
        ([np.ones(2), np.ones(2)], "float64", (2, 2)),
        (np.ones(2, ">f4"), "float32", (2,)),
        (np.ones((2, 3))[:, ::-2], "float64", (2, 2)),
        (np.ones(2, ml_dtypes.bfloat16), "bfloat16", (2,)),
        (memoryview(b"ab"), "uint8", (2,)),
    ],
)
def test_what_dtype_follows(obj: Any, dtype: str, shape: tuple[int, ...], device: str) -> None:
    x = pg.asarray(obj, device=device)
    assert (x.dtype.name, x.shape, str(x.device)) == (dtype, shape, device)
    assert_same(x, np.asarray(obj))


@pytest.mark.parametrize("name", NAMES)
def test_every_dtype_goes_there_and_back(name: str, device: str) -> None:
    x = tensor([[0, 1], [1, 0]], name, device)
    back = x.numpy()
    assert back.dtype == pg.dtypes.as_dtype(name).numpy
    assert not back.flags.writeable
    again = pg.asarray(back, device=device)
    assert again.dtype is x.dtype
    assert_same(again, [[0, 1], [1, 0]])
    assert pg.asarray([0, 1], dtype=name, device=device).dtype is x.dtype
    assert x.tolist() == [[0, 1], [1, 0]]


def test_the_memory_of_the_host_is_copied(device: str) -> None:
    host = np.arange(3)
    x = pg.asarray(host, device=device)
    host[:] = 9
    assert x.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 1
    with pytest.raises(ArgumentError, match="asarray: copy=False, but values of the host are always copied"):
        pg.asarray(host, device=device, copy=False)


def test_asarray_of_a_tensor(device: str) -> None:
    x = pg.asarray([1.0, 2.0], device=device).requires_grad_()
    assert pg.asarray(x) is x
    assert pg.asarray(x, copy=False) is x
    own = pg.asarray(x, copy=True)
    assert own is not x
    cast = pg.asarray(x, dtype="float64")
    assert cast.dtype is pg.dtypes.float64
    (own.sum() + cast.sum()).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2]
    own += 1
    assert x.tolist() == [1, 2]
    with pytest.raises(ArgumentError, match="asarray: copy=False, but another dtype or device needs a copy"):
        pg.asarray(x, dtype="float64", copy=False)


def test_sequences_of_tensors(device: str) -> None:
    x = pg.asarray([1.0, 2.0], device=device).requires_grad_()
    y = pg.asarray([[x[0], 5], [x[1] * 2, True]])
    assert (y.dtype.name, str(y.device)) == ("float32", device)
    assert y.tolist() == [[1, 5], [4, 1]]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 2]
    assert pg.asarray([x, [3, 4]]).tolist() == [[1, 2], [3, 4]]
    n = pg.asarray(3, dtype="int8", device=device)
    assert pg.asarray([n, 4]).dtype is pg.dtypes.int8
    assert pg.asarray([n, 0.5]).dtype is pg.dtypes.float32
    assert pg.asarray([n, np.int32(4)]).dtype is pg.dtypes.int32
    assert pg.asarray([n, 4], dtype="float64").dtype is pg.dtypes.float64
    with pytest.raises(ShapeError, match="asarray: the nested sequences are ragged"):
        pg.asarray([x, n])


def test_asarray_refuses(device: str) -> None:
    with pytest.raises(ShapeError, match="asarray: the nested sequences are ragged"):
        pg.asarray([[1], [1, 2]], device=device)
    for obj in ("abc", ["1.5"], 1j, np.ones(2, complex), np.datetime64("2020"), None, [None], {}, object()):
        with pytest.raises(DTypeError):
            pg.asarray(obj, dtype="float32", device=device)
    with pytest.raises(DTypeError, match="asarray: a masked array would lose its mask; fill it first"):
        pg.asarray(np.ma.masked_array([1, 2], [True, False]), device=device)
    whole = pg.asarray([0, 2**64 - 1, 1], dtype="uint64", device=device)
    assert whole.tolist() == [0, 2**64 - 1, 1]
    for ints in (2**64, [-1, 2**63], [2**70]):
        with pytest.raises(ArgumentError, match="asarray: ints lie outside the range of 64 bits"):
            pg.asarray(ints, device=device)
    with pytest.raises(ArgumentError, match="asarray: values lie outside the range of int64"):
        pg.asarray(2**63, device=device)
    assert pg.asarray(2**63, dtype="uint64", device=device).item() == 2**63
    with pytest.raises(
        ArgumentError, match="asarray: values lie outside the range of uint8, 0 to 255: -1 to 5"
    ):
        pg.asarray([5, -1], dtype="uint8", device=device)
    with pytest.raises(ArgumentError, match=r"asarray: values lie outside the range of int64, .*: 9.2.*e.18"):
        pg.asarray(float(2**63), dtype="int64", device=device)
    for value in (math.nan, math.inf):
        with pytest.raises(ArgumentError, match="asarray: NaN and infinities have no value in int32"):
            pg.asarray([value], dtype="int32", device=device)
    assert pg.asarray([1.9, -1.9], dtype="int8", device=device).tolist() == [1, -1]
    assert pg.asarray([1e300], dtype="float32", device=device).item() == math.inf
    with pytest.raises(DTypeError, match="unknown dtype 'float31'"):
        pg.asarray(1, dtype="float31", device=device)
    with pytest.raises(DeviceError):
        pg.asarray(1, device="no-such-device")


class Exporter:
    """An object with DLPack's two methods and nothing else, over a tensor's or an array's memory."""

    def __init__(self, source: Any, options: bool) -> None:
        self.source, self.options = source, options

    def __dlpack__(self, **options: Any) -> Any:
        return self.source.__dlpack__(**options) if self.options else self.source.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.source.__dlpack_device__()
        return device


def test_dlpack_out(dlpack: str) -> None:
    x = pg.asarray([[1.0, 2.0], [3.0, 4.0]], device=dlpack)
    if x.__dlpack_device__()[0] != 1:
        pytest.skip("NumPy takes memory of the host")
    shared = np.from_dlpack(x)
    assert_same(shared, [[1, 2], [3, 4]])
    assert not shared.flags.writeable
    # A consumer of before DLPack 1.0 cannot be told that the memory is read-only, and gets its own.
    own = np.from_dlpack(Exporter(x, options=False))
    assert_same(own, [[1, 2], [3, 4]])
    if own.flags.writeable:
        own[0, 0] = 9
    assert x[0, 0].item() == 1
    with pytest.raises(ArgumentError, match=r"DLPack: copy=False, but a consumer before DLPack 1.0"):
        x.__dlpack__(copy=False)
    with pytest.raises(DTypeError, match=r"DLPack: .* exports no bfloat16; cast it with astype"):
        x.astype("bfloat16").__dlpack__()
    with pytest.raises(GradientError, match="detach"):
        x.requires_grad_().__dlpack__()


@pytest.mark.parametrize("name", [n for n in NAMES if n != "bfloat16"])
def test_dlpack_there_and_back(name: str, dlpack: str) -> None:
    x = tensor([[0, 1], [1, 0]], name, dlpack)[:, ::-1]
    y = pg.from_dlpack(x)
    assert (y.dtype, y.device) == (x.dtype, x.device)
    assert_same(y, x.numpy())
    assert_same(pg.from_dlpack(x, copy=True), x.numpy())


def test_dlpack_in(dlpack: str) -> None:
    if pg.asarray(0, device=dlpack).__dlpack_device__()[0] != 1:
        pytest.skip("NumPy gives memory of the host")
    host = np.arange(4.0)
    x = pg.from_dlpack(host[::2], device=dlpack)
    assert x.tolist() == [0, 2]
    own = pg.from_dlpack(host, device=dlpack, copy=True)
    y = pg.asarray(Exporter(host, options=True), dtype="float32", device=dlpack)
    host[:] = 7
    assert own.tolist() == [0, 1, 2, 3]
    assert (y.dtype.name, y.tolist()) == ("float32", [0, 1, 2, 3])
    x += 1
    assert host.tolist() == [7] * 4
    with pytest.raises(DTypeError, match="from_dlpack: takes an object with __dlpack__, got list"):
        pg.from_dlpack([1, 2], device=dlpack)
    with pytest.raises(DTypeError):
        pg.from_dlpack(np.ones(2, complex), device=dlpack)

    class Elsewhere(Exporter):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("not on that device")

    with pytest.raises(DeviceError, match=r"from_dlpack: .*: not on that device"):
        pg.from_dlpack(Elsewhere(host, options=True), device=dlpack)


def test_numpy_takes_no_tensor_in_silence(device: str) -> None:
    x = pg.asarray([1.0, 2.0], device=device)
    with pytest.raises(TypeError):
        np.add(x, 1)
    with pytest.raises(GradientError, match="detach"):
        np.asarray(x.requires_grad_())


def test_moves_between_devices(device: str) -> None:
    x = pg.asarray([1.0, 2.0], device=device)
    assert x.to_device(device) is x
    assert x.to(device) is x
    there = x.to("null")
    assert (str(there.device), there.shape, there.dtype) == ("null:0", (2,), x.dtype)
    with pytest.raises(DeviceError, match="the null device has no values to read"):
        there.numpy()
    with pytest.raises(DeviceError, match=r"the operands are on .*; move them to one device"):
        x + there
