"""``plugrad train NAME``: a network learns, from nothing to a checkpoint."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from plugrad.backend import resolve_device, use_device
from plugrad.errors import ArgumentError
from plugrad.train.checkpoint import CheckpointStore
from plugrad.train.jobs import JOBS, Settings


def train_command(
    name: Annotated[str, typer.Argument(help=f"What is learned: {', '.join(JOBS)}.")],
    device: Annotated[
        str | None, typer.Option(help="Where it trains, such as numpy or name:1; see plugrad devices.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs there are to be, those resumed included.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of initialisation, data order and dropout.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    jit: Annotated[
        bool, typer.Option("--jit/--no-jit", help="Capture the training step, or run it op by op.")
    ] = True,
    folder: Annotated[Path, typer.Option(help="Where checkpoints go, in a folder of the job's name.")] = Path(
        "runs"
    ),
) -> None:
    """Train a network.

    logic: one neuron learns AND, OR and NOT. xor: one hidden layer learns XOR. curve: a network approximates
    a function, the better the wider it is. digits: a convolutional network reads handwritten digits.
    """
    if name not in JOBS:
        close = difflib.get_close_matches(name, JOBS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ArgumentError(f"train: there is no training {name!r}; there are {', '.join(JOBS)}{hint}")
    if resume and not any(CheckpointStore(p).latest() for p in _folders(folder / name)):
        raise ArgumentError(
            f"train: there is no checkpoint in {folder / name} to resume; run without --resume"
        )
    where = resolve_device(device)
    with use_device(where):
        JOBS[name](Settings(where, seed=seed, folder=folder, epochs=epochs, resume=resume, jit=jit))


def _folders(folder: Path) -> list[Path]:
    """The folders that may hold a job's checkpoints: its own, and one for each model that it trains."""
    return [folder, *(p for p in folder.glob("*") if p.is_dir())]
