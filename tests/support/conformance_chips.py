"""Backends for the conformance suite, installed on the spot: a correct one under another name, with faults of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from core.distributions import BACKEND_GROUP, install

SOURCE = """\
import os, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent.parent
{first}

import numpy as np

import plugrad
from plugrad.backend import Kernel, KernelTable, hookimpl
from plugrad.dispatch.statement import all_ops
from plugrad_numpy import NumPyBackend

kernels = KernelTable()


def kernel(name):
    return kernels(all_ops()[name])


{kernels}

kernels.merge(NumPyBackend.kernels)
for name in {without!r}:
    del kernels._kernels[all_ops()[name]]


class Chip(NumPyBackend):
    name = "chip"

    def capabilities(self, device):
        there = super().capabilities(device)
        return replace(there, dtypes=frozenset(d for d in there.dtypes if d.name not in {lacks!r}))


Chip.kernels = kernels


@hookimpl
def plugrad_create_backend():
    return Chip()
"""


def source(
    *,
    first: str = "",
    kernels: str = "",
    without: Sequence[str] = (),
    lacks: Sequence[str] = (),
) -> str:
    """The source of a backend's module.

    Args:
        first: statements at import, before anything else.
        kernels: statements that register kernels, ``@kernel("add")``, before the correct ones.
        without: ops that have no kernel.
        lacks: dtypes that the device has not.
    """
    return SOURCE.format(first=first, kernels=kernels, without=tuple(without), lacks=tuple(lacks))


def install_chip(folder: Path, text: str, *, manifest: str | None = None) -> Path:
    """Install a distribution with the backend ``chip``, a package of one file with this text; that file's path."""
    package = folder / "package_of_chip"
    package.mkdir()
    modules = {"package_of_chip/__init__": text}
    install(folder, "dist-chip", {BACKEND_GROUP: {"chip": package.name}}, modules)
    if manifest is not None:
        (package / "conformance.toml").write_text(manifest)
    return package / "__init__.py"


def environment(folder: Path) -> dict[str, str]:
    """The environment of a process that finds what is installed in ``folder``, and what is importable here."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}


def command(*given: str) -> list[str]:
    """The command line of ``plugrad conformance``."""
    return [sys.executable, "-P", "-c", "from plugrad.cli import main; main()", "conformance", *given]


def conformance(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    """``plugrad conformance`` in a process that finds what is installed in ``folder``; it runs in that folder."""
    return subprocess.run(
        command(*given), cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
