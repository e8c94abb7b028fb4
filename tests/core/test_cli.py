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


def plugrad(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    """The command, where what stands in ``folder`` is installed too."""
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", "from plugrad.cli import main; main()", *given],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


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
    run = plugrad(tmp_path, "echo", *given)
    assert run.stdout == f"{printed}\n", run.stderr
    assert run.returncode == 7


def test_a_command_whose_extra_is_missing_says_what_to_install(tmp_path: Path) -> None:
    entry = {PLUGIN_GROUP: {"command.echo": "plug_echo [loud]"}}
    install(tmp_path, "dist-echo", entry, {"plug_echo": "import no_such_module\n" + ECHO})
    run = plugrad(tmp_path, "echo", "a")
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        "error: plugrad echo of dist-echo 1.0 is unavailable: the module 'no_such_module' is not installed; "
        "pip install 'dist-echo[loud]'\n"
    )


def test_a_command_that_is_broken_shows_where(tmp_path: Path) -> None:
    source = "def load():\n    return 1 / 0\n\nload()\n"
    install(tmp_path, "dist-echo", {PLUGIN_GROUP: {"command.echo": "plug_echo"}}, {"plug_echo": source})
    run = plugrad(tmp_path, "echo", "a")
    assert run.returncode == 1
    assert "plug_echo.py" in run.stderr
    assert "ZeroDivisionError" in run.stderr
