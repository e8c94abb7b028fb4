"""Checkpoints: folders that appear whole or not at all.

A checkpoint is a folder ``checkpoint-000012`` with ``tensors.safetensors`` and ``state.json``; the numbers count
the checkpoints of the folder, over all the runs that used it. It is written under
a temporary name, synced to the disk and renamed, so that a run that is killed at any moment leaves the last
one as it was. The JSON holds the hash of the tensors, so that a damaged file is told from a good one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from plugrad.errors import ArgumentError, CheckpointError
from plugrad.storage import load_tensors, save_tensors, sync_folder
from plugrad.tensor import Tensor
from plugrad.version import VERSION

FORMAT: Final = "plugrad.checkpoint"
FORMAT_VERSION: Final = 1
_NAME: Final = re.compile(r"checkpoint-(\d{6,})")
_TENSORS: Final = "tensors.safetensors"
_STATE: Final = "state.json"


class CheckpointStore:
    """The checkpoints of one training, in one folder.

    Attributes:
        folder: where they are; it is made when the first one is written.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2) -> None:
        if keep < 1:
            raise ArgumentError(f"CheckpointStore: keep takes a number of at least 1, got {keep}")
        self.folder = Path(folder)
        self.keep = keep

    def all(self) -> list[Path]:
        """The checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [(int(m[1]), p) for p in self.folder.iterdir() if (m := _NAME.fullmatch(p.name))]
        return [p for _, p in sorted(found)]

    def latest(self) -> Path | None:
        """The newest checkpoint, None before the first."""
        found = self.all()
        return found[-1] if found else None

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then let go of those beyond `keep`.

        Args:
            tensors: its tensors by name.
            state: everything else, as JSON takes it.

        Raises:
            CheckpointError: if it cannot be written; those before stay as they were.
        """
        newest = self.latest()
        number = 1 if newest is None else int(newest.name.rpartition("-")[2]) + 1
        final = self.folder / f"checkpoint-{number:06d}"
        temporary = self.folder / f".{final.name}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob(".checkpoint-*"):
                shutil.rmtree(old, ignore_errors=True)
            temporary.mkdir()
            save_tensors(tensors, temporary / _TENSORS)
            head = {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "plugrad": VERSION,
                "tensors_sha256": _hash(temporary / _TENSORS),
            }
            with (temporary / _STATE).open("w", encoding="utf-8") as f:
                json.dump({**head, **state}, f, indent=1)
                f.flush()
                os.fsync(f.fileno())
            sync_folder(temporary)
            temporary.rename(final)
            sync_folder(self.folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(f"checkpoint {final}: cannot be written: {error}") from error
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return final


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the current device, and the state of a checkpoint.

    Args:
        path: a checkpoint's folder.

    Raises:
        CheckpointError: if it is none, or is damaged; the file and what is wrong with it are named.
    """
    folder = Path(path)
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is no checkpoint: it has no {_STATE}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / _STATE} cannot be read: {error}; {_ADVICE}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{folder} is no checkpoint of plugrad: its {_STATE} does not say so")
    if state.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format version {state.get('format_version')}, this plugrad reads {FORMAT_VERSION}"
        )
    file = folder / _TENSORS
    try:
        found = _hash(file)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error}; {_ADVICE}") from error
    if found != state.get("tensors_sha256"):
        raise CheckpointError(f"{file} is damaged: its hash is not the one in {_STATE}; {_ADVICE}")
    return load_tensors(file), state


_ADVICE: Final = "remove this checkpoint's folder to go on from the one before"


def _hash(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
