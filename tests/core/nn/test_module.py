"""Modules: what they are made of, their state, and what they refuse; on the device without values."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn
from plugrad.errors import ArgumentError, CheckpointError, DeviceError, DTypeError, GradientError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.out = nn.Linear(3, 2, bias=False)
        self.register_buffer("scale", pg.ones((2,)))

    def forward(self, x: pg.Tensor) -> pg.Tensor:
        return self.out(pg.relu(self.norm(self.hidden(x)))) * self.scale


NAMES = ["hidden.weight", "hidden.bias", "norm.weight", "norm.bias", "out.weight"]
BUFFERS = ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "scale"]


def test_parameters_and_buffers_have_their_names() -> None:
    net = Net()
    assert [n for n, _ in net.named_parameters()] == NAMES
    assert sorted(n for n, _ in net.named_buffers()) == sorted(BUFFERS)
    assert sorted(net.state_dict()) == sorted(NAMES + BUFFERS)
    assert [type(m).__name__ for m in net.children()] == ["Linear", "BatchNorm1d", "Linear"]
    assert net.num_parameters() == 4 * 3 + 3 + 3 + 3 + 3 * 2
    assert net(pg.zeros((5, 4))).shape == (5, 2)


def test_train_and_eval_reach_every_module() -> None:
    net = Net()
    net.eval()
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())


def test_gradients_arrive_at_parameters() -> None:
    net = Net()
    net(pg.zeros((5, 4))).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_value_and_grad_of_a_module() -> None:
    net = Net()
    loss, grads = pg.value_and_grad(lambda m: m(pg.zeros((5, 4))).sum())(net)
    assert loss.shape == ()
    assert sorted(grads) == sorted(NAMES)


def test_assignment_decides_what_is_a_parameter() -> None:
    class Kinds(nn.Module):
        def __init__(self) -> None:
            self.leaf = pg.ones((2,)).requires_grad_()
            self.plain = pg.ones((2,))
            self.made = self.leaf * 2
            self.wrapped = nn.Parameter(pg.ones((3,)))
            self.register_parameter("frozen", pg.ones((4,)))
            self.register_parameter("absent", None)
            self.register_buffer("kept", pg.ones((5,)))
            self.register_buffer("passing", pg.ones((6,)), persistent=False)
            self.module = None
            self.register_module("later", None)

    module = Kinds()
    assert [n for n, _ in module.named_parameters()] == ["leaf", "wrapped", "frozen"]
    assert [n for n, _ in module.named_buffers()] == ["kept", "passing"]
    assert list(module.state_dict()) == ["leaf", "wrapped", "frozen", "kept"]
    assert list(module.children()) == []
    module.absent = nn.Parameter(pg.ones(()))
    module.later = nn.ReLU()
    module.kept = pg.zeros((5,))
    module.leaf = None
    assert [n for n, _ in module.named_parameters()] == ["wrapped", "frozen", "absent"]
    assert [n for n, _ in module.named_children()] == ["later"]
    assert module.kept is dict(module.named_buffers())["kept"]
    del module.wrapped
    assert "wrapped" not in module.state_dict()
    module.wrapped = 3
    assert module.num_parameters() == 4 + 1
    assert module.num_parameters(trainable=True) == 1


def test_assignment_refuses_what_would_be_lost() -> None:
    net = Net()
    x = pg.ones((3, 4))
    refused: list[tuple[str, object, str]] = [
        ("hidden", abs, "'hidden' is a module, takes a module or None, got builtin_function_or_method"),
        ("scale", 3.0, "'scale' is a buffer, takes a tensor or None, got float"),
        ("layers", [nn.ReLU()], "modules and parameters in a list under 'layers' would not be trained"),
        ("layers", {"a": nn.ReLU()}, "in a dict under 'layers'"),
        ("both", (1, nn.Parameter(x)), "in a tuple under 'both'"),
        ("train", nn.ReLU(), "the module 'train' needs another name: 'train' is an attribute of the class"),
        ("forward", nn.ReLU(), "'forward' is an attribute of the class"),
        ("training", nn.ReLU(), "'training' is an attribute of the class"),
        ("itself", net, "has this module inside: its names would have no end"),
        ("around", nn.Sequential(nn.ReLU(), nn.Sequential(net)), "has this module inside"),
    ]
    for name, value, message in refused:
        with pytest.raises(ArgumentError, match=message):
            setattr(net, name, value)
    with pytest.raises(
        ArgumentError, match=r"'weight' is a parameter, takes a leaf .* nn.Parameter\(tensor\)"
    ):
        net.hidden.weight = x
    for name in ("", "a.b", 3):
        with pytest.raises(ArgumentError, match="needs another name: one that is not empty and has no dot"):
            net.register_buffer(name, x)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="register_module: takes a module, got Tensor"):
        net.register_module("a", x)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="register_parameter: takes a tensor, got list"):
        net.register_parameter("a", [x])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="register_buffer: takes a tensor, got int"):
        net.register_buffer("a", 1)  # type: ignore[arg-type]
    with pytest.raises(GradientError, match="register_parameter: an op made 'a'"):
        net.register_parameter("a", nn.Parameter(x) * 2)
    with pytest.raises(ArgumentError, match="Parameter: takes a tensor, got ndarray; wrap it in asarray"):
        nn.Parameter(np.ones(2))  # type: ignore[arg-type]
    assert [n for n, _ in net.named_parameters()] == NAMES
    assert sorted(n for n, _ in net.named_children()) == ["hidden", "norm", "out"]


def test_a_dataclass_is_a_module() -> None:
    @dataclasses.dataclass(eq=False, repr=False)
    class Scale(nn.Module):
        layer: nn.Linear
        factor: float = 2.0

        def forward(self, x: pg.Tensor) -> pg.Tensor:
            return self.layer(x) * self.factor

    scale = Scale(nn.Linear(2, 3))
    assert list(scale.state_dict()) == ["layer.weight", "layer.bias"]
    assert scale(pg.zeros((1, 2))).shape == (1, 3)


def test_names_below_and_modules_by_name() -> None:
    net = nn.Sequential(Net(), nn.ModuleDict({"inner": Net()}))
    names = [n for n, _ in net.named_modules()]
    assert names[:3] == ["", "0", "0.hidden"]
    assert "1.inner.out" in names
    assert net.get_submodule("1.inner.out") is net[1]["inner"].out
    assert net.get_submodule("") is net
    with pytest.raises(ArgumentError, match=r"get_submodule: Sequential has no module '0.hidden.weight'"):
        net.get_submodule("0.hidden.weight")
    assert [n for n, _ in net.named_parameters("model", recurse=False)] == []
    assert next(net.named_parameters("model"))[0] == "model.0.hidden.weight"
    assert list(net.state_dict("model")) == [f"model.{n}" for n in net.state_dict()]
    seen: list[str] = []
    assert net[0].apply(lambda m: seen.append(type(m).__name__)) is net[0]
    assert seen == ["Linear", "BatchNorm1d", "Linear", "Net"]


def test_parameters_are_frozen_and_thawed() -> None:
    net = Net()
    net.hidden.requires_grad_(False)
    net(pg.zeros((5, 4))).sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == ["hidden.weight", "hidden.bias"]
    _, grads = pg.value_and_grad(lambda m: m(pg.zeros((5, 4))).sum())(net)
    assert list(grads) == ["norm.weight", "norm.bias", "out.weight"]
    net.zero_grad()
    net.requires_grad_()
    assert net.num_parameters(trainable=True) == net.num_parameters()


def test_shared_parameters_are_one() -> None:
    net = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3, bias=False)})
    net["b"].weight = net["a"].weight
    assert [n for n, _ in net.named_parameters()] == ["a.weight", "a.bias"]
    assert [n for n, _ in net.named_parameters(remove_duplicate=False)] == ["a.weight", "a.bias", "b.weight"]
    assert list(net.state_dict()) == ["a.weight", "a.bias", "b.weight"]
    copied = copy.deepcopy(net)
    assert copied["a"].weight is copied["b"].weight
    state = net.state_dict()
    del state["b.weight"]
    assert net.load_state_dict(state).missing == []
    net.to("float64")
    assert net["a"].weight is net["b"].weight
    assert net["b"].weight.dtype is pg.float64


def test_a_module_goes_where_it_can_or_stays_as_it_was() -> None:
    net = Net()
    assert net.to() is net
    assert net.to("null", "bfloat16").out.weight.dtype is pg.bfloat16
    assert net.to(dtype=pg.float32, device="null").out.weight.dtype is pg.float32
    net(pg.zeros((5, 4))).sum().backward()
    net.to("float64")
    assert all(p.grad.dtype is pg.float64 for p in net.parameters())
    for target, error, message in (
        ("int32", DTypeError, "Net.to: takes a floating dtype, got int32"),
        ("float63", DeviceError, "float63"),
        (3, DTypeError, "unknown dtype 3"),
    ):
        with pytest.raises(error, match=message):
            net.to(target)
    assert {t.dtype.name for t in net.parameters()} == {"float64"}


def test_a_module_is_moved_in_place() -> None:
    net = Net()
    weight = net.hidden.weight
    net.to("float64")
    assert net.hidden.weight is weight
    assert weight.dtype is pg.float64
    assert net.norm.num_batches_tracked.dtype is pg.int64
    assert weight.requires_grad
    assert weight.is_leaf


def test_copies_and_sharing() -> None:
    net = Net()
    other = copy.deepcopy(net)
    assert other.hidden.weight is not net.hidden.weight
    assert [n for n, _ in other.named_parameters()] == NAMES
    net.out2 = net.out
    assert [n for n, _ in net.named_parameters()] == NAMES


def test_the_repr_shows_the_tree() -> None:
    text = repr(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Sequential(nn.Linear(4, 2))))
    assert "(0): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding=1)" in text
    assert "  (2): Sequential(\n    (0): Linear(4, 2, bias=True)\n  )" in text


def test_a_state_dict_that_does_not_fit_is_described() -> None:
    net = Net()
    state = dict(net.state_dict())
    state["hidden.bias"] = pg.zeros((7,))
    del state["out.weight"]
    state["extra"] = pg.zeros((1,))
    with pytest.raises(CheckpointError) as error:
        net.load_state_dict(state)
    for part in ("hidden.bias", "(7,)", "(3,)", "out.weight", "extra"):
        assert part in str(error.value)
    assert net.norm.num_batches_tracked.dtype is pg.int64
    with pytest.raises(CheckpointError, match="norm.num_batches_tracked: is float32, takes int64"):
        net.load_state_dict({**net.state_dict(), "norm.num_batches_tracked": pg.zeros(())})
    with pytest.raises(CheckpointError, match="takes tensors by name, got str; nn.load reads a file"):
        net.load_state_dict("net.safetensors")  # type: ignore[arg-type]
    report = net.load_state_dict({"hidden.weight": pg.zeros((3, 4)), "other": pg.zeros(())}, strict=False)
    assert "hidden.bias" in report.missing
    assert report.unexpected == ["other"]
    assert net.hidden.weight.requires_grad


def test_a_state_dict_is_the_state_of_its_moment() -> None:
    net = Net()
    state = net.state_dict()
    assert not any(t.requires_grad for t in state.values())
    with pg.no_grad():
        net.out.weight.assign(pg.ones((2, 3)))
    assert state["out.weight"] is not net.out.weight
    assert state["hidden.weight"].spec is net.hidden.weight.spec
    net.load_state_dict(
        {k: t.astype("float64") for k, t in state.items() if t.dtype.is_floating}, strict=False
    )
    assert net.out.weight.dtype is pg.float32


def test_a_module_without_forward_says_so() -> None:
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no forward"):
        Empty()(1)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none.safetensors cannot be read"):
        nn.load(tmp_path / "none.safetensors")
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"no safetensors at all")
    with pytest.raises(CheckpointError, match=r"model.safetensors is no safetensors file"):
        nn.load(path)
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(CheckpointError, match="is a zip archive, as torch.save writes it"):
        nn.load(path)
    with pytest.raises(ArgumentError, match="save: takes a module or tensors by name, got int"):
        nn.save(3, path)  # type: ignore[arg-type]
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="model.safetensors is no safetensors file"):
        nn.load(path)
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        nn.load(tmp_path)
    name = str(tmp_path / "absent" / "model.safetensors")
    with pytest.raises(CheckpointError, match="absent/model.safetensors cannot be written: No such file"):
        nn.save({}, name)
    header = b'{"x":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    with pytest.raises(CheckpointError, match="the tensor 'x' is F8_E4M3; takes BOOL, I8"):
        nn.load(path)
