"""Layers and losses against PyTorch's, with its parameters: forward, and the gradients of input and parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import plugrad as pg
from plugrad import nn

RNG = np.random.default_rng(0)
LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Linear", (4, 3), {}, (5, 4)),
    ("Linear", (4, 3), {"bias": False}, (2, 5, 4)),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 9)),
    ("Conv2d", (4, 6, 3), {"padding": 1}, (2, 4, 6, 7)),
    ("Conv2d", (4, 6, (3, 2)), {"stride": (2, 1), "dilation": 2, "bias": False}, (2, 4, 8, 7)),
    ("Conv2d", (4, 8, 3), {"groups": 4, "padding": "same"}, (2, 4, 6, 5)),
    ("Conv3d", (2, 3, 2), {"padding": 1}, (1, 2, 3, 4, 3)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2}, (2, 4, 5)),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1}, (2, 4, 4, 5)),
    ("ConvTranspose2d", (4, 6, 3), {"groups": 2, "dilation": 2}, (2, 4, 4, 5)),
    ("MaxPool1d", (2,), {}, (2, 3, 8)),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1}, (2, 3, 7, 8)),
    ("MaxPool2d", (2,), {"ceil_mode": True}, (2, 3, 5, 5)),
    ("AvgPool2d", (2,), {}, (2, 3, 6, 8)),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, (2, 3, 7, 7)),
    ("AvgPool3d", (2,), {}, (1, 2, 4, 4, 4)),
    ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 4, 6)),
    ("BatchNorm1d", (4,), {}, (6, 4)),
    ("BatchNorm2d", (4,), {"momentum": 0.3, "eps": 1e-3}, (3, 4, 5, 2)),
    ("BatchNorm2d", (4,), {"affine": False, "momentum": None}, (3, 4, 5, 2)),
    ("BatchNorm3d", (2,), {"track_running_stats": False}, (2, 2, 3, 2, 2)),
    ("LayerNorm", (5,), {}, (3, 5)),
    ("LayerNorm", ((4, 5),), {"bias": False}, (3, 4, 5)),
    ("RMSNorm", (5,), {}, (3, 5)),
    ("GroupNorm", (2, 6), {}, (3, 6, 4)),
    ("ReLU", (), {}, (3, 4)),
    ("LeakyReLU", (0.2,), {}, (3, 4)),
    ("ELU", (0.7,), {}, (3, 4)),
    ("GELU", (), {}, (3, 4)),
    ("GELU", (), {"approximate": "tanh"}, (3, 4)),
    ("SiLU", (), {}, (3, 4)),
    ("Sigmoid", (), {}, (3, 4)),
    ("Tanh", (), {}, (3, 4)),
    ("Softplus", (2.0, 3.0), {}, (3, 4)),
    ("Flatten", (), {}, (3, 4, 2)),
    ("RNN", (4, 3), {"nonlinearity": "relu"}, (5, 2, 4)),
    ("RNN", (4, 3), {"num_layers": 2, "bidirectional": True}, (5, 2, 4)),
    ("LSTM", (4, 3), {}, (5, 2, 4)),
    ("LSTM", (4, 3), {"num_layers": 2, "batch_first": True, "bidirectional": True}, (2, 5, 4)),
    ("LSTM", (4, 3), {"bias": False}, (5, 4)),
    ("GRU", (4, 3), {"num_layers": 2}, (5, 2, 4)),
    ("GRU", (4, 3), {"bidirectional": True, "batch_first": True}, (2, 5, 4)),
]


def flat(value: Any) -> list[Any]:
    return [v for x in value for v in flat(x)] if isinstance(value, (tuple, list)) else [value]


def load(ours: nn.Module, theirs: torch.nn.Module) -> None:
    ours.load_state_dict({k: pg.asarray(v.detach().numpy()) for k, v in theirs.state_dict().items()})


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 3e-4)])
@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS, ids=lambda v: str(v))
def test_layer(name: str, args: Any, options: Any, shape: Any, dtype: str, tolerance: float) -> None:
    theirs = getattr(torch.nn, name)(*args, **options).to(getattr(torch, dtype))
    ours = getattr(nn, name)(*args, **options).to(dtype)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    load(ours, theirs)
    x = RNG.standard_normal(shape).astype(dtype)
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        a, b = pg.asarray(x).requires_grad_(), torch.tensor(x, requires_grad=True)
        outs, wanted = flat(ours(a)), flat(theirs(b))
        cts = [RNG.standard_normal(tuple(o.shape)).astype(dtype) for o in wanted]
        sum((o * pg.asarray(c)).sum() for o, c in zip(outs, cts, strict=True)).backward()
        sum((o * torch.tensor(c)).sum() for o, c in zip(wanted, cts, strict=True)).backward()
        for o, w in zip(outs, wanted, strict=True):
            np.testing.assert_allclose(o.numpy(), w.detach().numpy(), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=tolerance, atol=tolerance)
        grads = dict(ours.named_parameters())
        for key, parameter in theirs.named_parameters():
            np.testing.assert_allclose(
                grads[key].grad.numpy(), parameter.grad.numpy(), rtol=tolerance, atol=tolerance, err_msg=key
            )
        for key, buffer in theirs.named_buffers():
            np.testing.assert_allclose(
                ours.state_dict()[key].numpy(), buffer.numpy(), rtol=tolerance, atol=tolerance, err_msg=key
            )
        ours.zero_grad()
        theirs.zero_grad()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("masked", ["none", "bool", "float", "padding", "both"])
def test_multihead_attention(masked: str, need_weights: bool, batch_first: bool) -> None:
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=batch_first).to(torch.float64)
    ours = nn.MultiheadAttention(8, 2, batch_first=batch_first).to("float64")
    load(ours, theirs)
    rng = np.random.default_rng(1)
    q, k, v = (rng.standard_normal((3, n, 8) if batch_first else (n, 3, 8)) for n in (4, 5, 5))
    options: dict[str, Any] = {}
    if masked in ("bool", "both"):
        options["attn_mask"] = np.triu(np.ones((4, 5), bool), 2)
    if masked == "float":
        options["attn_mask"] = rng.standard_normal((4, 5))
    if masked in ("padding", "both"):
        options["key_padding_mask"] = np.array([[False] * 4 + [True]] * 3)
    out, weights = ours(
        *map(pg.asarray, (q, k, v)),
        need_weights=need_weights,
        **{name: pg.asarray(m) for name, m in options.items()},
    )
    wanted, wanted_weights = theirs(
        *map(torch.tensor, (q, k, v)),
        need_weights=need_weights,
        **{name: torch.tensor(m) for name, m in options.items()},
    )
    np.testing.assert_allclose(out.numpy(), wanted.detach().numpy(), rtol=1e-10, atol=1e-12)
    assert (weights is None) == (wanted_weights is None)
    if weights is not None:
        np.testing.assert_allclose(weights.numpy(), wanted_weights.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_embedding() -> None:
    theirs = torch.nn.Embedding(6, 3, padding_idx=2)
    ours = nn.Embedding(6, 3, padding_idx=2)
    load(ours, theirs)
    x = np.array([[0, 2, 5], [5, 1, 2]])
    ours(pg.asarray(x)).sum().backward()
    theirs(torch.tensor(x)).sum().backward()
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy())


LABELS = np.array([0, 3, -100, 4])
LOSSES: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("MSELoss", {}, (4, 3), "like"),
    ("L1Loss", {}, (4, 3), "like"),
    ("HuberLoss", {"delta": 0.5}, (4, 3), "like"),
    ("BCEWithLogitsLoss", {}, (4, 3), "unit"),
    ("BCEWithLogitsLoss", {"pos_weight": np.array([0.5, 2.0, 3.0])}, (4, 3), "unit"),
    ("CrossEntropyLoss", {}, (4, 5), LABELS),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, (4, 5), LABELS),
    ("CrossEntropyLoss", {"weight": np.array([1.0, 2.0, 0.5, 1.5, 3.0])}, (4, 5), LABELS),
    (
        "CrossEntropyLoss",
        {"weight": np.array([1.0, 2.0, 0.5, 1.5, 3.0]), "label_smoothing": 0.2},
        (4, 5),
        LABELS,
    ),
    ("CrossEntropyLoss", {"ignore_index": 1}, (2, 5, 3), np.array([[0, 1, 2], [4, 4, 1]])),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, (4, 5), "simplex"),
    ("CrossEntropyLoss", {"weight": np.array([1.0, 2.0, 0.5, 1.5, 3.0])}, (4, 5), "simplex"),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "options", "shape", "target"), LOSSES, ids=lambda v: str(v)[:40])
def test_loss(name: str, options: Any, shape: Any, target: Any, reduction: str) -> None:
    rng = np.random.default_rng(2)
    x = 2 * rng.standard_normal(shape)
    if isinstance(target, str):
        draw = {"like": rng.standard_normal, "unit": rng.random, "simplex": rng.random}[target]
        target = draw(shape)
        target = target / target.sum(1, keepdims=True) if name == "CrossEntropyLoss" else target
    arrays = {k: v for k, v in options.items() if isinstance(v, np.ndarray)}
    plain = {k: v for k, v in options.items() if k not in arrays}
    ours = getattr(nn, name)(reduction=reduction, **plain, **{k: pg.asarray(v) for k, v in arrays.items()})
    theirs = getattr(torch.nn, name)(
        reduction=reduction, **plain, **{k: torch.tensor(v) for k, v in arrays.items()}
    )
    a, b = pg.asarray(x).requires_grad_(), torch.tensor(x, requires_grad=True)
    got, wanted = ours(a, pg.asarray(target)), theirs(b, torch.tensor(target))
    np.testing.assert_allclose(got.numpy(), wanted.detach().numpy(), rtol=1e-10)
    got.sum().backward()
    wanted.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "args"),
    [("Linear", (300, 200)), ("Conv2d", (30, 40, 5)), ("LSTM", (50, 60)), ("Embedding", (300, 50))],
)
def test_initialisation_is_of_the_same_distribution(name: str, args: Any) -> None:
    pg.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    for (key, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert key == other
        a, b = a.numpy(), b.detach().numpy()
        if a.size > 2000:
            assert a.std() == pytest.approx(b.std(), rel=0.03), key
            assert abs(a.mean()) < 4 * b.std() / np.sqrt(a.size), key
            assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.2), key


def test_a_safetensors_file_of_pytorch_loads(tmp_path: Any) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).to(
        torch.bfloat16
    )
    safetensors.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    ours = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).to("bfloat16")
    ours.load_state_dict(nn.load(tmp_path / "model.safetensors"))
    x = RNG.standard_normal((5, 4)).astype("float32")
    np.testing.assert_allclose(
        ours(pg.asarray(x).astype("bfloat16")).numpy().astype("float32"),
        theirs(torch.tensor(x).to(torch.bfloat16)).detach().to(torch.float32).numpy(),
        rtol=3e-2,
        atol=3e-2,
    )
