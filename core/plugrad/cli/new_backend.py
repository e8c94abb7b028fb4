"""``plugrad new-backend NAME``: the skeleton of a distribution with a backend, which is found and refuses every op."""

from __future__ import annotations

import re
import shutil
import tempfile
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated, Final

import typer

from plugrad.backend import API, backends
from plugrad.backend.null import NULL
from plugrad.errors import ArgumentError
from plugrad.version import VERSION

_FILES: Final = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "$package/__init__.py": "__init__.py",
    "$package/backend.py": "backend.py",
    "$package/buffer.py": "buffer.py",
    "$package/kernels.py": "kernels.py",
    "$package/conformance.toml": "conformance.toml",
    "tests/test_$name.py": "test_backend.py",
}
"""What is written, and the template that it is made of."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


def new_backend_command(
    name: Annotated[str, typer.Argument(help="The backend's name, as devices are named by it.")],
    directory: Annotated[
        Path, typer.Option(help="The folder that the distribution's folder, plugrad-NAME, goes into.")
    ] = Path(),
) -> None:
    """Write a new backend: a distribution that installs, is found, keeps arrays, and has no kernel yet."""
    folder = write_backend(name, directory)
    typer.echo(f"{folder} holds a backend named {name!r}, which keeps arrays and has no kernel yet. Now:")
    for step in (
        f"pip install -e '{folder}[test]'",
        "plugrad devices",
        f"plugrad conformance run {name} --level L0",
    ):
        typer.echo(f"  {step}")
    typer.echo(f"{folder / 'README.md'} says what to write next.")


def write_backend(name: str, directory: Path) -> Path:
    """Write the skeleton of a backend, whole or not at all.

    Args:
        name: the backend's name: lower-case letters, digits and underscores, a letter first.
        directory: the folder that it goes into.

    Returns:
        The new folder, ``plugrad-NAME`` in ``directory``.

    Raises:
        ArgumentError: if the name is no such name, or taken by an installed backend or a package; if the new folder
            is there already, or cannot be written.
    """
    _check_name(name)
    if not directory.is_dir():
        raise ArgumentError(f"new-backend: there is no folder {directory}")
    distribution = f"plugrad-{name.replace('_', '-')}"
    folder = directory / distribution
    if folder.exists():
        raise ArgumentError(
            f"new-backend: {folder} is there already; remove it, or choose another --directory"
        )
    words = {
        "name": name,
        "package": f"plugrad_{name}",
        "distribution": distribution,
        "class": "".join(w.capitalize() for w in name.split("_")) + "Backend",
        "version": VERSION,
        "api": str(API),
    }
    templates = resources.files("plugrad.cli") / "skeleton"
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{distribution}-", dir=directory))
        try:
            for target, template in _FILES.items():
                file = temporary / distribution / Template(target).substitute(words)
                file.parent.mkdir(parents=True, exist_ok=True)
                text = (templates / f"{template}.in").read_text(encoding="utf-8")
                file.write_text(Template(text).substitute(words), encoding="utf-8")
            (temporary / distribution).rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ArgumentError(f"new-backend: {folder} cannot be written: {error.strerror or error}") from error
    return folder


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ArgumentError(
            f"new-backend: {name!r} cannot name a backend: takes lower-case letters, digits and underscores, a letter "
            "first, such as mychip"
        )
    if name == NULL:
        raise ArgumentError(
            f"new-backend: {NULL!r} is the name of the core's own device without values; choose another"
        )
    for report in backends():
        if name in (report.name, *report.aliases):
            raise ArgumentError(
                f"new-backend: {name!r} is a backend of {report.distribution} {report.version} already; choose another name"
            )
    if find_spec(f"plugrad_{name}") is not None:
        raise ArgumentError(f"new-backend: there is a package plugrad_{name} already; choose another name")
