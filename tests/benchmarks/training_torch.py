"""The training steps in PyTorch, eager."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from training_cases import ADAMW, CNN_CHANNELS, GPT_HEADS, GPT_LAYERS, GPT_LENGTH, GPT_WIDTH, VOCABULARY, Case


class BatchNormCNN(nn.Module):
    """Six convolutions, each with batch norm and ReLU, and a pool after each pair."""

    def __init__(self) -> None:
        super().__init__()
        for i, (a, b) in enumerate(pairwise(CNN_CHANNELS)):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, 3, padding=1))
            setattr(self, f"norm{i}", nn.BatchNorm2d(b))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(2048, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i in range(6):
            x = F.relu(getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(x)))
            if i % 2:
                x = self.pool(x)
        return self.head(x.flatten(1))


class Block(nn.Module):
    """A layer of the GPT."""

    def __init__(self, e: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(e), nn.LayerNorm(e)
        self.qkv, self.out = nn.Linear(e, 3 * e), nn.Linear(e, e)
        self.up, self.down = nn.Linear(e, 4 * e), nn.Linear(4 * e, e)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, e = x.shape
        parts = self.qkv(self.norm1(x)).view(n, t, 3, GPT_HEADS, e // GPT_HEADS)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, e))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """A small language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, GPT_WIDTH)
        self.embedding_of_place = nn.Embedding(GPT_LENGTH, GPT_WIDTH)
        self.blocks = nn.Sequential(*(Block(GPT_WIDTH) for _ in range(GPT_LAYERS)))
        self.norm = nn.LayerNorm(GPT_WIDTH)
        self.head = nn.Linear(GPT_WIDTH, VOCABULARY)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x) + self.embedding_of_place(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x))).view(-1, VOCABULARY)


class LSTM(nn.Module):
    """A recurrent language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 64)
        self.lstm = nn.LSTM(64, 256, batch_first=True)
        self.head = nn.Linear(256, VOCABULARY)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
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
    """Set the threads, and load what is loaded late: a step of a network of one neuron."""
    torch.set_num_threads(threads)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()


def build(case: Case, variant: str) -> tuple[Callable[[], Any], Callable[[], int]]:
    """The step of a case; the variants are ``default``, ``fused`` (AdamW) and ``channels_last``, with fused AdamW."""
    if not case.shapes:
        return _activation(case), lambda: 0
    model, values = MODELS[case.name](), case.parameters()
    x, target = case.example()
    inputs, labels = torch.tensor(x), torch.tensor(target.reshape(-1))
    with torch.no_grad():
        named = dict(model.named_parameters())
        assert named.keys() == values.keys(), set(named) ^ set(values)
        for name, p in named.items():
            p.copy_(torch.from_numpy(values[name]))
    if variant == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        inputs = inputs.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW, fused=None if variant == "default" else True)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, lambda: 0


def _activation(case: Case) -> Callable[[], Any]:
    x, ct = (torch.tensor(a) for a in case.example())
    x.requires_grad_()

    def step() -> tuple[torch.Tensor, torch.Tensor | None]:
        x.grad = None
        y = F.gelu(x, approximate="tanh")
        y.backward(ct)
        return y.detach(), x.grad

    return step


def read(result: Any) -> list[Any]:
    """The results as NumPy arrays."""
    return [r.detach().numpy() for r in (result if isinstance(result, tuple) else (result,))]


def wait(result: Any) -> None:
    """Return when the result is there: it is."""


def describe() -> str:
    """The version."""
    return torch.__version__
