"""`Optimizer`: parameters in groups, a state for each parameter, and one step over all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from plugrad import ops
from plugrad.convert import asarray
from plugrad.dispatch.epoch import changes, changing, note, snapshot
from plugrad.dispatch.modes import changed
from plugrad.dispatch.tracing import copy_now, refuse
from plugrad.dtypes import DType, float32
from plugrad.errors import ArgumentError, CheckpointError, DTypeError, GradientError
from plugrad.spec import Device
from plugrad.tensor import Tensor


class ParamGroup:
    """Parameters that share settings.

    ``group.lr`` and ``group["lr"]`` are the same; the other settings too. The learning rate also stands in a
    0-d tensor, `rate`, which updates read, so that another value needs no new signature.

    Attributes:
        params: the parameters.
        settings: the settings by name, but the learning rate.
        rate: the learning rate as the updates read it.
    """

    def __init__(self, params: list[Tensor], lr: float, settings: dict[str, Any]) -> None:
        self.params = params
        self.settings = settings
        wide = [p.dtype for p in params if p.dtype.itemsize == 8]
        self.rate = asarray(lr, dtype=wide[0] if wide else float32, device=params[0].device)
        self.lr = lr

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        value = float(value)
        if not value >= 0:
            raise ArgumentError(f"lr: takes a number of at least 0, got {value}")
        refuse(
            "a learning rate is set",
            "set it, or step the schedule, after the call: it is read anew each time",
            "where it would be a constant",
        )
        self._lr = value
        self.rate.assign(asarray(value, dtype=self.rate.dtype, device=self.rate.device))

    def __getitem__(self, name: str) -> Any:
        if name in ("params", "lr"):
            return getattr(self, name)
        return self.settings[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "lr":
            self.lr = value
        elif name in self.settings:
            changing(self, name)
            self.settings[name] = value
            changes()
        else:
            raise ArgumentError(f"param group: no setting {name!r}; there are lr, {', '.join(self.settings)}")

    def __guard__(self) -> object:
        """The parameters and the settings, as captured functions have read them."""
        return snapshot(self.settings), snapshot({str(i): p for i, p in enumerate(self.params)})

    def __attribute__(self, name: str) -> tuple[object, Callable[[], None]]:
        """A setting, and what sets it back."""
        before = self.settings[name]
        return before, lambda: self.__setitem__(name, before)

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in {"lr": self.lr, **self.settings}.items())
        return f"ParamGroup({len(self.params)} parameters, {shown})"


class Optimizer(ABC):
    """Changes parameters by their gradients.

    Its state exists from the start, so that a step changes values and never what there is.

    Attributes:
        param_groups: the groups.
        state: for each parameter, in the order of the groups, its state by name. Parameters that have been changed as
            often as each other share one tensor ``step``, so that their updates can be computed as one.
    """

    states: ClassVar[tuple[str, ...]] = ()
    """Names of the tensors that each parameter keeps, of its shape and dtype, beside ``step``."""

    def __init__(
        self, params: Iterable[Tensor] | Iterable[Mapping[str, Any]], lr: float, settings: dict[str, Any]
    ) -> None:
        """Take the parameters.

        Args:
            params: parameters, or mappings with ``params`` and the settings that differ for these.
            lr: the learning rate of groups that set none.
            settings: the other settings, likewise.

        Raises:
            ArgumentError: for no parameters, one that stands twice, or an unknown or impossible setting.
            GradientError: for a tensor that is no leaf.
            DTypeError: for one that is not floating.
        """
        name = type(self).__name__
        given = [params] if isinstance(params, Tensor) else list(params)
        if not given:
            raise ArgumentError(f"{name}: there are no parameters")
        groups = given if isinstance(given[0], Mapping) else [{"params": given}]
        self.param_groups: list[ParamGroup] = []
        self.state: list[dict[str, Tensor]] = []
        seen: set[int] = set()
        for group in groups:
            if not isinstance(group, Mapping) or "params" not in group:
                raise ArgumentError(f"{name}: params takes tensors, or mappings with the key 'params'")
            own = dict(group)
            members = own.pop("params")
            members = [members] if isinstance(members, Tensor) else list(members)
            rate = own.pop("lr", lr)
            unknown = set(own) - set(settings)
            if unknown:
                raise ArgumentError(
                    f"{name}: no setting {', '.join(map(repr, sorted(unknown)))}; there are lr, {', '.join(settings)}"
                )
            if not members:
                raise ArgumentError(f"{name}: a group has no parameters")
            for p in members:
                self._check_parameter(p, seen)
            merged = {**settings, **own}
            self.check(merged)
            self.param_groups.append(ParamGroup(members, rate, merged))
            self.state.extend(self._new_state(p) for p in members)
        self._share_steps([0.0] * len(self.state))

    def _check_parameter(self, p: Any, seen: set[int]) -> None:
        name = type(self).__name__
        if not isinstance(p, Tensor):
            raise ArgumentError(f"{name}: params takes tensors, got {type(p).__name__}")
        if not p.is_leaf:
            raise GradientError(f"{name}: a parameter must be a leaf; an op made this one")
        if not p.dtype.is_floating:
            raise DTypeError(f"{name}: a parameter must be floating, this one is {p.dtype}")
        if id(p) in seen:
            raise ArgumentError(f"{name}: a parameter stands twice")
        seen.add(id(p))

    def _new_state(self, p: Tensor) -> dict[str, Tensor]:
        wide = p.dtype if p.dtype.itemsize == 8 else float32
        state = {"step": asarray(0.0, dtype=wide, device=p.device)}
        for name in self.states:
            state[name] = self.initial(name, p)
        return state

    def initial(self, name: str, p: Tensor) -> Tensor:
        """The first value of the state ``name`` of a parameter."""
        del name
        return ops.zeros_like(p)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ArgumentError if a setting is impossible."""
        for name in ("weight_decay", "eps", "momentum", "lr_decay"):
            if name in settings and not settings[name] >= 0:
                raise ArgumentError(
                    f"{type(self).__name__}: {name} takes a number of at least 0, got {settings[name]}"
                )

    @abstractmethod
    def update(self, p: Tensor, grad: Tensor, state: dict[str, Tensor], group: ParamGroup) -> None:
        """Change one parameter and its state; ``state["step"]`` already counts this update."""

    def members(self) -> Iterator[tuple[Tensor, dict[str, Tensor], ParamGroup]]:
        """Every parameter with its state and its group."""
        states = iter(self.state)
        for group in self.param_groups:
            for p in group.params:
                yield p, next(states), group

    def __guard__(self) -> object:
        """The groups, their settings, and who shares a count of steps, as captured functions have read them."""
        steps = {str(i): state["step"] for i, state in enumerate(self.state)}
        return [g.__guard__() for g in self.param_groups], snapshot(steps)

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        note(self)
        with changed(recording=False, autocast=None):
            updated = [(*m, g) for m in self.members() if (g := m[0].grad) is not None]
            self._part_steps([state for _, state, _, _ in updated])
            for step in {id(state["step"]): state["step"] for _, state, _, _ in updated}.values():
                step.assign(step + 1)
            for p, state, group, grad in updated:
                self.update(p, grad, state, group)

    def _part_steps(self, stepping: list[dict[str, Tensor]]) -> None:
        """Give those of ``stepping`` that share a count with others a count of their own."""
        sharing = Counter(id(state["step"]) for state in self.state)
        taking = Counter(id(state["step"]) for state in stepping)
        new: dict[int, Tensor] = {}
        for state in stepping:
            key = id(state["step"])
            if taking[key] < sharing[key]:
                if key not in new:
                    new[key] = copy_now(
                        state["step"], "parameters of an optimizer that got gradients do not get them again"
                    )
                state["step"] = new[key]
        if new:
            changes()

    def _share_steps(self, counts: list[float]) -> None:
        """Let parameters of the same count of steps share one tensor, the first of them."""
        shared: dict[tuple[Device, DType, float], Tensor] = {}
        for state, count in zip(self.state, counts, strict=True):
            step = state["step"]
            state["step"] = shared.setdefault((step.device, step.dtype, count), step)
        changes()

    def zero_grad(self) -> None:
        """Let go of the gradients of all parameters."""
        note(self)
        for p, _, _ in self.members():
            if p.requires_grad:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The state by the parameters' numbers, and the groups' settings with those numbers, as PyTorch has it."""
        groups, at = [], 0
        for group in self.param_groups:
            numbers = list(range(at, at + len(group.params)))
            at += len(numbers)
            groups.append({"lr": group.lr, **group.settings, "params": numbers})
        return {
            "state": {i: {k: t.detach() for k, t in state.items()} for i, state in enumerate(self.state)},
            "param_groups": groups,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the state and the settings of `state_dict`.

        Raises:
            CheckpointError: if it does not fit these parameters; nothing has changed then.
        """
        name = type(self).__name__
        try:
            groups, state = state_dict["param_groups"], state_dict["state"]
            sizes = [len(g["params"]) for g in groups]
        except (KeyError, TypeError):
            raise CheckpointError(f"{name}: this is no state of an optimizer") from None
        if sizes != [len(g.params) for g in self.param_groups]:
            raise CheckpointError(
                f"{name}: the state has groups of {sizes} parameters, this optimizer of "
                f"{[len(g.params) for g in self.param_groups]}"
            )
        for group, saved in zip(self.param_groups, groups, strict=True):
            if set(saved) - {"params"} != {"lr", *group.settings}:
                raise CheckpointError(
                    f"{name}: the state has the settings {sorted(set(saved) - {'params'})}, this optimizer "
                    f"{sorted({'lr', *group.settings})}: it is another optimizer's"
                )
        taken: list[dict[str, Tensor]] = []
        for i, own in enumerate(self.state):
            saved = state.get(i, state.get(str(i)))
            if saved is None or set(saved) != set(own):
                raise CheckpointError(f"{name}: parameter {i} has no state {sorted(own)} in what is loaded")
            for key, tensor in own.items():
                if tuple(saved[key].shape) != tensor.shape:
                    raise CheckpointError(
                        f"{name}: {key} of parameter {i} has shape {tuple(saved[key].shape)}, takes {tensor.shape}"
                    )
            taken.append({k: asarray(saved[k], dtype=t.dtype, device=t.device) for k, t in own.items()})
        for own, new in zip(self.state, taken, strict=True):
            for key, tensor in own.items():
                if key != "step":
                    tensor.assign(new[key])
        self._load_steps([new["step"] for new in taken])
        for group, saved in zip(self.param_groups, groups, strict=True):
            for key in group.settings:
                group[key] = saved[key]
            group.lr = saved["lr"]

    def _load_steps(self, loaded: list[Tensor]) -> None:
        """Take over counts of steps; those who share one go on to do so where they can."""
        counts = [float(new) for new in loaded]
        together: dict[int, set[float]] = {}
        for own, count in zip(self.state, counts, strict=True):
            together.setdefault(id(own["step"]), set()).add(count)
        for own, new in zip(self.state, loaded, strict=True):
            if len(together[id(own["step"])]) == 1:
                own["step"].assign(new)
            else:
                own["step"] = new
        self._share_steps(counts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.param_groups))})"
