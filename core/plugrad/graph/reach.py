"""The guarded objects, modules and optimizers, that a function refers to, so that their attributes are watched.

A module that is called, and an optimizer that steps, note themselves while a function is captured. One whose
attributes are only read, ``model.weight``, is found here: among the arguments, in closures, in globals that the code
names, in containers of these, and in the attributes of objects that are there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from plugrad import tree
from plugrad.dispatch.data import TensorData
from plugrad.dispatch.epoch import Guarded
from plugrad.dispatch.op import Op

_DEPTH: Final = 3
"""How many functions and plain objects deep references are followed: ``self.trainer.model`` needs two."""


def guarded_in(fn: Any, leaves: Sequence[Any]) -> list[Guarded]:
    """Every guarded object that ``fn`` or its arguments refer to."""
    found: list[Guarded] = []
    seen: set[int] = set()
    stack: list[tuple[Any, int]] = [(fn, 0), *((x, 0) for x in leaves)]
    while stack:
        value, depth = stack.pop()
        if id(value) in seen or isinstance(value, (TensorData, ModuleType, type, Op)):
            continue
        seen.add(id(value))
        if hasattr(type(value), "__guard__"):
            found.append(value)
        # Of a module, its guard takes in what is below it.
        if depth <= _DEPTH and not tree.owns_tensors(value):
            stack += [(x, deeper) for x, deeper in _parts(value, depth)]
    return found


def _parts(value: Any, depth: int) -> Iterator[tuple[Any, int]]:
    if isinstance(value, MethodType):
        yield value.__self__, depth
        yield value.__func__, depth
    elif isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents, depth + 1
            except ValueError:  # not bound yet
                continue
        for x in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()):
            yield x, depth + 1
        for name in _names(value.__code__):
            if name in value.__globals__:
                yield value.__globals__[name], depth + 1
    elif isinstance(value, functools.partial):
        for x in (value.func, *value.args, *value.keywords.values()):
            yield x, depth
    elif hasattr(value, "__wrapped__"):  # a captured function, a cached one
        yield value.__wrapped__, depth + 1
    elif type(value) in (list, tuple, dict):
        for x in value.values() if isinstance(value, dict) else value:
            yield x, depth
    elif hasattr(value, "__dict__"):
        for x in list(vars(value).values()):
            yield x, depth + 1


def _names(code: CodeType) -> Iterator[str]:
    """The global names in code, and in that of functions inside."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
