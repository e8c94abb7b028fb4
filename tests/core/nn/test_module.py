"""Modules: what they are made of, their state, and what they refuse; on the device without values."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

import plugrad as pg
from plugrad import nn
from plugrad.errors import ArgumentError, CheckpointError, ShapeError


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


def test_containers() -> None:
    a, b = nn.Linear(2, 2), nn.ReLU()
    sequence = nn.Sequential(a, b)
    assert sequence[0] is a
    assert sequence[-1] is b
    assert len(sequence) == 2
    assert list(sequence) == [a, b]
    with pytest.raises(IndexError, match="there is no module 2, it has 2"):
        sequence[2]
    named = nn.Sequential({"first": a, "second": b})
    assert "first.weight" in named.state_dict()
    modules = nn.ModuleList([a, nn.Linear(2, 3)])
    assert list(modules.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    table = nn.ModuleDict({"a": a})
    table["b"] = nn.Linear(1, 1)
    assert table.keys() == ["a", "b"]
    assert "b" in table
    with pytest.raises(ArgumentError, match="Sequential: takes modules, argument 1 is function"):
        nn.Sequential(a, lambda x: x)  # type: ignore[arg-type]


def test_a_state_dict_that_does_not_fit_changes_nothing() -> None:
    net = Net()
    state = dict(net.state_dict())
    before = net.hidden.weight._array
    state["hidden.bias"] = pg.zeros((7,))
    del state["out.weight"]
    state["extra"] = pg.zeros((1,))
    with pytest.raises(CheckpointError) as error:
        net.load_state_dict(state)
    for part in ("hidden.bias", "(7,)", "(3,)", "out.weight", "extra"):
        assert part in str(error.value)
    assert net.hidden.weight._array is before
    report = net.load_state_dict({"hidden.weight": pg.zeros((3, 4))}, strict=False)
    assert "hidden.bias" in report.missing


def test_layers_refuse_what_they_cannot_be() -> None:
    with pytest.raises(ArgumentError, match="Linear: out_features takes an int of at least 1, got 0"):
        nn.Linear(3, 0)
    with pytest.raises(
        ArgumentError, match="groups must divide in_channels and out_channels, got 2, 3 and 4"
    ):
        nn.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ArgumentError, match=r"Conv2d: kernel_size takes an int .*got \(3, 3, 3\)"):
        nn.Conv2d(3, 4, (3, 3, 3))
    with pytest.raises(ArgumentError, match=r"Dropout: p takes a probability in \[0, 1\], got 1.5"):
        nn.Dropout(1.5)
    with pytest.raises(ArgumentError, match="num_heads must divide embed_dim, got 3 and 8"):
        nn.MultiheadAttention(8, 3)
    with pytest.raises(ArgumentError, match="reduction takes 'mean', 'sum' or 'none', got 'avg'"):
        nn.MSELoss("avg")
    with pytest.raises(ShapeError, match=r"BatchNorm2d: takes 4 axes .* got shape \(2, 3\)"):
        nn.BatchNorm2d(3)(pg.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"LSTM: takes \(T, N, 4\)"):
        nn.LSTM(4, 3)(pg.zeros((5, 2, 5)))
    with pytest.raises(ShapeError, match=r"linear"):
        nn.Linear(4, 3)(pg.zeros((2, 5)))


def test_shapes_of_layers() -> None:
    x = pg.zeros((2, 4, 8, 6))
    assert nn.Conv2d(4, 6, 3, padding=1, stride=2)(x).shape == (2, 6, 4, 3)
    assert nn.ConvTranspose2d(4, 6, 3, stride=2)(x).shape == (2, 6, 17, 13)
    assert nn.MaxPool2d(2)(x).shape == (2, 4, 4, 3)
    assert nn.AdaptiveAvgPool2d(2)(x).shape == (2, 4, 2, 2)
    assert nn.Flatten()(x).shape == (2, 4 * 8 * 6)
    assert nn.Flatten(2)(x).shape == (2, 4, 48)
    assert nn.Unflatten(1, (2, -1))(x).shape == (2, 2, 2, 8, 6)
    out, (h, c) = nn.LSTM(6, 5, num_layers=2, bidirectional=True)(pg.zeros((7, 3, 6)))
    assert (out.shape, h.shape, c.shape) == ((7, 3, 10), (4, 3, 5), (4, 3, 5))
    out, h = nn.GRU(6, 5, batch_first=True)(pg.zeros((3, 7, 6)))
    assert (out.shape, h.shape) == ((3, 7, 5), (1, 3, 5))
    out, weights = nn.MultiheadAttention(8, 2, batch_first=True)(*[pg.zeros((2, 5, 8))] * 3)
    assert (out.shape, weights.shape) == ((2, 5, 8), (2, 5, 5))
    assert nn.Embedding(10, 3)(pg.zeros((2, 4), dtype="int64")).shape == (2, 4, 3)


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
