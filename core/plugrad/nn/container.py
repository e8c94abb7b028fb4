"""Modules made of modules: a sequence, a list, a dict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from plugrad.errors import ArgumentError
from plugrad.nn.module import Module


def _checked(container: Module, module: Any) -> Module:
    if not isinstance(module, Module):
        raise ArgumentError(f"{type(container).__name__}: takes modules, got {type(module).__name__}")
    return module


class _Numbered(Module):
    """Modules under the names ``"0"``, ``"1"``, ..., unless they were given others."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def append(self, module: Module) -> Self:
        """Add a module at the end; returns this container."""
        self.register_module(str(len(self)), _checked(self, module))
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end; returns this container."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put a module before the one at ``index``; those after it move on by one."""
        modules = list(self)
        modules.insert(index, _checked(self, module))
        self._renumber(modules)

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: Any) -> Any:
        """The module at an index, from the end if it is negative; for a slice, a container of those."""
        if isinstance(index, slice):
            names = list(self.named_children())[index]
            part = type(self)()
            for i, (name, module) in enumerate(names):
                part.register_module(str(i) if name.isdigit() else name, module)
            return part
        return self.__dict__[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self.register_module(self._name(index), _checked(self, module))

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        if isinstance(index, slice):
            del modules[index]
        else:
            self._name(index)
            del modules[index]
        self._renumber(modules)

    def _name(self, index: int) -> str:
        names = [name for name, _ in self.named_children()]
        if not -len(names) <= index < len(names):
            raise IndexError(f"{type(self).__name__}: there is no module {index}, it has {len(names)}")
        return names[index]

    def _renumber(self, modules: list[Module]) -> None:
        named = {id(m): n for n, m in self.named_children() if not n.isdigit()}
        for name, _ in list(self.named_children()):
            delattr(self, name)
        for i, module in enumerate(modules):
            self.register_module(named.get(id(module), str(i)), module)


class Sequential(_Numbered):
    """Modules one after the other: each takes what the one before gives.

    Takes the modules as arguments, or one mapping of names to modules.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, named in modules[0].items():
                self.register_module(name, _checked(self, named))
            return
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise ArgumentError(
                    f"Sequential: takes modules, argument {i} is {type(module).__name__}; "
                    "for a function there is a module, such as nn.ReLU()"
                )
            self.append(module)

    def forward(self, x: Any) -> Any:
        """What the last module gives."""
        for module in self.children():
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules, whose parameters belong to the module that has it."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__(modules)


class ModuleDict(Module):
    """Modules by name, whose parameters belong to the module that has it."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add modules by name; one that is there already is replaced."""
        for name, module in modules.items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        for own, module in self.named_children():
            if own == name:
                return module
        raise KeyError(name)

    def __setitem__(self, name: str, module: Module) -> None:
        self.register_module(name, _checked(self, module))

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.named_children())

    def __contains__(self, name: object) -> bool:
        return any(own == name for own in self)

    def keys(self) -> list[str]:
        """The names."""
        return list(self)

    def values(self) -> list[Module]:
        """The modules."""
        return list(self.children())

    def items(self) -> list[tuple[str, Module]]:
        """The names with their modules."""
        return list(self.named_children())


__all__ = ["ModuleDict", "ModuleList", "Sequential"]
