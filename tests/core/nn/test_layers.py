"""Layers on the device without values: the shapes that they give, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn
from plugrad.errors import ArgumentError, PlugradError, ShapeError


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


X = (2, 4, 8, 6)
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: nn.Linear(3.0, 2), "Linear: in_features takes an int of at least 1, got 3.0"),
    (lambda: nn.Linear(True, 2), "Linear: in_features takes an int of at least 1, got True"),
    (lambda: nn.Linear(3, 2, dtype="int32"), "takes a floating dtype"),
    (lambda: nn.Conv1d(1, 1, 0), "Conv1d: kernel_size takes an int, at least 1, got 0"),
    (
        lambda: nn.Conv2d(1, 1, 3, stride=(1, 0)),
        r"Conv2d: stride takes an int or 2 of them, at least 1, got \(1, 0\)",
    ),
    (
        lambda: nn.Conv2d(1, 1, 3, dilation="2"),
        "Conv2d: dilation takes an int or 2 of them, at least 1, got '2'",
    ),
    (lambda: nn.Conv2d(4, 1, 3, padding=(1, 1, 1))(pg.zeros(X)), "conv: padding takes"),
    (lambda: nn.Conv2d(4, 1, 3, padding="some")(pg.zeros(X)), "conv: padding takes"),
    (lambda: nn.Conv2d(3, 1, 3)(pg.zeros(X)), "conv: "),
    (lambda: nn.Conv1d(4, 1, 3)(pg.zeros(X)), "conv: "),
    (
        lambda: nn.ConvTranspose2d(1, 1, 3, output_padding=-1),
        "output_padding takes an int or 2 of them, at least 0, got -1",
    ),
    (lambda: nn.MaxPool2d(0), "MaxPool2d: kernel_size takes an int or 2 of them, at least 1, got 0"),
    (lambda: nn.AvgPool3d(2, (1, 2)), "AvgPool3d: stride takes an int or 3 of them"),
    (
        lambda: nn.MaxPool1d(2)(pg.zeros(X)),
        r"MaxPool1d: takes \(N, C\) and 1 spatial axes, got shape \(2, 4, 8, 6\)",
    ),
    (lambda: nn.AdaptiveAvgPool2d((2, 0)), "AdaptiveAvgPool2d: output_size takes an int or 2 of them"),
    (
        lambda: nn.AdaptiveAvgPool2d(3)(pg.zeros(X)),
        r"has shape \(2, 4, 8, 6\); takes spatial sizes that \(3, 3\) divides",
    ),
    (lambda: nn.BatchNorm1d(0), "BatchNorm1d: num_features takes an int of at least 1"),
    (lambda: nn.BatchNorm2d(3)(pg.zeros(X)), "batch_norm: "),
    (lambda: nn.GroupNorm(3, 4), "GroupNorm: num_groups must divide num_channels, got 3 and 4"),
    (
        lambda: nn.LayerNorm(5)(pg.zeros(X)),
        r"layer_norm: normalized_shape \(5,\) for x of shape \(2, 4, 8, 6\)",
    ),
    (lambda: nn.Dropout("x"), r"Dropout: p takes a probability in \[0, 1\], got 'x'"),
    (lambda: nn.LSTM(4, 3, dropout=2.0), r"LSTM: dropout takes a probability in \[0, 1\], got 2.0"),
    (lambda: nn.GRU(4, 3, num_layers=0), "GRU: num_layers takes an int of at least 1, got 0"),
    (lambda: nn.RNN(4, 3, nonlinearity="gelu"), "RNN: nonlinearity takes 'tanh' or 'relu', got 'gelu'"),
    (lambda: nn.RNN(4, 3)(pg.zeros((0, 2, 4))), "RNN: the sequence has no steps"),
    (
        lambda: nn.LSTM(4, 3)(pg.zeros((5, 2, 4)), pg.zeros((1, 2, 3))),
        r"LSTM: states takes a pair of tensors \(hidden, cell\), got Tensor",
    ),
    (
        lambda: nn.GRU(4, 3)(pg.zeros((5, 2, 4)), (pg.zeros((1, 2, 3)),)),
        "GRU: states takes a tensor, got tuple",
    ),
    (
        lambda: nn.GRU(4, 3)(pg.zeros((5, 2, 4)), pg.zeros((2, 3))),
        r"GRU: a state takes shape \(1, 2, 3\), got \(2, 3\)",
    ),
    (lambda: nn.Embedding(5, 2, padding_idx=5), "Embedding: padding_idx 5 is out of range for 5 embeddings"),
    (lambda: nn.Embedding(5, 2)(pg.zeros((2,))), "embedding: "),
    (
        lambda: nn.MultiheadAttention(8, 2)(*[pg.zeros((5, 2, 6))] * 3),
        r"shapes \(2, 5, 6\), \(2, 5, 6\) and \(2, 5, 6\); takes \(N, L, 8\), \(N, S, 8\) and \(N, S, 8\)",
    ),
    (
        lambda: nn.MultiheadAttention(8, 2)(*[pg.zeros((5, 2, 8))] * 3, attn_mask=pg.zeros((5, 4))),
        r"attn_mask has shape \(5, 4\); takes \(5, 5\) or \(4, 5, 5\)",
    ),
    (
        lambda: nn.MultiheadAttention(8, 2)(*[pg.zeros((5, 2, 8))] * 3, key_padding_mask=pg.zeros((5, 2))),
        r"key_padding_mask has shape \(5, 2\); takes \(2, 5\)",
    ),
    (
        lambda: nn.TransformerEncoderLayer(8, 2, activation="selu"),
        "TransformerEncoderLayer: activation takes 'relu', 'gelu' or a function, got 'selu'",
    ),
    (
        lambda: nn.Flatten(2, 1)(pg.zeros(X)),
        r"Flatten: x has shape \(2, 4, 8, 6\), and no axes 2 to 1 in this order",
    ),
    (lambda: nn.Flatten()(pg.zeros((3,))), r"Flatten: x has shape \(3,\), and no axes 1 to -1"),
    (lambda: nn.Unflatten(4, (2, 2))(pg.zeros(X)), "Unflatten: axis 4 is out of range"),
    (lambda: nn.Unflatten(1, (3, -1))(pg.zeros(X)), "reshape: "),
    (lambda: nn.Softmax(axis=2)(pg.zeros((3, 4))), "softmax: axis 2 is out of range for 2 axes"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=2), "CrossEntropyLoss: label_smoothing takes a number in"),
    (lambda: nn.MSELoss()(pg.zeros((3,)), pg.zeros((3, 1, 2))), "mse_loss: "),
    (lambda: nn.init.xavier_normal(pg.zeros((3,))), "init: takes a weight of at least 2 axes"),
    (
        lambda: nn.init.kaiming_uniform(pg.zeros((3, 3)), mode="fan"),
        "init: mode takes 'fan_in' or 'fan_out', got 'fan'",
    ),
    (
        lambda: nn.init.kaiming_normal(pg.zeros((3, 3)), nonlinearity="gelu"),
        "init: nonlinearity takes .* got 'gelu'",
    ),
    (lambda: nn.init.normal(pg.zeros((3,)), std=-1), "init: std takes a number of at least 0, got -1"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(PlugradError, match=message):
        make()


def test_more_shapes_of_layers() -> None:
    x = pg.zeros(X)
    assert nn.Linear(np.int64(6), np.int32(3))(x).shape == (2, 4, 8, 3)
    assert nn.Conv2d(4, 4, 3, padding="same", groups=4)(x).shape == X
    assert nn.Conv2d(4, 4, 3, padding=[(0, 1), (2, 0)])(x).shape == (2, 4, 7, 6)
    assert nn.AvgPool2d((2, 3))(x).shape == (2, 4, 4, 2)
    assert nn.AdaptiveAvgPool2d((4, 1))(x).shape == (2, 4, 4, 1)
    assert nn.Flatten(0)(pg.zeros(())).shape == (1,)
    assert nn.Flatten(-2)(x).shape == (2, 4, 48)
    out, h = nn.RNN(6, 5, bidirectional=True)(pg.zeros((7, 6)), pg.zeros((2, 5)))
    assert (out.shape, h.shape) == ((7, 10), (2, 5))
    out, (h, c) = nn.LSTM(6, 5)(pg.zeros((7, 0, 6)))
    assert (out.shape, h.shape, c.shape) == ((7, 0, 5), (1, 0, 5), (1, 0, 5))
    attention = nn.MultiheadAttention(8, 2, kdim=3, vdim=5)
    out, weights = attention(
        pg.zeros((4, 2, 8)), pg.zeros((6, 2, 3)), pg.zeros((6, 2, 5)), average_attn_weights=False
    )
    assert (out.shape, weights.shape) == ((4, 2, 8), (2, 2, 4, 6))
    out, weights = attention(pg.zeros((4, 8)), pg.zeros((6, 3)), pg.zeros((6, 5)))
    assert (out.shape, weights.shape) == ((4, 8), (4, 6))
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert layer(pg.zeros((3, 5, 8)), is_causal=True).shape == (3, 5, 8)


def test_dtypes_of_layers() -> None:
    for layer, shape in (
        (nn.Linear(4, 3, dtype="float64"), (2, 4)),
        (nn.Conv1d(4, 3, 2, dtype="float64"), (2, 4, 5)),
        (nn.BatchNorm1d(4, dtype="float64"), (2, 4)),
        (nn.LSTM(4, 3, dtype="float64"), (5, 2, 4)),
        (nn.TransformerEncoderLayer(4, 2, 8, dtype="float64"), (5, 2, 4)),
    ):
        tensors = [*layer.parameters(), *layer.buffers()]
        assert {t.dtype.name for t in tensors if t.dtype.is_floating} == {"float64"}
        out = layer(pg.zeros(shape, dtype="float64"))
        assert (out[0] if isinstance(out, tuple) else out).dtype is pg.float64


def test_how_layers_look() -> None:
    assert repr(nn.LSTM(4, 3, num_layers=2, dropout=0.5)) == "LSTM(4, 3, num_layers=2, dropout=0.5)"
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(kernel_size=2, stride=2, padding=0)"
    assert repr(nn.Conv1d(2, 4, 3, groups=2, bias=False)) == (
        "Conv1d(2, 4, kernel_size=(3,), stride=(1,), groups=2, bias=False)"
    )
    assert repr(nn.Dropout(0.25)) == "Dropout(p=0.25)"
    assert repr(nn.ReLU()) == "ReLU()"
