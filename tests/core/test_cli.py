"""The ``plugrad`` command hands a plugin's command what is the plugin's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.distributions import PLUGIN_GROUP, install

ECHO = """\
from typing import Annotated
import typer
from plugrad.backend import hookimpl

def echo(
    first: str,
    rest: Annotated[list[str] | None, typer.Argument()] = None,
    loud: Annotated[bool, typer.Option("--loud")] = False,
) -> None:
    print(first, rest, loud)
    raise typer.Exit(7)

@hookimpl
def plugrad_commands():
    return {"echo": echo}
"""


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        (["a", "b", "--loud"], "a ['b'] True"),
        (["--loud", "a"], "a None True"),
        (["a", "--", "--loud", "-x"], "a ['--loud', '-x'] False"),
        (["--loud", "a", "--", "--loud"], "a ['--loud'] True"),
    ],
)
def test_the_arguments_of_a_plugins_command(tmp_path: Path, given: list[str], printed: str) -> None:
    install(tmp_path, "dist-echo", {PLUGIN_GROUP: {"command.echo": "plug_echo"}}, {"plug_echo": ECHO})
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    run = subprocess.run(
        [sys.executable, "-c", "from plugrad.cli import main; main()", "echo", *given],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == f"{printed}\n", run.stderr
    assert run.returncode == 7
