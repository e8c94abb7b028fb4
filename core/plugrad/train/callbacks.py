"""Callbacks: what takes part in a training without being the training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from plugrad.dispatch.modes import changed
from plugrad.errors import ArgumentError

if TYPE_CHECKING:
    from plugrad.tensor import Tensor
    from plugrad.train.trainer import Trainer


class Callback:
    """Is told what happens in a training; override what is of interest.

    A callback with a state gives it in `state_dict`, so that it goes into checkpoints: numbers, strings, lists
    and dicts of them. Callbacks run in the order in which they are given, those of plugins last.
    """

    def on_fit_begin(self, trainer: Trainer) -> None:
        """The training begins, or goes on from a checkpoint."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """An epoch begins, or goes on."""

    def on_step_end(self, trainer: Trainer) -> None:
        """A batch was learned from."""

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        """An epoch is complete; ``row`` holds its loss and metrics, those of the validation with ``val_``."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """The training ends, by itself or by an error."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""


class EarlyStopping(Callback):
    """Stop when a figure has not become better for some epochs.

    Attributes:
        best: the best value so far.
        waited: epochs since then.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "min",
        restore_best: bool = False,
    ) -> None:
        """Set what is watched.

        Args:
            monitor: a figure of the epoch's row, such as ``"val_loss"`` or ``"val_accuracy"``.
            patience: epochs without a better value before the training stops.
            min_delta: by how much better counts.
            mode: ``"min"`` or ``"max"``.
            restore_best: at the end, give the model the parameters of the best epoch again. They are kept in
                memory and not in checkpoints: a training that is resumed keeps them from then on.
        """
        if mode not in ("min", "max"):
            raise ArgumentError(f"EarlyStopping: mode takes 'min' or 'max', got {mode!r}")
        if patience < 1 or min_delta < 0:
            raise ArgumentError(
                f"EarlyStopping: takes patience >= 1 and min_delta >= 0, got {patience} and {min_delta}"
            )
        self.monitor, self.patience, self.min_delta, self.mode = monitor, patience, min_delta, mode
        self.restore_best = restore_best
        self.best = math.inf if mode == "min" else -math.inf
        self.waited = 0
        self._kept: dict[str, Tensor] | None = None

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Look at the figure."""
        if self.monitor not in row:
            raise ArgumentError(
                f"EarlyStopping: there is no figure {self.monitor!r} to monitor; this training has {', '.join(row)}"
            )
        value = row[self.monitor]
        better = (self.best - value if self.mode == "min" else value - self.best) > self.min_delta
        if better:
            self.best, self.waited = value, 0
            if self.restore_best:
                self._kept = {k: t.detach() for k, t in trainer.model.state_dict().items()}
            return
        self.waited += 1
        if self.waited >= self.patience:
            trainer.stop(
                f"{self.monitor} has not become better than {self.best:.6g} for {self.waited} epochs"
            )

    def on_fit_end(self, trainer: Trainer) -> None:
        """Give the model its best parameters again."""
        if self._kept is not None:
            with changed(recording=False):
                trainer.model.load_state_dict(self._kept)

    def state_dict(self) -> dict[str, Any]:
        """The best value and how long ago it was."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.best, self.waited = float(state["best"]), int(state["waited"])
