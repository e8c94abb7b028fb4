"""Parameters to a file and back."""

from __future__ import annotations

import os
from collections.abc import Mapping

from plugrad.errors import ArgumentError, CheckpointError
from plugrad.nn.module import Module
from plugrad.spec import Device
from plugrad.storage import load_tensors, save_tensors
from plugrad.tensor import Tensor


def save(source: Module | Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Write the state dict of a module, or tensors by name, to a safetensors file, whole or not at all.

    Raises:
        ArgumentError: if ``source`` is neither.
        CheckpointError: if the file cannot be written; one that was there stays as it was.
    """
    if isinstance(source, Module):
        source = source.state_dict()
    elif not isinstance(source, Mapping):
        raise ArgumentError(f"save: takes a module or tensors by name, got {type(source).__name__}")
    try:
        save_tensors(source, path)
    except OSError as error:
        raise CheckpointError(f"{os.fspath(path)} cannot be written: {error.strerror or error}") from error


def load(path: str | os.PathLike[str], device: Device | str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, for `Module.load_state_dict`.

    Raises:
        CheckpointError: if the file is missing, truncated, or no safetensors file.
    """
    return load_tensors(path, device=device)


__all__ = ["load", "save"]
