"""The training steps in plugrad."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from training_cases import ADAMW, CNN_CHANNELS, GPT_HEADS, GPT_LAYERS, GPT_LENGTH, GPT_WIDTH, VOCABULARY, Case

import plugrad as pg
from plugrad import nn, optim
from plugrad.backend import backend_of, current_device


class BatchNormCNN(nn.Module):
    """Six convolutions, each with batch norm and ReLU, and a pool after each pair."""

    def __init__(self) -> None:
        super().__init__()
        for i, (a, b) in enumerate(pairwise(CNN_CHANNELS)):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, 3, padding=1))
            setattr(self, f"norm{i}", nn.BatchNorm2d(b))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(2048, 10)

    def forward(self, x: pg.Tensor) -> pg.Tensor:
        for i in range(6):
            x = pg.relu(getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(x)))
            if i % 2:
                x = self.pool(x)
        return self.head(x.reshape(x.shape[0], -1))


class Block(nn.Module):
    """A layer of the GPT."""

    def __init__(self, e: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(e), nn.LayerNorm(e)
        self.qkv, self.out = nn.Linear(e, 3 * e), nn.Linear(e, e)
        self.up, self.down = nn.Linear(e, 4 * e), nn.Linear(4 * e, e)

    def forward(self, x: pg.Tensor) -> pg.Tensor:
        n, t, e = x.shape
        parts = self.qkv(self.norm1(x)).reshape(n, t, 3, GPT_HEADS, e // GPT_HEADS)
        q, k, v = pg.unstack(pg.permute_dims(parts, (2, 0, 3, 1, 4)), axis=0)
        y = pg.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(pg.permute_dims(y, (0, 2, 1, 3)).reshape(n, t, e))
        return x + self.down(pg.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """A small language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, GPT_WIDTH)
        self.embedding_of_place = nn.Embedding(GPT_LENGTH, GPT_WIDTH)
        self.blocks = nn.Sequential(*(Block(GPT_WIDTH) for _ in range(GPT_LAYERS)))
        self.norm = nn.LayerNorm(GPT_WIDTH)
        self.head = nn.Linear(GPT_WIDTH, VOCABULARY)

    def forward(self, x: pg.Tensor) -> pg.Tensor:
        x = self.embedding(x) + self.embedding_of_place(pg.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x))).reshape(-1, VOCABULARY)


class LSTM(nn.Module):
    """A recurrent language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 64)
        self.lstm = nn.LSTM(64, 256, batch_first=True)
        self.head = nn.Linear(256, VOCABULARY)

    def forward(self, x: pg.Tensor) -> pg.Tensor:
        return self.head(self.lstm(self.embedding(x))[0]).reshape(-1, VOCABULARY)


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp-small": lambda: nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)),
    "mlp-large": lambda: nn.Sequential(
        nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    ),
    "cnn": _cnn,
    "cnn-bn": BatchNormCNN,
    "gpt": GPT,
    "lstm": LSTM,
}


def prepare(threads: int) -> None:
    """Load what is loaded late: a step of a network of one neuron. The variables of BLAS have set the threads."""
    del threads
    model = nn.Linear(1, 1)
    optimizer = optim.AdamW(model.parameters())
    model(pg.ones((1, 1))).sum().backward()
    optimizer.step()


def build(case: Case, variant: str) -> tuple[Callable[[], Any], Callable[[], int]]:
    """The step of a case, and the number of nodes of its plan; the variants are ``captured`` and ``eager``."""
    step, arguments = _activation(case) if not case.shapes else _training(case)
    if variant == "eager":
        return (lambda: step(*arguments)), (lambda: 0)
    captured = pg.jit(step)

    def nodes() -> int:
        (line,) = captured.info()
        return int(re.findall(r"(\d+) nodes", line)[-1])

    return (lambda: captured(*arguments)), nodes


def _training(case: Case) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    model, values = MODELS[case.name](), case.parameters()
    named = dict(model.named_parameters())
    assert named.keys() == values.keys(), set(named) ^ set(values)
    with pg.no_grad():
        for name, p in named.items():
            p.assign(pg.asarray(values[name]))
    optimizer = optim.AdamW(model.parameters(), **ADAMW)

    def step(x: pg.Tensor, target: pg.Tensor) -> pg.Tensor:
        optimizer.zero_grad()
        loss = pg.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        return loss

    x, target = case.example()
    return step, (pg.asarray(x), pg.asarray(target.reshape(-1)))


def _activation(case: Case) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    x, ct = (pg.asarray(a) for a in case.example())
    x.requires_grad_()

    def step(ct: pg.Tensor) -> tuple[pg.Tensor, pg.Tensor]:
        x.grad = None
        y = pg.gelu(x, approximate="tanh")
        y.backward(ct)
        assert x.grad is not None
        return y.detach(), x.grad

    return step, (ct,)


def read(result: Any) -> list[Any]:
    """The results as NumPy arrays."""
    return [r.numpy() for r in (result if isinstance(result, tuple) else (result,))]


def wait(result: Any) -> None:
    """Return when the device is idle."""
    first = result[0] if isinstance(result, tuple) else result
    backend_of(first.device).synchronize(first.device)


def describe() -> str:
    """The version, and what makes matrix products."""
    return f"{pg.__version__}, {backend_of(current_device()).devices()[0].description}"
