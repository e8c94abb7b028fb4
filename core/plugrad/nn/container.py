"""Modules made of modules: a sequence, a list, a dict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from plugrad.errors import ArgumentError
from plugrad.nn.module import Module


class _Numbered(Module):
    """Modules under the names ``"0"``, ``"1"``, ..."""

    def __init__(self, modules: Iterable[Module]) -> None:
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> Any:
        """Add a module at the end; returns this container."""
        self.register_module(str(len(self)), module)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: Any) -> Any:
        modules = list(self.children())
        if isinstance(index, slice):
            return type(self)(*modules[index]) if isinstance(self, Sequential) else type(self)(modules[index])
        if not -len(modules) <= index < len(modules):
            raise IndexError(f"{type(self).__name__}: there is no module {index}, it has {len(modules)}")
        return modules[index]


class Sequential(_Numbered):
    """Modules one after the other: each takes what the one before gives.

    Takes the modules as arguments, or one mapping of names to modules.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            super().__init__(())
            for name, named in modules[0].items():
                self.register_module(name, named)
            return
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise ArgumentError(
                    f"Sequential: takes modules, argument {i} is {type(module).__name__}; "
                    "for a function there is a module, such as nn.ReLU()"
                )
        super().__init__(m for m in modules if isinstance(m, Module))

    def forward(self, x: Any) -> Any:
        """What the last module gives."""
        for module in self.children():
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules, whose parameters belong to the module that has it."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__(modules)

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end; returns this list."""
        for module in modules:
            self.append(module)
        return self


class ModuleDict(Module):
    """Modules by name, whose parameters belong to the module that has it."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        for name, module in (modules or {}).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        for own, module in self.named_children():
            if own == name:
                return module
        raise KeyError(name)

    def __setitem__(self, name: str, module: Module) -> None:
        self.register_module(name, module)

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
