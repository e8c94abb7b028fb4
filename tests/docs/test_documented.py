"""Nothing public is without documentation, and everything documented is in the reference."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import plugrad
from plugrad.backend import hookspecs
from plugrad.dispatch.statement import all_ops

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "docs" / "reference").glob("*.md"))
DOCUMENTED = set(re.findall(r"^::: (plugrad[\w.]*)", REFERENCE, re.MULTILINE))
USER_PACKAGES = ("plugrad", "plugrad.nn", "plugrad.optim", "plugrad.data", "plugrad.train")


def modules() -> Iterator[ModuleType]:
    yield plugrad
    for info in pkgutil.walk_packages(plugrad.__path__, "plugrad."):
        yield importlib.import_module(info.name)


def public_names(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name, value in vars(module).items():
        if not name.startswith("_") and not inspect.ismodule(value):
            yield name, value


@pytest.mark.parametrize("module", list(modules()), ids=lambda m: m.__name__)
def test_modules_classes_and_functions_have_docstrings(module: ModuleType) -> None:
    assert (module.__doc__ or "").strip(), f"{module.__name__} has no docstring"
    for name, value in public_names(module):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").strip(), f"{module.__name__}.{name} has no docstring"
        if inspect.isclass(value):
            for member_name, member in vars(value).items():
                target = member.fget if isinstance(member, property) else member
                target = target.__func__ if isinstance(target, (classmethod, staticmethod)) else target
                if member_name.startswith("_") or not inspect.isfunction(target):
                    continue
                inherited = any(member_name in vars(b) for b in value.__mro__[1:])
                assert inherited or (target.__doc__ or "").strip(), (
                    f"{module.__name__}.{name}.{member_name} has no docstring"
                )


def test_every_op_has_a_docstring_and_samples() -> None:
    for op in all_ops().values():
        if op.owner is None and not op.name.startswith(("dispatch_test", "howto")):
            assert (op.__doc__ or "").strip(), f"{op.name} has no docstring"
            assert op.sampler is not None, f"{op.name} states no samples"


def test_every_hook_has_a_docstring() -> None:
    hooks = [v for n, v in vars(hookspecs).items() if n.startswith("plugrad_")]
    assert len(hooks) >= 4
    for hook in hooks:
        assert len(hook.__doc__ or "") > 40, f"{hook.__name__} has no docstring"


def test_every_public_name_is_in_the_reference() -> None:
    for package in USER_PACKAGES:
        module = importlib.import_module(package)
        for name, value in public_names(module):
            home = getattr(value, "__module__", "") or ""
            if not home.startswith("plugrad."):
                continue
            assert home in DOCUMENTED or f"{home}.{name}" in DOCUMENTED, (
                f"{package}.{name} lives in {home}, which no page of docs/reference shows"
            )


def test_the_reference_shows_what_exists() -> None:
    for name in DOCUMENTED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("plugrad"):
                # A package whose extra is not installed here: its files are.
                package, *rest = name.split(".")
                file = Path(*rest).with_suffix(".py") if rest else Path("__init__.py")
                assert (ROOT / "backends" / package / file).is_file(), f"docs/reference shows {name}"
                continue
            parent, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(parent), attribute), f"docs/reference shows {name}"
