"""Layers by value: files, modes, running statistics, and formulas that no op has by itself."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn
from plugrad.errors import CheckpointError


def network(device: str) -> nn.Sequential:
    pg.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, device=device),
        nn.BatchNorm2d(4, device=device),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 2 * 2, 3, device=device),
    )


def images(device: str) -> pg.Tensor:
    return pg.asarray(np.random.default_rng(0).standard_normal((5, 1, 4, 4)).astype("float32"), device=device)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_a_file_holds_every_bit(dtype: str, device: str, tmp_path: Path) -> None:
    net = network(device).to(dtype)
    net(images(device).astype(dtype))
    nn.save(net, tmp_path / "net.safetensors")
    other = network(device).to(dtype)
    other.load_state_dict(nn.load(tmp_path / "net.safetensors", device))
    for (key, a), (_, b) in zip(net.state_dict().items(), other.state_dict().items(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=key)
        assert a.dtype is b.dtype


def test_a_file_is_written_whole_or_not_at_all(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    nn.save(network(device), path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises((OSError, CheckpointError), match="no space left"):
        nn.save(network(device), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_every_cut_of_a_file_is_refused(device: str, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    nn.save(nn.Linear(2, 1, device=device), path)
    content = path.read_bytes()
    for cut in range(0, len(content), 7):
        path.write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match="net.safetensors"):
            nn.load(path)


def test_copies_are_independent(device: str) -> None:
    net = network(device)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(other(images(device)).numpy(), net(images(device)).numpy())
        with pg.no_grad():
            other[0].weight.assign(other[0].weight * 0)
        assert np.abs(net[0].weight.numpy()).max() > 0


def test_batch_norm_moves_its_statistics_in_training_alone(device: str) -> None:
    norm = nn.BatchNorm2d(1, momentum=0.5, device=device)
    x = images(device)
    norm(x)
    host = x.numpy()
    np.testing.assert_allclose(norm.running_mean.numpy(), [0.5 * host.mean()], rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), [0.5 + 0.5 * host.var(ddof=1)], rtol=1e-5)
    before = norm.running_mean.numpy().copy()
    norm.eval()
    y = norm(x)
    np.testing.assert_array_equal(norm.running_mean.numpy(), before)
    wanted = (host - before) / np.sqrt(norm.running_var.numpy() + 1e-5)
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-4, atol=1e-5)
    assert int(norm.num_batches_tracked) == 1


def test_batch_norm_without_momentum_keeps_the_average_eager_and_captured(device: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 2)).astype("float32")
    for jitted in (lambda f: f, pg.jit):
        norm = nn.BatchNorm1d(2, momentum=None, device=device)
        call = jitted(norm)
        for batch in x:
            call(pg.asarray(batch, device=device))
        np.testing.assert_allclose(
            norm.running_mean.numpy(), x.mean(axis=1).mean(axis=0), rtol=1e-5, atol=1e-7
        )
        np.testing.assert_allclose(norm.running_var.numpy(), x.var(axis=1, ddof=1).mean(axis=0), rtol=1e-5)
        assert int(norm.num_batches_tracked) == 3


def test_batch_norm_that_fails_counts_nothing(device: str) -> None:
    norm = nn.BatchNorm1d(3, device=device)
    with pytest.raises(pg.PlugradError, match="batch_norm"):
        norm(pg.ones((1, 3), device=device))
    assert int(norm.num_batches_tracked) == 0
    np.testing.assert_array_equal(norm.running_var.numpy(), np.ones(3))


def test_dropout_between_recurrent_layers_and_on_attention_weights(device: str) -> None:
    pg.manual_seed(0)
    x = pg.asarray(np.random.default_rng(0).standard_normal((5, 2, 8)).astype("float32"), device=device)
    one, two = (nn.GRU(8, 8, num_layers=n, dropout=0.5, device=device) for n in (1, 2))
    attention = nn.MultiheadAttention(8, 2, dropout=0.5, device=device)
    for layer, arguments, drops in (
        (one, (x,), False),
        (two, (x,), True),
        (attention, (x, x, x, None, False), True),
        (nn.TransformerEncoderLayer(8, 2, 16, device=device), (x,), True),
    ):

        def run(layer: nn.Module = layer, arguments: tuple[object, ...] = arguments) -> np.ndarray:
            out = layer(*arguments)
            return (out[0] if isinstance(out, tuple) else out).numpy()

        assert (run() != run()).any() == drops
        layer.eval()
        np.testing.assert_array_equal(run(), run())


def test_dropout_drops_in_training_alone_and_is_seeded(device: str) -> None:
    layer = nn.Dropout(0.25)
    x = pg.ones((400, 50), device=device)
    pg.manual_seed(3)
    first = layer(x).numpy()
    second = layer(x).numpy()
    pg.manual_seed(3)
    np.testing.assert_array_equal(layer(x).numpy(), first)
    assert (first != second).any()
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((first == 0).mean() - 0.25) < 0.01
    leaf = pg.ones((40,), device=device).requires_grad_()
    y = layer(leaf)
    y.sum().backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), y.numpy())
    layer.eval()
    assert layer(x) is x


def test_an_lstm_is_its_cell_step_by_step(device: str) -> None:
    pg.manual_seed(0)
    layer = nn.LSTM(3, 4, device=device)
    x = pg.asarray(np.random.default_rng(0).standard_normal((6, 2, 3)).astype("float32"), device=device)
    out, (h_last, c_last) = layer(x)
    h = c = pg.zeros((2, 4), device=device)
    weights = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0]
    for t in range(6):
        h, c = pg.lstm_cell(x[t], h, c, *weights)
        np.testing.assert_allclose(out[t].numpy(), h.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(h_last[0].numpy(), h.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(c_last[0].numpy(), c.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_recurrent_gradients_agree_with_finite_differences(kind: str, device: str) -> None:
    layer = getattr(nn, kind)(2, 3, num_layers=2, bidirectional=True, device=device).to("float64")
    x = pg.asarray(np.random.default_rng(0).standard_normal((4, 2, 2)), device=device)
    pg.gradcheck(lambda v: layer(v)[0], (x,))


def test_attention_is_causal(device: str) -> None:
    pg.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True, device=device)
    x = np.random.default_rng(0).standard_normal((1, 5, 8)).astype("float32")
    changed = x.copy()
    changed[:, 3:] += 1
    for need_weights in (True, False):
        a, b = (
            layer(*[pg.asarray(v, device=device)] * 3, need_weights=need_weights, is_causal=True)[0].numpy()
            for v in (x, changed)
        )
        np.testing.assert_allclose(a[:, :3], b[:, :3], rtol=1e-5, atol=1e-6)
        assert np.abs(a[:, 3:] - b[:, 3:]).max() > 1e-3
