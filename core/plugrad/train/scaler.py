"""`LossScaler`: float16 gradients that neither vanish nor overflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugrad import ops
from plugrad.convert import asarray
from plugrad.dispatch.modes import changed
from plugrad.dispatch.tracing import refuse
from plugrad.errors import ArgumentError, CheckpointError
from plugrad.optim.optimizer import Optimizer
from plugrad.spec import Device
from plugrad.tensor import Tensor


class LossScaler:
    """Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740), as PyTorch's GradScaler does it.

    The loss is multiplied by ``scale`` before backward and the gradients divided by it after. A step whose
    gradients are not finite is left out, and the scale shrinks; after ``interval`` good steps it grows. ::

        scaler.scale_loss(loss).backward()
        scaler.step(optimizer)

    `scale_loss` may stand in a captured function, which reads the scale anew at each call. `unscale` and `step`
    stand outside, as the next thing to do depends on the gradients' values.

    Attributes:
        good: steps since it last changed.
    """

    def __init__(
        self, scale: float = 2.0**16, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000
    ) -> None:
        if not (scale > 0 and growth > 1 and 0 < backoff < 1 and interval > 0):
            raise ArgumentError(
                "LossScaler: takes scale > 0, growth > 1, 0 < backoff < 1 and interval > 0, got "
                f"{scale}, {growth}, {backoff} and {interval}"
            )
        # The scale and its inverse on each device, as captured functions read them.
        self._factors: dict[Device, tuple[Tensor, Tensor]] = {}
        self.scale, self.growth, self.backoff, self.interval = float(scale), growth, backoff, interval
        self.good = 0
        self._unscaled = False

    @property
    def scale(self) -> float:
        """The factor now."""
        return self._scale

    @scale.setter
    def scale(self, value: float) -> None:
        refuse("a loss scale is set", "set it after the call", "where it would be a constant")
        self._scale = value
        for device, (factor, inverse) in self._factors.items():
            factor.assign(asarray(value, device=device))
            inverse.assign(asarray(1.0 / value, device=device))

    def _factor(self, device: Device) -> tuple[Tensor, Tensor]:
        found = self._factors.get(device)
        if found is None:
            with changed(capturing=False):  # they outlive a function that is captured now
                found = asarray(self.scale, device=device), asarray(1.0 / self.scale, device=device)
            self._factors[device] = found
        return found

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss times the scale, which is a tensor: it changes without a new signature."""
        return loss * self._factor(loss.device)[0].astype(loss.dtype, copy=False)

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale: before they are clipped. `step` does it where it was not done."""
        refuse(
            "gradients are unscaled", "call LossScaler.unscale and step after it", "whose loss may be scaled"
        )
        if self._unscaled:
            return
        self._unscaled = True
        with changed(recording=False, autocast=None):
            for p, _, _ in optimizer.members():
                if p.grad is not None:
                    p.grad = p.grad * self._factor(p.device)[1].astype(p.dtype, copy=False)

    def step(self, optimizer: Optimizer) -> bool:
        """Step the optimizer if all gradients are finite, and adapt the scale; whether it stepped."""
        self.unscale(optimizer)
        self._unscaled = False
        with changed(recording=False, autocast=None):
            finite = [ops.all(ops.isfinite(p.grad)) for p, _, _ in optimizer.members() if p.grad is not None]
            good = not finite or bool(ops.all(ops.stack(finite)))
        if not good:
            self.scale *= self.backoff
            self.good = 0
            return False
        optimizer.step()
        self.good += 1
        if self.good == self.interval:
            self.scale *= self.growth
            self.good = 0
        return True

    def state_dict(self) -> dict[str, float]:
        """The scale and how long it has been good."""
        return {"scale": self.scale, "good": self.good}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
            CheckpointError: if it is no such state.
        """
        try:
            self.scale, self.good = float(state["scale"]), int(state["good"])
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"LossScaler: takes scale and good, got {state!r}") from None
