"""Tensors in files: safetensors, written so that a file is there whole or not at all.

The format is that of https://huggingface.co/docs/safetensors, which PyTorch's and JAX's users read and write too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import safetensors
from safetensors.numpy import save as serialized

from plugrad import dtypes
from plugrad.convert import asarray, to_host
from plugrad.dtypes import DType
from plugrad.errors import CheckpointError
from plugrad.spec import Device
from plugrad.tensor import Tensor

# The format's own names. The library's reader for NumPy knows no bfloat16.
_DTYPES: Final[dict[str, DType]] = {
    "BOOL": dtypes.bool,
    "I8": dtypes.int8,
    "I16": dtypes.int16,
    "I32": dtypes.int32,
    "I64": dtypes.int64,
    "U8": dtypes.uint8,
    "U16": dtypes.uint16,
    "U32": dtypes.uint32,
    "U64": dtypes.uint64,
    "F16": dtypes.float16,
    "BF16": dtypes.bfloat16,
    "F32": dtypes.float32,
    "F64": dtypes.float64,
}
_ZIP: Final = b"PK\x03\x04"


def save_tensors(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Write tensors into a file. The same tensors give the same bytes.

    They go under a temporary name in the same folder, to the disk, and then under their own name: whatever
    happens meanwhile, a file that was there before stays whole.

    Args:
        tensors: the tensors by name.
        path: the file, by custom ``*.safetensors``.

    Raises:
        OSError: if it cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    content = serialized({name: np.asarray(to_host(t), order="C") for name, t in tensors.items()})
    try:
        with temporary.open("wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def load_tensors(path: str | os.PathLike[str], *, device: Device | str | None = None) -> dict[str, Tensor]:
    """The tensors in a file, by name.

    Args:
        path: a file that `save_tensors`, or another writer of the format, has written.
        device: where they go; by default the current device.

    Raises:
        CheckpointError: if the file cannot be read, is of another format, damaged, or has a dtype that plugrad has
            not.
        DTypeError: if the device has not the dtype of a tensor.
    """
    file = Path(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from error
    if content.startswith(_ZIP):
        raise CheckpointError(
            f"{file} is a zip archive, as torch.save writes it, and no safetensors file; write the state dict with "
            "safetensors.torch.save_file"
        )
    try:
        parts = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{file} is no safetensors file, or is damaged: {error}") from error
    del content
    for name, part in parts.items():
        if part["dtype"] not in _DTYPES:
            raise CheckpointError(
                f"{file}: the tensor {name!r} is {part['dtype']}; takes {', '.join(_DTYPES)}"
            )
    found = {}
    for name in sorted(parts):
        part = parts.pop(name)
        host = np.frombuffer(part["data"], _DTYPES[part["dtype"]].numpy).reshape(part["shape"])
        found[name] = asarray(host, device=device)
    return found


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


__all__ = ["load_tensors", "save_tensors", "sync_folder"]
