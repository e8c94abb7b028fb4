"""What ``plugrad train`` runs: it learns, it resumes, and it says what is wrong."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from plugrad.backend import resolve_device
from plugrad.train.jobs import JOBS, Settings


def run(name: str, folder: Path, **options: object) -> str:
    console = Console(record=True, width=200, file=io.StringIO())
    settings = Settings(resolve_device(None), folder=folder, console=console, **options)  # type: ignore[arg-type]
    JOBS[name](settings)
    return console.export_text()


def test_one_neuron_learns_and_or_not(tmp_path: Path) -> None:
    text = run("logic", tmp_path)
    for name in ("AND", "OR", "NOT"):
        assert re.search(rf"{name}: \d+ epochs, loss 0\.0\d+, accuracy 100%", text), text


def test_one_hidden_layer_learns_xor(tmp_path: Path) -> None:
    assert re.search(r"XOR: \d+ epochs, loss 0\.0\d+, accuracy 100%", run("xor", tmp_path))


def test_the_error_falls_as_width_grows(tmp_path: Path) -> None:
    text = run("curve", tmp_path)
    errors = [float(e) for e in re.findall(r"root mean square error (\d\.\d+)", text)]
    assert len(errors) == 4
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[0]


def test_digits_are_read_right(tmp_path: Path) -> None:
    text = run("digits", tmp_path)
    share = float(re.findall(r"([\d.]+)% of 360 held-back digits", text)[0])
    assert share >= 98.0
    again = run("digits", tmp_path, resume=True)
    assert "going on from" in again
    assert f"{share:.2f}%" in again


def cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from plugrad.cli import main; main()", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "digit"],
            "there is no training 'digit'; there are logic, xor, curve, digits; did you mean digits?",
        ),
        (["train", "xor", "--device", "nump"], "numpy"),
        (["train", "xor", "--device", "numpy:7"], "numpy:7"),
        (["train", "xor", "--resume"], "there is no checkpoint in runs/xor to resume; run without --resume"),
    ],
)
def test_bad_input_gets_one_clear_error(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_unknown_options_are_named(tmp_path: Path) -> None:
    done = cli("train", "xor", "--epoch", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert "--epochs" in done.stderr
    assert cli("train", "xor", "--epochs", "0", cwd=tmp_path).returncode == 2
