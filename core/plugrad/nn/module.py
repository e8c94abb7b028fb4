"""`Module`: a function with parameters, made of other modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, Final, NamedTuple, Self

from plugrad.dispatch.epoch import changes, changing, made, note, snapshot
from plugrad.dtypes import DType
from plugrad.errors import ArgumentError, GradientError
from plugrad.nn._common import DeviceLike, DTypeLike
from plugrad.nn._state import move, take_over
from plugrad.spec import Device
from plugrad.tensor import Tensor

# What a module keeps under a name. The values themselves are ordinary attributes, so that reading one costs
# nothing; the kind stays where the value is None.
_PARAMETER: Final = "parameter"
_BUFFER: Final = "buffer"
_TEMPORARY: Final = "temporary buffer"
_MODULE: Final = "module"

_OWN: Final = ("training", "_kinds")
_ABSENT: Final = object()


class LoadReport(NamedTuple):
    """What `Module.load_state_dict` did not find a counterpart for.

    Attributes:
        missing: names of the module that the state dict has not.
        unexpected: names of the state dict that the module has not.
    """

    missing: list[str]
    unexpected: list[str]


def Parameter(data: Tensor) -> Tensor:  # noqa: N802 - PyTorch's name
    """A leaf that requires a gradient, with the value of ``data``: what a module keeps as a parameter.

    To freeze a parameter set ``requires_grad`` of it to False once the module has it.

    Raises:
        ArgumentError: if ``data`` is no tensor.
        GradientError: if its dtype is not floating.
    """
    if not isinstance(data, Tensor):
        raise ArgumentError(f"Parameter: takes a tensor, got {type(data).__name__}; wrap it in asarray")
    return data.detach().requires_grad_()


class Module:
    """A function with parameters, made of other modules.

    A subclass makes its parts in ``__init__`` and uses them in ``forward``; calling the module calls
    ``forward``::

        class Classifier(nn.Module):
            def __init__(self):
                super().__init__()
                self.hidden = nn.Linear(784, 128)
                self.out = nn.Linear(128, 10)

            def forward(self, x):
                return self.out(plugrad.relu(self.hidden(x)))

    Assignment registers what is assigned: a module, and a leaf that requires a gradient (`Parameter`), which is a
    parameter from then on, frozen or not. Other tensors that belong to the state are buffers
    (`register_buffer`). Names are those of the attributes, joined by dots: ``hidden.weight``.

    Attributes:
        training: whether the module is in training mode, which layers such as dropout ask for.
    """

    training: bool
    _kinds: dict[str, str]

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """A module that has registered nothing yet."""
        # Here and not in __init__, so that a dataclass or a forgotten super().__init__() does no harm.
        module = super().__new__(cls)
        module.__dict__["_kinds"] = {}
        module.__dict__["training"] = True
        made(module)
        return module

    def __init__(self) -> None:
        pass

    def _no_forward(self, *_: Any, **__: Any) -> Any:
        """Raise: a module that can be called has a forward.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward: define it, or call a module inside")

    # Of any signature, for the type checker.
    forward: Callable[..., Any] = _no_forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What ``forward`` gives."""
        note(self)
        return self.forward(*args, **kwargs)

    # -- what it is made of -------------------------------------------------------------------------------

    def __guard__(self) -> object:
        """The attributes of this module and of those below, as captured functions have read them."""
        return [snapshot(m.__dict__) for m in self.modules()]

    def __attribute__(self, name: str) -> tuple[object, Callable[[], None]]:
        """An attribute and its kind, and what sets them back."""
        before: Any = self.__dict__.get(name, _ABSENT)
        kind: Any = self._kinds.get(name, _ABSENT)

        def undo() -> None:
            for values, value in ((self.__dict__, before), (self._kinds, kind)):
                if value is _ABSENT:
                    values.pop(name, None)
                else:
                    values[name] = value
            changes()

        return before, undo

    def __setattr__(self, name: str, value: Any) -> None:
        differs = self.__dict__.get(name, self) is not value
        if differs:
            changing(self, name)
        if isinstance(value, Module):
            self._register(name, value, _MODULE)
        elif isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
            self._register(name, value, _PARAMETER)
        else:
            kind = self._kinds.get(name)
            if kind is not None and value is not None:
                self._check_kind(name, value, kind)
            elif isinstance(value, (list, tuple, dict)):
                self._check_hidden(name, value)
            object.__setattr__(self, name, value)
        if differs:
            changes()

    def __delattr__(self, name: str) -> None:
        changing(self, name)
        object.__delattr__(self, name)
        self._kinds.pop(name, None)
        changes()

    def _register(self, name: str, value: Tensor | Module | None, kind: str) -> None:
        what = f"{type(self).__name__}: the {kind} {name!r}"
        if not isinstance(name, str) or not name or "." in name:
            raise ArgumentError(f"{what} needs another name: one that is not empty and has no dot")
        if name in _OWN or isinstance(getattr(type(self), name, None), (FunctionType, property)):
            raise ArgumentError(f"{what} needs another name: {name!r} is an attribute of the class")
        if isinstance(value, Module) and any(m is self for m in value.modules()):
            raise ArgumentError(
                f"{what} has this module inside: its names would have no end; object.__setattr__ keeps a reference"
            )
        changing(self, name)
        object.__setattr__(self, name, value)
        self._kinds[name] = kind
        changes()

    def _check_kind(self, name: str, value: Any, kind: str) -> None:
        what = f"{type(self).__name__}: {name!r} is a {kind}"
        if kind == _MODULE:
            raise ArgumentError(f"{what}, takes a module or None, got {type(value).__name__}; del it first")
        if not isinstance(value, Tensor):
            raise ArgumentError(f"{what}, takes a tensor or None, got {type(value).__name__}; del it first")
        if kind == _PARAMETER:
            raise ArgumentError(
                f"{what}, takes a leaf that requires a gradient: assign nn.Parameter(tensor), or change its value "
                f"with .{name}.assign(tensor) under plugrad.no_grad()"
            )

    def _check_hidden(self, name: str, value: Any) -> None:
        """Raise for a container whose modules or parameters would silently not be trained, moved or saved."""
        for item in value.values() if isinstance(value, dict) else value:
            hidden = isinstance(item, Module) or (
                isinstance(item, Tensor) and item.requires_grad and item.is_leaf
            )
            if hidden:
                raise ArgumentError(
                    f"{type(self).__name__}: modules and parameters in a {type(value).__name__} under {name!r} "
                    "would not be trained, moved or saved: use nn.ModuleList, nn.ModuleDict or attributes; "
                    "object.__setattr__ hides them on purpose"
                )

    def register_parameter(self, name: str, parameter: Tensor | None) -> None:
        """Keep a leaf as a parameter, frozen where it requires no gradient; None reserves the name.

        Raises:
            ArgumentError: if the name cannot be one, or ``parameter`` is no tensor.
            GradientError: if an op made it.
        """
        if parameter is not None and not isinstance(parameter, Tensor):
            raise ArgumentError(f"register_parameter: takes a tensor, got {type(parameter).__name__}")
        if parameter is not None and not parameter.is_leaf:
            raise GradientError(f"register_parameter: an op made {name!r}: use nn.Parameter(tensor)")
        self._register(name, parameter, _PARAMETER)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Keep a tensor that is not learned but moves with the module; None reserves the name.

        Args:
            name: the attribute.
            tensor: its value.
            persistent: whether it is a part of the state dict.

        Raises:
            ArgumentError: if the name cannot be one, or ``tensor`` is no tensor.
        """
        if tensor is not None and not isinstance(tensor, Tensor):
            raise ArgumentError(f"register_buffer: takes a tensor, got {type(tensor).__name__}")
        self._register(name, tensor, _BUFFER if persistent else _TEMPORARY)

    def register_module(self, name: str, module: Module | None) -> None:
        """Keep a module under a name, as assignment does; None reserves the name.

        Raises:
            ArgumentError: if the name cannot be one, or ``module`` is no module.
        """
        if module is not None and not isinstance(module, Module):
            raise ArgumentError(f"register_module: takes a module, got {type(module).__name__}")
        self._register(name, module, _MODULE)

    add_module = register_module

    def _own(self, *kinds: str) -> list[tuple[str, Any]]:
        """What this module itself keeps of these kinds."""
        values = self.__dict__
        return [(n, values[n]) for n, k in self._kinds.items() if k in kinds and values[n] is not None]

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that this one is made of, by name."""
        return iter(self._own(_MODULE))

    def children(self) -> Iterator[Module]:
        """The modules that this one is made of."""
        values = self.__dict__
        return iter([values[n] for n, k in self._kinds.items() if k == _MODULE and values[n] is not None])

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all below it, by name; one that is reached twice comes once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if remove_duplicate:
                if id(module) in seen:
                    continue
                seen.add(id(module))
            yield path, module
            stack += reversed([(f"{path}.{n}" if path else n, m) for n, m in module.named_children()])

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (m for _, m in self.named_modules())

    def _named(
        self, kinds: tuple[str, ...], prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Tensor]]:
        owners = self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]
        seen: set[int] = set()
        for path, module in owners:
            for name, tensor in module._own(*kinds):
                if remove_duplicate:
                    if id(tensor) in seen:
                        continue
                    seen.add(id(tensor))
                yield f"{path}.{name}" if path else name, tensor

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The parameters by name.

        Args:
            prefix: put before every name, with a dot.
            recurse: those of the modules below too.
            remove_duplicate: give one that several modules share once, under its first name.
        """
        return self._named((_PARAMETER,), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """The parameters, each once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The buffers by name; the arguments are those of `named_parameters`."""
        return self._named((_BUFFER, _TEMPORARY), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def num_parameters(self, trainable: bool = False) -> int:
        """The number of elements of all parameters; of those that require a gradient, if ``trainable``."""
        return sum(p.size for p in self.parameters() if p.requires_grad or not trainable)

    def get_submodule(self, target: str) -> Module:
        """The module of this name; ``""`` is this one.

        Raises:
            ArgumentError: if there is none.
        """
        module = self
        for part in target.split(".") if target else ():
            found = module.__dict__.get(part)
            if not isinstance(found, Module):
                raise ArgumentError(f"get_submodule: {type(self).__name__} has no module {target!r}")
            module = found
        return module

    def __tensors__(self) -> dict[str, Tensor]:
        """The parameters by name: what `plugrad.tree` says about objects that own tensors."""
        return dict(self.named_parameters())

    # -- what can be set ----------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or evaluation mode, of this module and all below; returns this module."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode of this module and all below; returns this module."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let all parameters require a gradient, or freeze them; returns this module."""
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Let go of the gradients of all parameters."""
        for p in self.parameters():
            if p.requires_grad:
                p.grad = None

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every module below and then on this one; returns this module."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(
        self,
        *targets: Device | DType | str,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> Self:
        """Move the parameters and buffers to a device, or cast the floating ones, or both; returns this module.

        The tensors stay the objects that they are, with their gradients: an optimizer made before keeps its
        parameters. The state that it keeps for them does not move: make the optimizer afterwards.

        Args:
            targets: a device, a floating dtype, or both.
            device: the device.
            dtype: the dtype.

        Raises:
            DTypeError: if the dtype is not floating, or the device has not the dtype of a tensor.
            DeviceError: if there is no such device. Nothing has changed then.
        """
        tensors = [*self.parameters(), *self.buffers()]
        move(type(self).__name__, tensors, targets, device, dtype)
        return self

    # -- its state ----------------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """The values of the parameters and persistent buffers by name, as they are now: training goes on without them.

        A tensor that several modules share stands under each of its names, as in PyTorch.

        Args:
            prefix: put before every name, with a dot.
        """
        return {name: t.detach() for name, t in self._state(prefix)}

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules(prefix, remove_duplicate=False):
            for kind in (_PARAMETER, _BUFFER):
                for name, tensor in module._own(kind):
                    yield f"{path}.{name}" if path else name, tensor

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadReport:
        """Take over the values of a state dict, cast to the dtypes and moved to the devices of this module.

        Args:
            state_dict: tensors, or what `asarray` takes, by name.
            strict: raise where names have no counterpart. Shapes must fit in any case.

        Returns:
            The names without a counterpart. A shared tensor is there if one of its names is.

        Raises:
            CheckpointError: if the names or the shapes do not fit; all that do not are listed, and nothing
                has changed.
        """
        return LoadReport(*take_over(type(self).__name__, dict(self._state()), state_dict, strict))

    # -- how it looks -------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What the repr says of this module beside its name and its modules."""
        return ""

    def __repr__(self) -> str:
        own = self.extra_repr()
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        if not lines:
            return f"{type(self).__name__}({own})"
        body = "\n  ".join([*own.split("\n"), *lines] if own else lines)
        return f"{type(self).__name__}(\n  {body}\n)"


__all__ = ["LoadReport", "Module", "Parameter"]
