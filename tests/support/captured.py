"""What tests of captured functions compare: everything a training holds, as bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import plugrad as pg
from plugrad import nn, optim


def bits(value: Any) -> Any:
    """A tree with the dtype, the shape and the bytes of each tensor in its place, and whether it needs a gradient."""
    if isinstance(value, pg.Tensor):
        return str(value.dtype), value.shape, value.requires_grad, value.detach().numpy().tobytes()
    if isinstance(value, Mapping):
        return {k: bits(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(v) for v in value]
    return value


def same(got: Any, wanted: Any) -> None:
    """Fail, and say where, if two trees of `bits` differ."""
    where = _differs(got, wanted, "result")
    assert where is None, where


def _differs(got: Any, wanted: Any, path: str) -> str | None:
    if type(got) is not type(wanted):
        return f"{path}: {type(got).__name__} instead of {type(wanted).__name__}"
    if isinstance(got, dict):
        if got.keys() != wanted.keys():
            return f"{path}: the keys {list(got)} instead of {list(wanted)}"
        return next((w for k in got if (w := _differs(got[k], wanted[k], f"{path}[{k!r}]"))), None)
    if isinstance(got, (list, tuple)):
        if len(got) != len(wanted):
            return f"{path}: {len(got)} parts instead of {len(wanted)}"
        return next((w for i, g in enumerate(got) if (w := _differs(g, wanted[i], f"{path}[{i}]"))), None)
    return None if got == wanted else f"{path}: {got!r} instead of {wanted!r}"


class Training:
    """A seeded model with its optimizer and its batch, so that two of them start alike."""

    def __init__(
        self, build: Callable[[], tuple[nn.Module, Any, Any]], optimizer: Callable[[Any], optim.Optimizer]
    ) -> None:
        pg.random.manual_seed(0)
        self.model, self.x, self.y = build()
        self.optimizer = optimizer(self.model.parameters())
        self.loss = nn.CrossEntropyLoss()

    def step(self) -> Callable[[Any, Any], Any]:
        """The usual step."""

        def step(x: Any, y: Any) -> Any:
            self.optimizer.zero_grad()
            loss = self.loss(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            return loss

        return step

    def state(self) -> Any:
        """Parameters, buffers, moments, gradients and the random state."""
        return bits(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict()["state"],
                "grads": [p.grad for p in self.model.parameters()],
                "random": pg.random.get_state(),
            }
        )

    def run(self, step: Callable[[Any, Any], Any], steps: int) -> Any:
        """What each of ``steps`` steps returned, and the state after each."""
        found = []
        for _ in range(steps):
            result = bits(step(self.x, self.y))
            found.append([result, self.state()])
        return found
