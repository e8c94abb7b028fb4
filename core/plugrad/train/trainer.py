"""`Trainer`: the loop over epochs and batches."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple

from plugrad import random
from plugrad.backend import extensions, load_hooks
from plugrad.data import DataLoader
from plugrad.dispatch.epoch import changes, changing, snapshot
from plugrad.dispatch.modes import changed
from plugrad.dispatch.tracing import refuse
from plugrad.errors import ArgumentError, CaptureError, CheckpointError, DivergenceError
from plugrad.graph.jitted import jit as captured
from plugrad.modes import autocast as autocast_mode
from plugrad.nn import Module
from plugrad.optim import LRSchedule, Optimizer, clip_grad_norm
from plugrad.tensor import Tensor
from plugrad.train.callbacks import Callback
from plugrad.train.checkpoint import CheckpointStore, load_checkpoint
from plugrad.train.metrics import Mean, Metric
from plugrad.train.progress import ProgressReporter
from plugrad.train.scaler import LossScaler

Row = dict[str, float]

_ABSENT: Final = object()


class _Figures(NamedTuple):
    """What a batch gives to the figures of an epoch.

    Attributes:
        loss: the sum of the losses of the examples.
        metrics: what `Metric.batch` gave for each metric; None for one that has an ``update`` of its own.
        rest: the output and the target, for these.
    """

    loss: Tensor
    metrics: list[tuple[Tensor, int] | None]
    rest: tuple[Any, Any] | None


class Trainer:
    """Trains a model: ``Trainer(model, loss, optimizer).fit(batches, epochs=10)``.

    A batch is a pair (input, target) unless a subclass's `compute` takes something else.

    Attributes:
        model: the model.
        loss: from the model's output and the target to a 0-d tensor.
        optimizer: the optimizer of the model's parameters.
        metrics: what is watched beside the loss.
        history: a row of figures for each epoch that is complete.
        jit: whether steps and validation are captured (see `plugrad.jit`).
    """

    def __init__(
        self,
        model: Module,
        loss: Callable[[Any, Any], Tensor],
        optimizer: Optimizer,
        *,
        metrics: Sequence[Metric] = (),
        schedule: LRSchedule | None = None,
        schedule_per: str = "epoch",
        clip_norm: float | None = None,
        accumulate: int = 1,
        autocast: str | None = None,
        jit: bool = True,
    ) -> None:
        """Put the parts together.

        Args:
            model: the model, on the device that it is trained on; batches are moved there.
            loss: takes the model's output and the target, gives their loss as a 0-d tensor: a loss of
                `plugrad.nn`, or any function.
            optimizer: holds the model's parameters.
            metrics: what else is computed for each epoch, such as `Accuracy`.
            schedule: sets the learning rate; stepped here.
            schedule_per: ``"epoch"`` or ``"step"``: when it is stepped.
            clip_norm: the largest norm of all gradients together.
            accumulate: batches whose gradients are averaged for one step of the optimizer.
            autocast: ``"bfloat16"`` or ``"float16"`` to compute forward in; float16 with loss scaling.
            jit: capture the training step and the validation of a batch, by signature: the last, smaller batch is
                one more. What they read of Python is a constant then, but the attributes of the trainer, of modules and
                of optimizers, which are watched. Where they cannot be captured, a warning says why and they run as
                they are, as with False.

        Raises:
            ArgumentError: for an option outside what is taken.
        """
        if schedule_per not in ("epoch", "step"):
            raise ArgumentError(f"Trainer: schedule_per takes 'epoch' or 'step', got {schedule_per!r}")
        if accumulate < 1:
            raise ArgumentError(f"Trainer: accumulate takes a number of at least 1, got {accumulate}")
        names = [m.name for m in metrics]
        if len(set(names)) != len(names) or "loss" in names:
            raise ArgumentError(f"Trainer: metrics must have names of their own, got {', '.join(names)}")
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = list(metrics)
        self.schedule = schedule
        self.schedule_per = schedule_per
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.autocast = autocast
        self.scaler = LossScaler() if autocast == "float16" else None
        self.jit = jit
        self.history: list[Row] = []
        self._epochs = 0
        self._steps = 0
        self._mean_loss = Mean("loss")
        self._stopped: str | None = None
        self._captured: dict[str, Callable[..., Any]] = {
            "training step": captured(self._learn_from),
            "validation": captured(self._evaluate),
        }

    @property
    def epoch(self) -> int:
        """How many epochs are complete."""
        refuse("Trainer.epoch is read", "keep what depends on it in a tensor", "where it would be a constant")
        return self._epochs

    @property
    def step(self) -> int:
        """How many batches have been learned from."""
        refuse("Trainer.step is read", "keep what depends on it in a tensor", "where it would be a constant")
        return self._steps

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name == "history":
            object.__setattr__(self, name, value)
        else:
            changing(self, name)
            object.__setattr__(self, name, value)
            changes()

    def __guard__(self) -> object:
        """What a captured step has read of the trainer, that of a subclass's `compute` included."""
        return snapshot({k: v for k, v in self.__dict__.items() if not k.startswith("_") and k != "history"})

    def __attribute__(self, name: str) -> tuple[object, Callable[[], None]]:
        """An attribute, and what sets it back."""
        before = self.__dict__.get(name, _ABSENT)

        def undo() -> None:
            if before is _ABSENT:
                self.__dict__.pop(name, None)
            else:
                self.__dict__[name] = before
            changes()

        return before, undo

    def compute(self, batch: Any) -> tuple[Tensor, Any, Any]:
        """The loss of a batch, the model's output and the target; override it for batches of another form."""
        try:
            x, target = batch
        except (TypeError, ValueError):
            raise ArgumentError(
                f"Trainer: takes batches (input, target), got {type(batch).__name__}; "
                "override compute for batches of another form"
            ) from None
        output = self.model(x)
        return self.loss(output, target), output, target

    def stop(self, reason: str) -> None:
        """End the training after this epoch."""
        self._stopped = reason

    def fit(
        self,
        batches: DataLoader | Iterable[Any],
        epochs: int,
        *,
        validation: Iterable[Any] | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: str | os.PathLike[str] | CheckpointStore | None = None,
        checkpoint_every: int | None = None,
        resume: bool = False,
        progress: bool | ProgressReporter = True,
    ) -> list[Row]:
        """Train until ``epochs`` epochs are complete.

        Args:
            batches: a `DataLoader`, or anything that gives batches anew each time it is iterated over.
            epochs: how many epochs there are to be, those already complete included.
            validation: batches to validate on after each epoch.
            callbacks: see `Callback`; those of plugins are added.
            checkpoint: a folder for checkpoints, one after each epoch; needs a `DataLoader`.
            checkpoint_every: also write one each so many steps.
            resume: go on from the newest checkpoint in the folder, where there is one.
            progress: show a bar and a line per epoch; or the reporter that does.

        Returns:
            The history: for each epoch its ``loss`` and metrics, those of the validation with ``val_``.

        Raises:
            ArgumentError: for an option outside what is taken.
            CheckpointError: if a checkpoint is damaged, is of another training, or cannot be written.
            DivergenceError: if the loss is NaN or infinite.
        """
        if epochs < 0:
            raise ArgumentError(f"fit: epochs takes a number of at least 0, got {epochs}")
        store = None
        if checkpoint is not None:
            store = checkpoint if isinstance(checkpoint, CheckpointStore) else CheckpointStore(checkpoint)
            if not isinstance(batches, DataLoader):
                raise ArgumentError("fit: checkpoints need a DataLoader, whose position they hold")
        elif resume or checkpoint_every is not None:
            raise ArgumentError("fit: resume and checkpoint_every need checkpoint=, the folder")
        if checkpoint_every is not None and (checkpoint_every < 1 or checkpoint_every % self.accumulate):
            raise ArgumentError(
                f"fit: checkpoint_every takes a multiple of accumulate={self.accumulate}, got {checkpoint_every}"
            )
        reporter = progress if isinstance(progress, ProgressReporter) else ProgressReporter(enabled=progress)
        everyone = [*callbacks, *_plugin_callbacks()]
        self._stopped = None
        resumed_inside = False
        if store is not None and resume and isinstance(batches, DataLoader):
            newest = store.latest()
            if newest is not None:
                resumed_inside = self._restore(newest, batches, everyone)
                reporter.note(f"going on from {newest}, after epoch {self.epoch} and step {self.step}")
        for callback in everyone:
            callback.on_fit_begin(self)
        try:
            while self.epoch < epochs and self._stopped is None:
                self._epoch(
                    batches, epochs, validation, everyone, store, checkpoint_every, reporter, resumed_inside
                )
                resumed_inside = False
        finally:
            reporter.close()
            for callback in everyone:
                callback.on_fit_end(self)
        if self._stopped is not None:
            reporter.note(f"stopped after epoch {self.epoch}: {self._stopped}")
        return self.history

    def validate(self, batches: Iterable[Any]) -> Row:
        """The loss and the metrics over ``batches``, in evaluation mode; the model's mode is as before after it.

        Raises:
            ArgumentError: if there are no batches.
        """
        training = self.model.training
        mean = Mean("loss")
        saved = [m.state_dict() for m in self.metrics]
        for metric in self.metrics:
            metric.reset()
        self.model.eval()
        try:
            with changed(recording=False):
                for batch in batches:
                    figures = self._run("validation", self._evaluate, self._placed(batch))
                    self._take(figures, mean, _count(batch))
            if not mean.state_dict()["count"]:
                raise ArgumentError("validate: there are no batches")
            return {"loss": mean.value(), **{m.name: m.value() for m in self.metrics}}
        finally:
            self.model.train(training)
            for metric, state in zip(self.metrics, saved, strict=True):
                metric.load_state_dict(state)

    # -- one epoch ----------------------------------------------------------------------------------------

    def _epoch(
        self,
        batches: DataLoader | Iterable[Any],
        epochs: int,
        validation: Iterable[Any] | None,
        callbacks: Sequence[Callback],
        store: CheckpointStore | None,
        checkpoint_every: int | None,
        reporter: ProgressReporter,
        inside: bool,
    ) -> None:
        started = time.monotonic()
        self.model.train()
        if not inside:
            self._mean_loss.reset()
            for metric in self.metrics:
                metric.reset()
        done = batches.batch if isinstance(batches, DataLoader) and inside else 0
        steps = len(batches) if isinstance(batches, Sized) else 0
        reporter.epoch(self.epoch + 1, epochs, steps, done)
        for callback in callbacks:
            callback.on_epoch_begin(self)
        self.optimizer.zero_grad()
        for batch in batches:
            done += 1
            self._learn(batch, done % self.accumulate == 0 or done == steps)
            for callback in callbacks:
                callback.on_step_end(self)
            if reporter.due():
                reporter.step(done, {"loss": self._loss_so_far()})
            if store is not None and checkpoint_every is not None and self.step % checkpoint_every == 0:
                self._loss_so_far()
                self._save(store, batches, callbacks)
        if not done:
            raise ArgumentError("fit: there are no batches to learn from")
        row: Row = {"loss": self._loss_so_far(), **{m.name: m.value() for m in self.metrics}}
        if validation is not None:
            row.update({f"val_{k}": v for k, v in self.validate(validation).items()})
        self.history.append(row)
        self._epochs += 1
        for callback in callbacks:
            callback.on_epoch_end(self, row)
        if self.schedule is not None and self.schedule_per == "epoch":
            self.schedule.step()
        reporter.row(self.epoch, epochs, row, time.monotonic() - started)
        if store is not None:
            self._save(store, batches, callbacks)

    def _learn(self, batch: Any, update: bool) -> None:
        """Forward and backward of one batch, and a step of the optimizer where it is due."""
        figures = self._run("training step", self._learn_from, self._placed(batch), update)
        self._steps += 1
        self._take(figures, self._mean_loss, _count(batch))
        if not update:
            return
        if self.scaler is not None:
            # Whether there is a step depends on the gradients' values: outside of what is captured.
            self.scaler.unscale(self.optimizer)
            self._clip()
            self.scaler.step(self.optimizer)
            self.optimizer.zero_grad()
        if self.schedule is not None and self.schedule_per == "step":
            self.schedule.step()

    # -- what is captured ---------------------------------------------------------------------------------

    def _learn_from(self, batch: Any, update: bool) -> _Figures:
        """Forward, backward, and a step of the optimizer where it is due and depends on no value."""
        with self._precision():
            loss, output, target = self.compute(batch)
        if loss.shape != ():
            raise ArgumentError(f"Trainer: the loss must be a 0-d tensor, it has shape {loss.shape}")
        scaled = loss / self.accumulate if self.accumulate > 1 else loss
        (self.scaler.scale_loss(scaled) if self.scaler else scaled).backward()
        figures = self._figures(loss, output, target, _count(batch))
        if update and self.scaler is None:
            self._clip()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return figures

    def _evaluate(self, batch: Any) -> _Figures:
        with self._precision():
            loss, output, target = self.compute(batch)
            return self._figures(loss, output, target, _count(batch))

    def _clip(self) -> None:
        if self.clip_norm is not None:
            clip_grad_norm([p for p, _, _ in self.optimizer.members()], self.clip_norm)

    def _figures(self, loss: Tensor, output: Any, target: Any, count: int) -> _Figures:
        with changed(recording=False):
            output = output.detach() if isinstance(output, Tensor) else output
            own = [None if _takes_itself(m) else m.batch(output, target) for m in self.metrics]
            rest = (output, target) if any(map(_takes_itself, self.metrics)) else None
            return _Figures(loss.detach() * float(count), own, rest)

    def _take(self, figures: _Figures, mean: Mean, count: int) -> None:
        mean.take(figures.loss, count)
        for metric, own in zip(self.metrics, figures.metrics, strict=True):
            if own is not None:
                metric.take(*own)
            elif figures.rest is not None:
                metric.update(*figures.rest)

    def _run(self, what: str, plain: Callable[..., _Figures], *args: Any) -> _Figures:
        """Run ``plain``, captured where that is wanted and can be."""
        if self.jit and what in self._captured:
            try:
                figures: _Figures = self._captured[what](*args)
                return figures
            except CaptureError as error:
                del self._captured[what]
                warnings.warn(
                    f"Trainer: the {what} is not captured, and runs as it is, which is slower; jit=False says that this is "
                    f"meant. {error}",
                    stacklevel=4,
                )
        return plain(*args)

    def _loss_so_far(self) -> float:
        """The mean loss of the epoch; raises where it is not finite."""
        value = self._mean_loss.value()
        if not math.isfinite(value):
            raise DivergenceError(
                f"the loss is {value} in epoch {self.epoch + 1}, at step {self.step} or shortly before: lower the "
                "learning rate, clip the gradients (clip_norm=), or find the op with plugrad.detect_anomaly()"
            )
        return value

    def _precision(self) -> Any:
        return nullcontext() if self.autocast is None else autocast_mode(self.autocast)

    def _placed(self, batch: Any) -> Any:
        """The batch on the model's device."""
        first = next(iter(self.model.parameters()), None)
        return batch if first is None else _moved(batch, first.device)

    # -- checkpoints --------------------------------------------------------------------------------------

    def _save(self, store: CheckpointStore, batches: Any, callbacks: Sequence[Callback]) -> Path:
        optimizer = self.optimizer.state_dict()
        tensors = {f"model.{k}": t for k, t in self.model.state_dict().items()}
        for i, state in optimizer["state"].items():
            tensors.update({f"optimizer.{i}.{k}": t for k, t in state.items()})
        return store.save(
            tensors,
            {
                "epoch": self.epoch,
                "step": self.step,
                "stopped": self._stopped,
                "history": self.history,
                "param_groups": optimizer["param_groups"],
                "schedule": None if self.schedule is None else self.schedule.state_dict(),
                "scaler": None if self.scaler is None else self.scaler.state_dict(),
                "loader": batches.state_dict(),
                "random": random.get_state(),
                "loss": self._mean_loss.state_dict(),
                "metrics": {m.name: m.state_dict() for m in self.metrics},
                "callbacks": [[type(c).__name__, c.state_dict()] for c in callbacks],
            },
        )

    def _restore(self, path: Path, batches: DataLoader, callbacks: Sequence[Callback]) -> bool:
        """Go to the state of a checkpoint; whether that is inside an epoch. Where it does not fit, nothing changes."""
        tensors, state = load_checkpoint(path)
        before = self.optimizer.state_dict(), self.model.state_dict(), batches.state_dict()
        try:
            self._check_fits(state, callbacks)
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in tensors.items():
                if key.startswith("optimizer."):
                    _, number, name = key.split(".", 2)
                    moments.setdefault(int(number), {})[name] = tensor
            groups = [
                {k: tuple(v) if k == "betas" else v for k, v in g.items()} for g in state["param_groups"]
            ]
            self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
            self.model.load_state_dict(
                {k.removeprefix("model."): t for k, t in tensors.items() if k.startswith("model.")}
            )
            batches.load_state_dict(state["loader"])
            if self.schedule is not None:
                self.schedule.load_state_dict(state["schedule"])
            if self.scaler is not None:
                self.scaler.load_state_dict(state["scaler"])
            self._mean_loss.load_state_dict(state["loss"])
            for metric in self.metrics:
                metric.load_state_dict(state["metrics"][metric.name])
            for callback, (_, own_state) in zip(callbacks, state["callbacks"], strict=True):
                callback.load_state_dict(own_state)
            random.set_state(state["random"])
            self.history = [dict(row) for row in state["history"]]
            self._epochs, self._steps = int(state["epoch"]), int(state["step"])
            self._stopped = state["stopped"]
        except Exception as error:
            self.optimizer.load_state_dict(before[0])
            self.model.load_state_dict(before[1])
            batches.load_state_dict(before[2])
            if isinstance(error, CheckpointError):
                raise CheckpointError(f"{path}: {error}") from error
            raise CheckpointError(f"{path}: its state is not one of a training: {error!r}") from error
        return batches.epoch == self.epoch

    def _check_fits(self, state: Mapping[str, Any], callbacks: Sequence[Callback]) -> None:
        """Raise CheckpointError if the training that wrote ``state`` had other parts than this one."""
        parts = {
            "callbacks": ([name for name, _ in state["callbacks"]], [type(c).__name__ for c in callbacks]),
            "metrics": (sorted(state["metrics"]), sorted(m.name for m in self.metrics)),
            "a schedule": (state["schedule"] is not None, self.schedule is not None),
            "a loss scaler": (state["scaler"] is not None, self.scaler is not None),
        }
        for part, (had, has) in parts.items():
            if had != has:
                raise CheckpointError(f"it was written by a training with {part}: {had}; here: {has}")


def _moved(value: Any, device: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(v, device) for v in value)
    if isinstance(value, Mapping):
        return {k: _moved(v, device) for k, v in value.items()}
    return value


def _takes_itself(metric: Metric) -> bool:
    """Whether a metric's ``update`` does something else than to take in what ``batch`` gives."""
    return type(metric).update is not Metric.update


def _count(batch: Any) -> int:
    """The number of examples in a batch: the length of its first tensor."""
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.shape else 1
    if isinstance(batch, Mapping):
        return _count(next(iter(batch.values())))
    return _count(batch[0])


def _plugin_callbacks() -> list[Callback]:
    """The callbacks that plugins bring, made anew for each training."""
    found: list[Callback] = []
    for name, entry in extensions("callbacks"):
        if not entry.compatible:
            continue
        try:
            found.extend(load_hooks(entry).plugrad_callbacks() or ())
        except Exception as error:
            warnings.warn(
                f"the callbacks {name!r} of {entry.distribution} are left out: {error!r}", stacklevel=3
            )
    return found
