"""Learning-rate schedules: the rate as a function of the number of steps taken.

Each is a closed formula, so that a schedule is resumed by its step number alone. Call ``schedule.step()``
after ``optimizer.step()``, once per batch or once per epoch, whichever its numbers count.
"""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plugrad.dispatch.tracing import refuse
from plugrad.errors import ArgumentError, CheckpointError
from plugrad.optim.optimizer import Optimizer


class LRSchedule(ABC):
    """Sets the learning rate of every group of an optimizer, from its construction on.

    Attributes:
        optimizer: the optimizer.
        base: the rates that the groups had at first.
        steps: the number of steps taken.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(
                f"{type(self).__name__}: optimizer takes an Optimizer, got {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        self.base = [g.lr for g in optimizer.param_groups]
        self.steps = 0
        self._set()

    @abstractmethod
    def rate(self, base: float, step: int) -> float:
        """The learning rate after ``step`` steps of a group whose first rate was ``base``."""

    def step(self) -> None:
        """Count a step, and set the rates."""
        refuse(
            "a schedule steps",
            "step it after the call: a rate is read anew each time",
            "where it would step once",
        )
        self.steps += 1
        self._set()

    def _set(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group.lr = self.rate(base, self.steps)

    def last_lr(self) -> list[float]:
        """The rates of the groups now."""
        return [g.lr for g in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The number of steps taken, and the rates at first."""
        return {"steps": self.steps, "base": list(self.base)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
            CheckpointError: if it is of another schedule or optimizer; nothing has changed then.
        """
        if set(state_dict) != {"steps", "base"} or len(state_dict["base"]) != len(self.base):
            raise CheckpointError(
                f"{type(self).__name__}: takes steps and {len(self.base)} base rates, got {dict(state_dict)}"
            )
        self.steps = int(state_dict["steps"])
        self.base = [float(b) for b in state_dict["base"]]
        self._set()


class LambdaLR(LRSchedule):
    """``base * function(step)``."""

    def __init__(self, optimizer: Optimizer, function: Callable[[int], float]) -> None:
        self.function = function
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """The learning rate after ``step`` steps."""
        return base * self.function(step)


class StepLR(LRSchedule):
    """``base * gamma ** (step // step_size)``."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        _positive(self, step_size=step_size)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """The learning rate after ``step`` steps."""
        return base * self.gamma ** (step // self.step_size)


class MultiStepLR(LRSchedule):
    """``base`` times ``gamma`` for each of the ``milestones`` that was reached."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """The learning rate after ``step`` steps."""
        return base * self.gamma ** bisect.bisect_right(self.milestones, step)


class ExponentialLR(LRSchedule):
    """``base * gamma ** step``."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """The learning rate after ``step`` steps."""
        return float(base * self.gamma**step)


class LinearLR(LRSchedule):
    """Warm-up: from ``start_factor * base`` to ``end_factor * base`` in ``total_iters`` even steps, then constant."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        _positive(self, total_iters=total_iters)
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise ArgumentError(
                f"LinearLR: start_factor takes a number in (0, 1] and end_factor one in [0, 1], "
                f"got {start_factor} and {end_factor}"
            )
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """The learning rate after ``step`` steps."""
        done = min(step, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(LRSchedule):
    """Half a cosine from ``base`` to ``eta_min`` in ``T_max`` steps (Loshchilov and Hutter 2017, arXiv:1608.03983).

    Beyond ``T_max`` it rises again, as the formula says.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:  # noqa: N803
        _positive(self, T_max=T_max)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """The learning rate after ``step`` steps."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * step / self.T_max)) / 2


class OneCycleLR(LRSchedule):
    """Up to ``max_lr`` and down far below where it began (Smith and Topin 2018, arXiv:1708.07120).

    It takes ``total_steps`` steps, the share ``pct_start`` of them upwards. Momentum stays as it is.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        """Set the first rate.

        Args:
            optimizer: the optimizer; the rates of its groups are replaced.
            max_lr: the highest rate, one for all groups or one for each.
            total_steps: steps of the whole cycle.
            pct_start: share of the cycle in which the rate rises, in (0, 1).
            anneal_strategy: ``"cos"`` or ``"linear"``.
            div_factor: the first rate is ``max_lr / div_factor``.
            final_div_factor: the last rate is the first divided by this.
        """
        _positive(self, total_steps=total_steps, div_factor=div_factor, final_div_factor=final_div_factor)
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"OneCycleLR: anneal_strategy takes 'cos' or 'linear', got {anneal_strategy!r}"
            )
        if not 0 < pct_start < 1:
            raise ArgumentError(f"OneCycleLR: pct_start takes a number in (0, 1), got {pct_start}")
        groups = optimizer.param_groups
        peaks = [float(max_lr)] * len(groups) if isinstance(max_lr, (int, float)) else list(max_lr)
        if len(peaks) != len(groups):
            raise ArgumentError(f"OneCycleLR: max_lr has {len(peaks)} rates for {len(groups)} groups")
        self.total_steps, self.pct_start = total_steps, pct_start
        self.anneal_strategy = anneal_strategy
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        for group, peak in zip(groups, peaks, strict=True):
            group.lr = peak
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """The learning rate after ``step`` steps; ``base`` is the highest."""
        if step >= self.total_steps:
            raise ArgumentError(f"OneCycleLR: step {step} of a cycle of {self.total_steps} steps")
        first = base / self.div_factor
        top = self.pct_start * self.total_steps - 1
        if step <= top:
            return self._between(first, base, step / top)
        return self._between(base, first / self.final_div_factor, (step - top) / (self.total_steps - 1 - top))

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


class SequentialLR(LRSchedule):
    """One schedule after another: each counts from the milestone at which it takes over."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRSchedule], milestones: Sequence[int]
    ) -> None:
        """Set the first rate.

        Args:
            optimizer: the optimizer, which all of the schedules are for.
            schedulers: the schedules; they are not stepped on their own any more.
            milestones: the steps at which the second, third, ... takes over, ascending.
        """
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(milestones):
            raise ArgumentError(
                f"SequentialLR: {len(schedulers)} schedules take {len(schedulers) - 1} ascending milestones, "
                f"got {list(milestones)}"
            )
        if any(s.optimizer is not optimizer for s in schedulers):
            raise ArgumentError("SequentialLR: all schedules must be for the same optimizer")
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        for group, base in zip(optimizer.param_groups, schedulers[0].base, strict=True):
            group.lr = base
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """The learning rate after ``step`` steps."""
        turn = bisect.bisect_right(self.milestones, step)
        return self.schedulers[turn].rate(base, step - (self.milestones[turn - 1] if turn else 0))


def _positive(schedule: LRSchedule, **values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ArgumentError(f"{type(schedule).__name__}: {name} takes a number above 0, got {value}")


__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRSchedule",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "SequentialLR",
    "StepLR",
]
