"""The training steps that are measured: what each computes, its parameters and data, and what it costs at least."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

ADAMW = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}
"""The settings of the optimizer, the same for all."""

Array = np.ndarray
Shapes = dict[str, tuple[int, ...]]

GPT_LAYERS, GPT_WIDTH, GPT_HEADS, GPT_LENGTH, VOCABULARY = 4, 128, 4, 64, 96


@dataclass(frozen=True)
class Case:
    """A training step.

    Attributes:
        name: what it is called on the command line.
        title: what it is.
        floor: at least so many times as fast as PyTorch.
        shapes: of the parameters, by the names that the modules give them.
        data: the input and the target.
        products: multiplications and additions in matrix products and convolutions, forward and backward.
        kept: elements of what the backward needs of the forward, parameters and input apart.
    """

    name: str
    title: str
    floor: float
    shapes: Shapes
    data: Callable[[np.random.Generator], tuple[Array, Array]]
    products: int
    kept: int

    def parameters(self) -> dict[str, Array]:
        """The first values of the parameters, float32; uniform within 1 / sqrt(the elements that enter a result)."""
        generator = np.random.default_rng(1)
        found: dict[str, Array] = {}
        bound = 1.0
        for name, shape in self.shapes.items():
            if "norm" in name:
                value = np.full(shape, float(name.endswith("weight")))
            elif "embedding" in name:
                value = generator.normal(0, 0.02, shape)
            else:
                if len(shape) > 1:
                    bound = 1 / math.sqrt(math.prod(shape[1:]))
                value = generator.uniform(-bound, bound, shape)
            found[name] = value.astype(np.float32)
        return found

    def example(self) -> tuple[Array, Array]:
        """The input and the target; every step has the same."""
        return self.data(np.random.default_rng(2))

    def traffic(self) -> int:
        """Bytes that a step reads and writes at least.

        Values and gradients of the parameters and the two moments of AdamW are read and written, what the backward
        needs is written and read, and the input is read. The activation alone reads its input twice and the
        cotangent once, and writes the result and the gradient.
        """
        if not self.shapes:
            return 5 * 4 * self.kept
        parameters = sum(math.prod(s) for s in self.shapes.values())
        return 4 * (8 * parameters + 2 * self.kept) + self.example()[0].nbytes


def _labelled(shape: tuple[int, ...], classes: int) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    """Normal inputs, and a class for each."""
    return lambda g: (g.standard_normal(shape, dtype=np.float32), g.integers(0, classes, shape[0]))


def _text(batch: int, length: int) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    """Tokens, and the tokens that follow them."""

    def made(g: np.random.Generator) -> tuple[Array, Array]:
        tokens = g.integers(0, VOCABULARY, (batch, length + 1))
        return tokens[:, :-1].copy(), tokens[:, 1:].copy()

    return made


def _activation(g: np.random.Generator) -> tuple[Array, Array]:
    return tuple(g.standard_normal(1 << 24, dtype=np.float32) for _ in range(2))  # type: ignore[return-value]


def _layer(name: str, *weight: int) -> Shapes:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _layers(layers: Iterable[Shapes]) -> Shapes:
    return {name: shape for layer in layers for name, shape in layer.items()}


def _cost(first: int, *products: int) -> int:
    """Operations of products of so many multiplications in the forward: two more in the backward, one for the first."""
    return 2 * (2 * first + 3 * sum(products))


def _perceptron(name: str, sizes: tuple[int, ...], batch: int, floor: float) -> Case:
    pairs = list(pairwise(sizes))
    return Case(
        name,
        f"MLP {'-'.join(map(str, sizes))}, batch {batch}",
        floor,
        _layers(_layer(str(2 * i), b, a) for i, (a, b) in enumerate(pairs)),
        _labelled((batch, sizes[0]), sizes[-1]),
        _cost(*(batch * a * b for a, b in pairs)),
        batch * sum(sizes[1:]),
    )


def _cnn() -> Case:
    layers = (
        _layer("0", 32, 1, 3, 3),
        _layer("3", 64, 32, 3, 3),
        _layer("7", 128, 3136),
        _layer("9", 10, 128),
    )
    n = 64
    return Case(
        "cnn",
        "CNN 1-32-64, 3136-128-10 on 28x28, batch 64",
        1.2,
        _layers(layers),
        _labelled((n, 1, 28, 28), 10),
        _cost(n * 784 * 9 * 32, n * 196 * 288 * 64, n * 3136 * 128, n * 128 * 10),
        n * (784 * 32 + 196 * 32 + 196 * 64 + 3136 + 128 + 10),
    )


CNN_CHANNELS = (3, 32, 32, 64, 64, 128, 128)
"""Of the six-layer CNN; the image is halved after each pair of layers."""


def _batch_norm_cnn() -> Case:
    n, side, shapes, products, kept = 32, 32, {}, [], 0
    for i, (a, b) in enumerate(pairwise(CNN_CHANNELS)):
        shapes |= _layer(f"conv{i}", b, a, 3, 3) | _layer(f"norm{i}", b)
        products.append(n * side * side * 9 * a * b)
        # What the normalisation takes, and what the next layer takes.
        kept += 2 * n * side * side * b
        if i % 2:
            side //= 2
            kept += n * side * side * b
    shapes |= _layer("head", 10, 128 * side * side)
    products.append(n * 128 * side * side * 10)
    return Case(
        "cnn-bn",
        "six-layer CNN with batch norm on 32x32x3, batch 32",
        1.2,
        shapes,
        _labelled((n, 3, 32, 32), 10),
        _cost(*products),
        kept,
    )


def _gpt() -> Case:
    e, rows = GPT_WIDTH, 16 * GPT_LENGTH
    shapes: Shapes = {"embedding.weight": (VOCABULARY, e), "embedding_of_place.weight": (GPT_LENGTH, e)}
    for i in range(GPT_LAYERS):
        block = f"blocks.{i}"
        shapes |= (
            _layer(f"{block}.norm1", e) | _layer(f"{block}.qkv", 3 * e, e) | _layer(f"{block}.out", e, e)
        )
        shapes |= (
            _layer(f"{block}.norm2", e) | _layer(f"{block}.up", 4 * e, e) | _layer(f"{block}.down", e, 4 * e)
        )
    shapes |= _layer("norm", e) | _layer("head", VOCABULARY, e)
    # Scores and their product with the values, of the places that a place may see.
    attention = rows * (GPT_LENGTH + 1) // 2 * e * 2
    block_products = [rows * 12 * e * e, attention]
    return Case(
        "gpt",
        "GPT, 4 layers, d 128, 4 heads, 16x64 tokens",
        1.3,
        shapes,
        _text(16, GPT_LENGTH),
        _cost(0, *block_products * GPT_LAYERS, rows * e * VOCABULARY),
        # Of a block: what each normalisation takes and gives, queries, keys and values, what was attended to,
        # and what the activation takes and gives.
        rows * (GPT_LAYERS * e * (4 + 3 + 1 + 8) + 2 * e + VOCABULARY),
    )


def _lstm() -> Case:
    rows, inputs, hidden = 32 * 64, 64, 256
    shapes: Shapes = {
        "embedding.weight": (VOCABULARY, inputs),
        "lstm.weight_ih_l0": (4 * hidden, inputs),
        "lstm.weight_hh_l0": (4 * hidden, hidden),
        "lstm.bias_ih_l0": (4 * hidden,),
        "lstm.bias_hh_l0": (4 * hidden,),
        **_layer("head", VOCABULARY, hidden),
    }
    return Case(
        "lstm",
        "LSTM 64-256-96, 32x64 tokens",
        0.7,
        shapes,
        _text(32, 64),
        _cost(0, rows * inputs * 4 * hidden, rows * hidden * 4 * hidden, rows * hidden * VOCABULARY),
        rows * (inputs + 4 * hidden + 2 * hidden + VOCABULARY),
    )


CASES = {
    c.name: c
    for c in (
        _perceptron("mlp-small", (64, 128, 10), 32, 3.5),
        _perceptron("mlp-large", (784, 1024, 1024, 10), 256, 1.5),
        _cnn(),
        _batch_norm_cnn(),
        _gpt(),
        _lstm(),
        Case("gelu", "tanh-GELU of 16M elements, forward and backward", 2.5, {}, _activation, 0, 1 << 24),
    )
}
