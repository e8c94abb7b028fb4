"""``training``: short runs of networks whose losses follow those of the oracles, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad import nn, optim
from plugrad.backend import use_device
from plugrad.spec import Device
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run
from plugrad_conformance.measure import Failure
from plugrad_conformance.reference import REFERENCE

Host = np.ndarray[Any, Any]

STEPS: Final = 12
TOLERANCE: Final = 2e-4
"""Of a loss, relative, after `STEPS` steps in float32: several hundred times the rounding of one."""


def cases() -> Iterator[Case]:
    """By the network."""
    for name in ("by-hand", *NETWORKS):
        yield Case("training", name, level=Level.L2)


def run(run: Run) -> None:
    """The losses on the device, and those on the oracles or by hand."""
    if run.case.subject == "by-hand":
        got, wanted = _perceptron(run.subject.device, run.rng()), _perceptron_by_hand(run.rng())
    else:
        build = NETWORKS[run.case.subject]
        got, wanted = _losses(run.subject.device, build, run), _losses(REFERENCE, build, run)
    for i, (g, w) in enumerate(zip(got, wanted, strict=True)):
        error = abs(g - w) / max(abs(w), 1e-3)
        run.worst.meet(error / TOLERANCE, "bound")
        if not error <= TOLERANCE:
            raise Failure(f"step {i}: the loss is {g:.8g}, the oracles' {w:.8g}")
        run.samples += 1
    if not wanted[-1] < wanted[0]:
        raise AssertionError("the oracles' own loss does not fall")


def _perceptron(device: Device, rng: np.random.Generator) -> list[float]:
    x, t, w1, b1, w2, b2 = _perceptron_values(rng)
    place = [pg.asarray(v.astype(np.float32), device=device) for v in (x, w1, b1, w2, b2)]
    given, *parameters = place
    target = pg.asarray(t, device=device)
    for p in parameters:
        p.requires_grad_()
    optimizer = optim.SGD(parameters, lr=0.5)
    losses = []
    for _ in range(STEPS):
        hidden = pg.tanh(given @ parameters[0] + parameters[1])
        loss = pg.cross_entropy(hidden @ parameters[2] + parameters[3], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.item()))
    return losses


def _perceptron_values(rng: np.random.Generator) -> tuple[Host, Host, Host, Host, Host, Host]:
    def draw(*shape: int) -> Host:
        # Values of float32, so that both start from the same.
        return (rng.standard_normal(shape) * 0.4).astype(np.float32).astype(np.float64)

    return draw(24, 9) * 2, rng.integers(0, 4, 24), draw(9, 16), draw(16), draw(16, 4), draw(4)


def _perceptron_by_hand(rng: np.random.Generator) -> list[float]:
    """The same network in NumPy, with the gradients written out."""
    x, t, w1, b1, w2, b2 = _perceptron_values(rng)
    hot = np.eye(4)[t]
    losses = []
    for _ in range(STEPS):
        hidden = np.tanh(x @ w1 + b1)
        scores = hidden @ w2 + b2
        exps = np.exp(scores - scores.max(1, keepdims=True))
        shares = exps / exps.sum(1, keepdims=True)
        losses.append(float(-np.log((shares * hot).sum(1)).mean()))
        d_scores = (shares - hot) / len(x)
        d_hidden = d_scores @ w2.T * (1 - hidden**2)
        w2, b2 = w2 - 0.5 * hidden.T @ d_scores, b2 - 0.5 * d_scores.sum(0)
        w1, b1 = w1 - 0.5 * x.T @ d_hidden, b1 - 0.5 * d_hidden.sum(0)
    return losses


Build = Callable[
    [], tuple[nn.Module, Callable[[list[pg.Tensor]], Any], Callable[[pg.Tensor, pg.Tensor], pg.Tensor]]
]


def _losses(device: Device, build: Build, run: Run) -> list[float]:
    """Train a network from values drawn for the case."""
    rng = run.rng()
    with use_device(device):
        model, make_optimizer, loss_of = build()
        parameters = list(model.parameters())
        for p in parameters:
            fan = max(p.shape[-1] if p.ndim else 1, 1)
            drawn = (rng.standard_normal(p.shape) / np.sqrt(fan)).astype(np.float32)
            with pg.no_grad():
                p.assign(pg.asarray(drawn, device=device))
        optimizer = make_optimizer(parameters)
        losses = []
        inputs, targets = _batch(run.case.subject, rng)
        x, t = pg.asarray(inputs, device=device), pg.asarray(targets, device=device)
        for _ in range(STEPS):
            loss = loss_of(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.item()))
    return losses


def _batch(name: str, rng: np.random.Generator) -> tuple[Host, Host]:
    if name == "sequence":
        return rng.integers(0, 11, (6, 7)), rng.integers(0, 11, (6, 7))
    shape = (8, 2, 8, 8) if name == "images" else (16, 6)
    inputs = rng.standard_normal(shape).astype(np.float32)
    if name == "regression":
        return inputs, np.sin(inputs[:, :2]).astype(np.float32)
    return inputs, rng.integers(0, 3, len(inputs))


def _regression() -> Any:
    model = nn.Sequential(nn.Linear(6, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 2))
    return model, lambda p: optim.AdamW(p, lr=0.01), nn.MSELoss()


def _images() -> Any:
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1, stride=2),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(32, 3),
    )
    return model, lambda p: optim.SGD(p, lr=0.05, momentum=0.9), nn.CrossEntropyLoss()


class _Words(nn.Module):
    """An embedding, a recurrent layer, and scores of the words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.recurrent = nn.GRU(8, 10, batch_first=True)
        self.head = nn.Linear(10, 11)

    def forward(self, x: pg.Tensor) -> pg.Tensor:
        """Scores (N, words, T) of tokens (N, T)."""
        hidden, _ = self.recurrent(self.embedding(x))
        return pg.permute_dims(self.head(hidden), (0, 2, 1))


def _sequence() -> Any:
    return _Words(), lambda p: optim.Adam(p, lr=0.02), nn.CrossEntropyLoss()


NETWORKS: Final[dict[str, Build]] = {
    "regression": _regression,
    "images": _images,
    "sequence": _sequence,
}
