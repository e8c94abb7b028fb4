"""From a call to its signature, and what a signature settles."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

import plugrad as pg
from plugrad.dispatch import call
from plugrad.dispatch.call import attribute_key
from plugrad.dispatch.modes import changed
from plugrad.dispatch.op import Kind, op
from plugrad.dispatch.record import Node
from plugrad.errors import ArgumentError, DeviceError, DTypeError, ShapeError, UnsupportedOp
from plugrad.ops._rules import like
from plugrad.spec import Device, Spec


def tensor(*shape: int, dtype: str = "float32") -> pg.Tensor:
    return pg.zeros(shape, dtype=dtype)


def test_equal_specs_and_devices_are_the_same_object() -> None:
    a, b = tensor(2, 3), tensor(2, 3)
    assert a.spec is b.spec
    assert a.spec is not tensor(3, 2).spec
    assert pickle.loads(pickle.dumps(a.spec)) is a.spec
    assert Device("null") is a.device
    assert pickle.loads(pickle.dumps(pg.add)) is pg.add


def test_specs_that_nobody_holds_are_forgotten() -> None:
    before = len(Spec._known)
    for n in range(1000, 1100):
        Spec((n, 7), pg.float64, Device("null"))
    import gc

    gc.collect()
    assert len(Spec._known) < before + 100


@pytest.mark.parametrize(
    ("a", "b"),
    [(1, True), (0.0, -0.0), (1, 1.0), ((1,), (True,)), ("1", 1), (slice(1), slice(True)), (None, 0)],
)
def test_attributes_that_differ_have_different_keys(a: object, b: object) -> None:
    assert attribute_key(a) != attribute_key(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (float("nan"), float("nan")),
        ([1, 2], (1, 2)),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        ((1, [2, "x"]), (1, (2, "x"))),
    ],
)
def test_attributes_that_mean_the_same_have_one_key(a: object, b: object) -> None:
    assert attribute_key(a) == attribute_key(b)
    assert hash(attribute_key(a)) == hash(attribute_key(b))


def test_a_tensor_or_array_is_no_attribute() -> None:
    with pytest.raises(ArgumentError, match=r"static attribute.*item"):
        pg.sum(tensor(2), axis=tensor())
    with pytest.raises(ArgumentError, match="NumPy array stands where a static attribute"):
        pg.reshape(tensor(2), np.array([2]))


def test_a_signature_is_settled_once() -> None:
    x = tensor(4, 5)
    pg.tanh(x)
    before = dict(pg.tanh.cache)
    pg.tanh(tensor(4, 5))
    assert pg.tanh.cache == before
    pg.tanh(tensor(5, 4))
    assert len(pg.tanh.cache) == len(before) + 1


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "CACHE_SIZE", 8)
    pg.tanh.cache.clear()
    for n in range(30):
        pg.tanh(tensor(n + 1))
    assert len(pg.tanh.cache) == 8
    pg.tanh(tensor(1))


def test_modes_are_part_of_a_signature_and_of_a_thread() -> None:
    leaf = tensor(3).requires_grad_()
    with changed(recording=False):
        assert not pg.tanh(leaf).requires_grad
        seen = []
        thread = threading.Thread(target=lambda: seen.append(pg.tanh(leaf).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]
    assert pg.tanh(leaf).requires_grad


def test_promotion_and_weak_scalars() -> None:
    assert (tensor(2) + tensor(2, dtype="float64")).dtype is pg.float64
    assert (tensor(2, dtype="int8") + tensor(2, dtype="uint8")).dtype is pg.int16
    assert (tensor(2, dtype="int32") + tensor(2, dtype="float16")).dtype is pg.float16
    assert (tensor(2, dtype="bfloat16") + tensor(2, dtype="float16")).dtype is pg.float32
    assert (tensor(2, dtype="bfloat16") + 1.5).dtype is pg.bfloat16
    assert (tensor(2, dtype="int8") + 1).dtype is pg.int8
    assert (tensor(2, dtype="int8") + 1.0).dtype is pg.float32
    assert (2.0 - tensor(2, dtype="float16")).dtype is pg.float16
    with pytest.raises(DTypeError, match=r"add: uint64 and int8 do not promote.*astype"):
        tensor(2, dtype="uint64") + tensor(2, dtype="int8")


def test_an_int_outside_an_integer_dtype_is_refused_at_every_call() -> None:
    x = tensor(2, dtype="uint8")
    for _ in range(2):
        assert (x + 200).dtype is pg.uint8
        with pytest.raises(ArgumentError, match=r"add: 300 is outside the range of uint8, 0 to 255"):
            x + 300


def test_operands_that_are_no_tensors_are_refused_by_name() -> None:
    with pytest.raises(DTypeError, match=r"tanh: x takes a tensor, got float.*asarray"):
        pg.tanh(1.5)  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match=r"add: x2 takes a tensor or a Python number, got ndarray.*asarray"):
        tensor(2) + np.zeros(2)  # type: ignore[operator]
    with pytest.raises(DTypeError, match=r"concat: arrays takes a sequence of tensors, got Tensor"):
        pg.concat(tensor(2))  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="at least one operand must be a tensor"):
        pg.add(1, 2)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        pg.tanh()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        pg.sum(tensor(2), axes=0)  # type: ignore[call-arg]


def test_shapes_are_checked_before_any_kernel() -> None:
    with pytest.raises(ShapeError, match=r"add: shapes \(2,\) and \(3,\) do not broadcast"):
        tensor(2) + tensor(3)
    with pytest.raises(ShapeError, match=r"sum: axis 2 is out of range for 2 axes"):
        pg.sum(tensor(2, 3), axis=2)
    with pytest.raises(DTypeError, match=r"tanh: x is int32; takes float16, .*astype"):
        pg.tanh(tensor(2, dtype="int32"))


def test_an_error_leaves_nothing_behind() -> None:
    before = dict(pg.add.cache)
    with pytest.raises(ShapeError):
        tensor(2, 5, 3) + tensor(4)
    assert pg.add.cache == before


def test_the_record_keeps_arrays_and_no_tensors() -> None:
    leaf = tensor(3).requires_grad_()
    out = leaf * tensor(3)
    node = out._node
    assert isinstance(node, Node)
    assert node.name == "multiply"
    assert node.parents == (leaf._node, None)
    assert node.saved is not None
    assert not any(isinstance(s, pg.Tensor) for s in node.saved)


def test_only_what_the_rules_need_is_saved() -> None:
    leaf = tensor(3).requires_grad_()
    assert (leaf + tensor(3))._node.saved == ()
    assert len((leaf * tensor(3))._node.saved) == 1
    assert len((leaf * leaf)._node.saved) == 2


def test_the_device_of_a_creation_is_the_current_one_at_each_call() -> None:
    first = pg.zeros((2,))
    assert first.device is Device("null")
    with pytest.raises(DeviceError, match=r"'nowhere'"):
        pg.zeros((2,), device="nowhere")
    assert pg.zeros((2,)).device is Device("null")


def test_a_plugin_states_an_op_by_the_same_door() -> None:
    @op(kind=Kind.ELEMENTWISE, infer=like("x"), namespace="dispatch_test")
    def twice(x: pg.Tensor) -> pg.Tensor:
        """Two times ``x``."""
        return x + x

    assert twice.name == "dispatch_test.twice"
    assert twice(tensor(2)).shape == (2,)
    assert twice.transparent

    @twice.defvjp()
    def _(ct: pg.Tensor) -> tuple[pg.Tensor]:
        return (ct + ct,)

    assert twice.vjp.name == "dispatch_test.twice.vjp"
    assert twice.vjp.owner is twice
    with pytest.raises(ValueError, match="stated already"):
        op(namespace="dispatch_test")(twice.__wrapped__)  # type: ignore[attr-defined]


def test_a_data_dependent_shape_needs_values() -> None:
    @op(primitive=True, data_dependent=True, differentiable=False, infer=like("x"), namespace="dispatch_test")
    def some(x: pg.Tensor) -> pg.Tensor:
        """Some of ``x``."""

    with pytest.raises(
        UnsupportedOp, match=r"dispatch_test.some: device null:0 has no kernel.*\.to\(device\)"
    ):
        some(tensor(2))


def test_a_result_of_integers_needs_no_gradient() -> None:
    x = pg.ones((3,), device="null").requires_grad_()
    assert x.astype("float64").requires_grad
    assert not x.astype("int32").requires_grad
    assert not pg.astype(x, "bool").requires_grad
