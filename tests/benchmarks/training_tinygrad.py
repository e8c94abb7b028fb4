"""The training steps in tinygrad, on the device that its variable ``DEV`` names: OpenCL, if none is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from typing import Any

os.environ.setdefault("DEV", "CL")

# The variable comes before the import, which reads it.
from tinygrad import Context, Device, Tensor, TinyJit
from tinygrad.nn.optim import AdamW
from training_cases import ADAMW, CNN_CHANNELS, GPT_HEADS, GPT_LAYERS, Case

Parameters = dict[str, Tensor]
Forward = Callable[[Parameters, Tensor], Tensor]

CASES = ("mlp-small", "mlp-large", "cnn", "cnn-bn", "gpt")
"""The steps there are. It has no layer for a whole sequence: an LSTM of 64 places is a graph that it compiles for minutes."""


def _linear(p: Parameters, name: str, x: Tensor) -> Tensor:
    return x.linear(p[f"{name}.weight"].transpose(), p[f"{name}.bias"])


def _conv(p: Parameters, name: str, x: Tensor) -> Tensor:
    return x.conv2d(p[f"{name}.weight"], p[f"{name}.bias"], padding=1)


def _layer_norm(p: Parameters, name: str, x: Tensor) -> Tensor:
    return x.layernorm() * p[f"{name}.weight"] + p[f"{name}.bias"]


def _batch_norm(p: Parameters, name: str, x: Tensor) -> Tensor:
    # The running means, which no result of the step depends on, are left out: that is in its favour.
    mean = x.mean((0, 2, 3))
    variance = (x - mean.reshape(1, -1, 1, 1)).square().mean((0, 2, 3))
    return x.batchnorm(p[f"{name}.weight"], p[f"{name}.bias"], mean, (variance + 1e-5).rsqrt())


def _perceptron(layers: int) -> Forward:
    def forward(p: Parameters, x: Tensor) -> Tensor:
        for i in range(layers):
            x = _linear(p, str(2 * i), x)
            if i < layers - 1:
                x = x.relu()
        return x

    return forward


def _cnn(p: Parameters, x: Tensor) -> Tensor:
    x = _conv(p, "0", x).relu().max_pool2d()
    x = _conv(p, "3", x).relu().max_pool2d()
    return _linear(p, "9", _linear(p, "7", x.flatten(1)).relu())


def _batch_norm_cnn(p: Parameters, x: Tensor) -> Tensor:
    for i, _ in enumerate(pairwise(CNN_CHANNELS)):
        x = _batch_norm(p, f"norm{i}", _conv(p, f"conv{i}", x)).relu()
        if i % 2:
            x = x.max_pool2d()
    return _linear(p, "head", x.flatten(1))


def _gpt(p: Parameters, x: Tensor) -> Tensor:
    places = Tensor.arange(x.shape[1])
    x = p["embedding.weight"][x] + p["embedding_of_place.weight"][places]
    for i in range(GPT_LAYERS):
        block = f"blocks.{i}"
        n, t, e = x.shape
        parts = _linear(p, f"{block}.qkv", _layer_norm(p, f"{block}.norm1", x))
        q, k, v = parts.reshape(n, t, 3, GPT_HEADS, e // GPT_HEADS).permute(2, 0, 3, 1, 4).chunk(3)
        y = q[0].scaled_dot_product_attention(k[0], v[0], is_causal=True)
        x = x + _linear(p, f"{block}.out", y.transpose(1, 2).reshape(n, t, e))
        hidden = _linear(p, f"{block}.up", _layer_norm(p, f"{block}.norm2", x)).gelu()
        x = x + _linear(p, f"{block}.down", hidden)
    return _linear(p, "head", _layer_norm(p, "norm", x)).flatten(0, 1)


FORWARD: dict[str, Forward] = {
    "mlp-small": _perceptron(2),
    "mlp-large": _perceptron(3),
    "cnn": _cnn,
    "cnn-bn": _batch_norm_cnn,
    "gpt": _gpt,
}


def prepare(threads: int) -> None:
    """Load what is loaded late. The variables of the OpenCL driver have set the threads."""
    del threads
    (Tensor.ones(2, 2).contiguous() + 1).realize()


def build(case: Case, variant: str) -> tuple[Callable[[], Any], Callable[[], int]]:
    """The step of a case, captured by `TinyJit`."""
    del variant
    values: Parameters = {name: Tensor(value).realize() for name, value in case.parameters().items()}
    optimizer = AdamW(
        list(values.values()),
        lr=ADAMW["lr"],
        b1=ADAMW["betas"][0],
        b2=ADAMW["betas"][1],
        eps=ADAMW["eps"],
        weight_decay=ADAMW["weight_decay"],
    )
    x, target = case.example()
    inputs, labels = Tensor(x).realize(), Tensor(target.reshape(-1)).realize()
    forward = FORWARD[case.name]

    @TinyJit
    @Context(TRAINING=1)
    def step(inputs: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = forward(values, inputs).sparse_categorical_crossentropy(labels)
        loss.backward()
        return loss.realize(*optimizer.schedule_step())

    return (lambda: step(inputs, labels)), lambda: 0


def read(result: Tensor) -> list[Any]:
    """The loss as a NumPy array."""
    return [result.numpy()]


def wait(result: Tensor) -> None:
    """Return when the device is idle."""
    del result
    Device[Device.DEFAULT].synchronize()


def describe() -> str:
    """The version."""
    return version("tinygrad")
