"""Metrics: what is watched beside the loss, over the batches of an epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod

from plugrad import ops
from plugrad.errors import ShapeError
from plugrad.tensor import Tensor


class Metric(ABC):
    """A mean over examples, gathered batch by batch.

    The sums stay on the device until `value` is asked for, so that a metric never makes the device wait.

    Attributes:
        name: what it is called in tables and histories.
    """

    name: str

    def __init__(self) -> None:
        self.reset()

    @abstractmethod
    def batch(self, output: Tensor, target: Tensor) -> tuple[Tensor, int]:
        """The sum over the examples of a batch, a 0-d tensor, and their number."""

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take a batch in: what the model gave and what it should have given."""
        self.take(*self.batch(output, target))

    def take(self, total: Tensor, count: int) -> None:
        """Take in what `batch` gave: a captured training step computes that, and hands it over here."""
        self._pending.append(total)
        self._count += count

    def value(self) -> float:
        """The mean over everything since the last `reset`; NaN for nothing."""
        for total in self._pending:
            self._total += float(total)
        self._pending.clear()
        return self._total / self._count if self._count else float("nan")

    def reset(self) -> None:
        """Begin anew."""
        self._pending: list[Tensor] = []
        self._total = 0.0
        self._count = 0

    def state_dict(self) -> dict[str, float]:
        """What has been gathered."""
        self.value()
        return {"total": self._total, "count": self._count}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from `state_dict`."""
        self.reset()
        self._total, self._count = float(state["total"]), int(state["count"])


class Mean(Metric):
    """The mean of values that are given with their weights, such as losses: `add` instead of `update`."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()

    def add(self, value: Tensor, count: int) -> None:
        """Take in a mean over ``count`` examples."""
        self.take(value * float(count), count)

    def batch(self, output: Tensor, target: Tensor) -> tuple[Tensor, int]:
        """The sum of ``output``."""
        del target
        return ops.sum(output), output.size


class Accuracy(Metric):
    """Share of the examples whose class is right.

    Outputs are scores (N, C, ...) with integer targets (N, ...), or logits of one class (any shape) with
    targets of 0 and 1 in the same shape.
    """

    name = "accuracy"

    def batch(self, output: Tensor, target: Tensor) -> tuple[Tensor, int]:
        """The number of right ones."""
        if output.shape == target.shape:
            guess, truth = output > 0, target > 0.5
        elif output.ndim == target.ndim + 1 and (output.shape[0], *output.shape[2:]) == target.shape:
            guess, truth = ops.argmax(output, axis=1), target
        else:
            raise ShapeError(
                f"Accuracy: takes scores (N, C, ...) with targets (N, ...), or both of one shape, "
                f"got {output.shape} and {target.shape}"
            )
        return ops.sum(guess == truth), target.size


class MeanAbsoluteError(Metric):
    """Mean of ``|output - target|`` over all elements."""

    name = "mae"

    def batch(self, output: Tensor, target: Tensor) -> tuple[Tensor, int]:
        """The sum of the absolute errors."""
        if output.shape != target.shape:
            raise ShapeError(
                f"MeanAbsoluteError: the output has shape {output.shape}, the target {target.shape}"
            )
        return ops.sum(ops.abs(output - target)), target.size
