"""Layers and losses against PyTorch's, with its parameters: forward, and the gradients of input and parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import plugrad as pg
from plugrad import nn
from plugrad.errors import CheckpointError

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
    ("ConvTranspose3d", (2, 4, (2, 3, 2)), {"stride": (1, 2, 2), "bias": False}, (2, 2, 3, 2, 3)),
    ("MaxPool1d", (2,), {}, (2, 3, 8)),
    ("MaxPool2d", ((2, 3), (1, 2), (0, 1), (2, 1)), {}, (2, 3, 7, 8)),
    ("MaxPool3d", (2,), {"padding": 1}, (1, 2, 4, 3, 5)),
    ("AvgPool1d", (3, 2, 1, True), {}, (2, 3, 8)),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1}, (2, 3, 7, 8)),
    ("MaxPool2d", (2,), {"ceil_mode": True}, (2, 3, 5, 5)),
    ("AvgPool2d", (2,), {}, (2, 3, 6, 8)),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, (2, 3, 7, 7)),
    ("AvgPool3d", (2,), {}, (1, 2, 4, 4, 4)),
    ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 4, 6)),
    ("AdaptiveAvgPool2d", ((2, 3),), {}, (2, 3, 4, 6)),
    ("BatchNorm1d", (4,), {}, (6, 4)),
    ("BatchNorm1d", (4, 1e-3, 0.2), {}, (6, 4, 3)),
    ("BatchNorm2d", (4,), {"momentum": 0.3, "eps": 1e-3}, (3, 4, 5, 2)),
    ("BatchNorm2d", (4,), {"affine": False, "momentum": None}, (3, 4, 5, 2)),
    ("BatchNorm3d", (2,), {"track_running_stats": False}, (2, 2, 3, 2, 2)),
    ("LayerNorm", (5,), {}, (3, 5)),
    ("LayerNorm", ((4, 5),), {"bias": False}, (3, 4, 5)),
    ("RMSNorm", (5,), {}, (3, 5)),
    ("RMSNorm", ((4, 5), 1e-3, False), {}, (3, 4, 5)),
    ("GroupNorm", (2, 6), {}, (3, 6, 4)),
    ("GroupNorm", (6, 6, 1e-2, False), {}, (3, 6, 4, 2)),
    ("ReLU", (), {}, (3, 4)),
    ("LeakyReLU", (0.2,), {}, (3, 4)),
    ("ELU", (0.7,), {}, (3, 4)),
    ("GELU", (), {}, (3, 4)),
    ("GELU", (), {"approximate": "tanh"}, (3, 4)),
    ("SiLU", (), {}, (3, 4)),
    ("Sigmoid", (), {}, (3, 4)),
    ("Tanh", (), {}, (3, 4)),
    ("Softplus", (2.0, 3.0), {}, (3, 4)),
    ("Softmax", (1,), {}, (3, 4, 2)),
    ("LogSoftmax", (0,), {}, (3, 4)),
    ("Identity", (), {}, (3, 4)),
    ("Flatten", (), {}, (3, 4, 2)),
    ("Flatten", (0, 1), {}, (3, 4, 2)),
    ("Unflatten", (1, (2, 2)), {}, (3, 4, 2)),
    ("RNN", (4, 3), {}, (5, 4)),
    ("RNN", (4, 3), {"nonlinearity": "relu"}, (5, 2, 4)),
    ("RNN", (4, 3), {"num_layers": 2, "bidirectional": True}, (5, 2, 4)),
    ("LSTM", (4, 3), {}, (5, 2, 4)),
    ("LSTM", (4, 3), {"num_layers": 2, "batch_first": True, "bidirectional": True}, (2, 5, 4)),
    ("LSTM", (4, 3), {"bias": False}, (5, 4)),
    ("GRU", (4, 3), {"num_layers": 2}, (5, 2, 4)),
    ("GRU", (4, 3), {"bias": False}, (5, 2, 4)),
    ("GRU", (4, 3), {"bidirectional": True, "batch_first": True}, (2, 5, 4)),
    ("TransformerEncoderLayer", (8, 2, 12, 0.0), {}, (5, 3, 8)),
    (
        "TransformerEncoderLayer",
        (8, 2, 12, 0.0, "gelu"),
        {"batch_first": True, "norm_first": True},
        (3, 5, 8),
    ),
    ("TransformerEncoderLayer", (8, 4, 12, 0.0), {"bias": False, "layer_norm_eps": 1e-3}, (5, 8)),
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


def agree(
    ours: nn.Module,
    theirs: torch.nn.Module,
    arrays: list[np.ndarray],
    call: Any,
    tolerance: float = 1e-10,
) -> None:
    """Compare what ``call(layer, inputs, as_tensor)`` gives, and the gradients of the inputs and the parameters."""
    a = [pg.asarray(x).requires_grad_() for x in arrays]
    b = [torch.tensor(x, requires_grad=True) for x in arrays]
    outs = [o for o in flat(call(ours, a, pg.asarray)) if o is not None]
    wanted = [o for o in flat(call(theirs, b, torch.tensor)) if o is not None]
    assert len(outs) == len(wanted)
    rng = np.random.default_rng(3)
    cts = [rng.standard_normal(tuple(o.shape)) for o in wanted]
    sum((o * pg.asarray(c)).sum() for o, c in zip(outs, cts, strict=True)).backward()
    sum((o * torch.tensor(c)).sum() for o, c in zip(wanted, cts, strict=True)).backward()
    close = {"rtol": tolerance, "atol": tolerance}
    for o, w in zip(outs, wanted, strict=True):
        np.testing.assert_allclose(o.numpy(), w.detach().numpy(), **close)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), **close)
    grads = dict(ours.named_parameters())
    for key, p in theirs.named_parameters():
        np.testing.assert_allclose(grads[key].grad.numpy(), p.grad.numpy(), **close, err_msg=key)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("masked", ["none", "bool", "float", "heads", "padding", "both", "floats", "mixed"])
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
def test_multihead_attention(masked: str, need_weights: bool, batch_first: bool) -> None:
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=batch_first).to(torch.float64)
    ours = nn.MultiheadAttention(8, 2, batch_first=batch_first).to("float64")
    load(ours, theirs)
    rng = np.random.default_rng(1)
    qkv = [rng.standard_normal((3, n, 8) if batch_first else (n, 3, 8)) for n in (4, 5, 5)]
    options: dict[str, Any] = {}
    if masked in ("bool", "both"):
        options["attn_mask"] = np.triu(np.ones((4, 5), bool), 2)
    if masked in ("float", "floats", "mixed"):
        options["attn_mask"] = rng.standard_normal((4, 5))
    if masked == "heads":
        options["attn_mask"] = rng.standard_normal((6, 4, 5)) > 1
        options["attn_mask"][..., 0] = False
    if masked in ("padding", "both", "mixed"):
        options["key_padding_mask"] = np.array([[False] * 4 + [True]] * 3)
    if masked == "floats":
        options["key_padding_mask"] = rng.standard_normal((3, 5))

    def call(layer: Any, inputs: Any, as_tensor: Any) -> Any:
        masks = {name: as_tensor(m) for name, m in options.items()}
        return layer(*inputs, need_weights=need_weights, average_attn_weights=masked != "heads", **masks)

    agree(ours, theirs, qkv, call)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("widths", [(3, 5), (8, 5), (8, 8)])
@pytest.mark.parametrize("batched", [False, True])
def test_multihead_attention_with_other_keys_and_values(widths: Any, bias: bool, batched: bool) -> None:
    options = {"kdim": widths[0], "vdim": widths[1], "bias": bias}
    theirs = torch.nn.MultiheadAttention(8, 4, **options).to(torch.float64)
    ours = nn.MultiheadAttention(8, 4, **options).to("float64")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    load(ours, theirs)
    rng = np.random.default_rng(1)
    batch = (3,) if batched else ()
    arrays = [rng.standard_normal((n, *batch, w)) for n, w in ((4, 8), (5, widths[0]), (5, widths[1]))]
    agree(ours, theirs, arrays, lambda layer, inputs, _: layer(*inputs))


@pytest.mark.parametrize("need_weights", [False, True])
def test_self_attention_that_is_causal(need_weights: bool) -> None:
    theirs = torch.nn.MultiheadAttention(8, 2).to(torch.float64)
    ours = nn.MultiheadAttention(8, 2).to("float64")
    load(ours, theirs)
    x = np.random.default_rng(1).standard_normal((5, 3, 8))

    def call(layer: Any, inputs: Any, as_tensor: Any) -> Any:
        mask = {} if layer is ours else {"attn_mask": torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)}
        return layer(*inputs * 3, need_weights=need_weights, is_causal=True, **mask)

    agree(ours, theirs, [x], call)


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_layer_with_masks(norm_first: bool) -> None:
    options = {"dropout": 0.0, "norm_first": norm_first}
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 12, **options).to(torch.float64)
    ours = nn.TransformerEncoderLayer(8, 2, 12, **options).to("float64")
    load(ours, theirs)
    x = np.random.default_rng(1).standard_normal((5, 3, 8))
    mask = np.triu(np.ones((5, 5), bool), 1)
    padding = np.array([[False] * 5, [False] * 4 + [True], [False] * 3 + [True] * 2])
    agree(ours, theirs, [x], lambda layer, i, t: layer(i[0], t(mask), t(padding)))


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("batched", [False, True])
def test_recurrent_states(name: str, batched: bool) -> None:
    options = {"num_layers": 2, "bidirectional": True}
    theirs = getattr(torch.nn, name)(4, 3, **options).to(torch.float64)
    ours = getattr(nn, name)(4, 3, **options).to("float64")
    load(ours, theirs)
    rng = np.random.default_rng(1)
    batch = (2,) if batched else ()
    arrays = [rng.standard_normal((5, *batch, 4))]
    arrays += [rng.standard_normal((4, *batch, 3)) for _ in range(2 if name == "LSTM" else 1)]
    agree(
        ours,
        theirs,
        arrays,
        lambda layer, i, _: layer(i[0], tuple(i[1:]) if name == "LSTM" else i[1]),
    )


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


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 2e-6)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "options", "shape", "target"), LOSSES, ids=lambda v: str(v)[:40])
def test_loss(
    name: str, options: Any, shape: Any, target: Any, reduction: str, dtype: str, tolerance: float
) -> None:
    rng = np.random.default_rng(2)
    x = (2 * rng.standard_normal(shape)).astype(dtype)
    if isinstance(target, str):
        draw = {"like": rng.standard_normal, "unit": rng.random, "simplex": rng.random}[target]
        target = draw(shape)
        target = target / target.sum(1, keepdims=True) if name == "CrossEntropyLoss" else target
    if target.dtype.kind == "f":
        target = target.astype(dtype)
    arrays = {k: v.astype(dtype) for k, v in options.items() if isinstance(v, np.ndarray)}
    plain = {k: v for k, v in options.items() if k not in arrays}
    ours = getattr(nn, name)(reduction=reduction, **plain, **{k: pg.asarray(v) for k, v in arrays.items()})
    theirs = getattr(torch.nn, name)(
        reduction=reduction, **plain, **{k: torch.tensor(v) for k, v in arrays.items()}
    )
    a, b = pg.asarray(x).requires_grad_(), torch.tensor(x, requires_grad=True)
    got, wanted = ours(a, pg.asarray(target)), theirs(b, torch.tensor(target))
    np.testing.assert_allclose(got.numpy(), wanted.detach().numpy(), rtol=tolerance, atol=tolerance)
    got.sum().backward()
    wanted.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Linear", (300, 200)),
        ("Conv1d", (30, 40, 5)),
        ("Conv2d", (30, 40, 5)),
        ("Conv3d", (10, 20, 5)),
        ("ConvTranspose1d", (30, 40, 5)),
        ("ConvTranspose2d", (30, 40, 5)),
        ("ConvTranspose3d", (10, 20, 5)),
        ("BatchNorm1d", (50,)),
        ("LayerNorm", (50,)),
        ("RMSNorm", (50,)),
        ("GroupNorm", (5, 50)),
        ("RNN", (50, 60)),
        ("LSTM", (50, 60)),
        ("GRU", (50, 60)),
        ("Embedding", (300, 50)),
        ("MultiheadAttention", (80, 4)),
        ("TransformerEncoderLayer", (80, 4, 100)),
    ],
)
def test_initialisation_is_of_the_same_distribution(name: str, args: Any) -> None:
    pg.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    for (key, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert key == other
        a, b = a.numpy(), b.detach().numpy()
        assert a.shape == b.shape
        if not b.std():
            np.testing.assert_array_equal(a, b, err_msg=key)
        elif a.size <= 2000:
            assert np.abs(a).max() < 1.2 * np.abs(b).max(), key
            assert 0.8 * b.std() < a.std() < 1.25 * b.std(), key
        else:
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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_pytorch_loads_our_file(dtype: str, tmp_path: Any) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    ours = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.GRU(3, 2)).to(dtype)
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.GRU(3, 2))
    theirs.to(getattr(torch, dtype))
    nn.save(ours, tmp_path / "model.safetensors")
    theirs.load_state_dict(safetensors.load_file(tmp_path / "model.safetensors"))
    for key, value in theirs.state_dict().items():
        mine = ours.state_dict()[key]
        assert str(value.dtype) == f"torch.{mine.dtype}"
        np.testing.assert_array_equal(value.double().numpy(), mine.astype("float64").numpy(), err_msg=key)


def test_a_state_dict_of_pytorch_loads() -> None:
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    ours = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    ours.load_state_dict(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key].numpy(), value.numpy(), err_msg=key)
    with pytest.raises(CheckpointError, match="0.weight: .*BFloat16"):
        ours.load_state_dict(theirs.to(torch.bfloat16).state_dict())
