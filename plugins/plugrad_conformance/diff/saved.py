"""A parting in a file: the inputs, and what either device made of them, to be computed again anywhere.

The file is in the format of https://huggingface.co/docs/safetensors. The arrays are its tensors; its metadata hold,
under ``plugrad_diff``, JSON that says which op they belong to, and how.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
from safetensors.numpy import save

from plugrad.dispatch.statement import all_ops
from plugrad.dtypes import DType, as_dtype
from plugrad.errors import ArgumentError
from plugrad.spec import Device, Spec
from plugrad_conformance.diff.application import Application, Host, Number
from plugrad_conformance.diff.lockstep import Parting

FORMAT: Final = 1
_KEY: Final = "plugrad_diff"
_HERE: Final = Device("null")
"""Stands for whichever device computes."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What a file holds.

    Attributes:
        application: the application.
        devices: the names of the two devices.
        line: the user's line.
        expected, got: the results of either.
    """

    application: Application
    devices: tuple[str, str]
    line: str
    expected: tuple[Host | None, ...]
    got: tuple[Host | None, ...]


def write(parting: Parting, folder: Path) -> Path:
    """Write a parting into a file of ``folder``, which is made where it is not there; returns the file.

    Raises:
        OSError: if it cannot be written.
    """
    arrays: dict[str, Host] = {}

    def put(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return [put(f"{name}.{i}", v) for i, v in enumerate(value)]
        if isinstance(value, Number):
            return {"number": value.value, "dtype": value.dtype.name}
        if value is None:
            return None
        arrays[name] = np.asarray(value, order="C")
        return {"array": name, "dtype": as_dtype(value.dtype).name}

    application = parting.application
    description = {
        "format": FORMAT,
        "op": application.op.name,
        "attributes": {k: _encoded(v) for k, v in application.attributes.items()},
        "matmul_precision": application.precision,
        "dtypes": application.dtypes and [d and d.name for d in application.dtypes],
        "inputs": put("input", application.inputs),
        "expected": put("expected", parting.expected),
        "got": put("got", parting.got),
        "devices": [str(d) for d in parting.devices],
        "line": parting.line,
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{application.op.name}-{parting.number}.safetensors"
    file.write_bytes(save(arrays, metadata={_KEY: json.dumps(description)}))
    return file


def read(file: Path) -> Saved:
    """What `write` wrote.

    Raises:
        ArgumentError: if the file cannot be read, or is another one.
    """
    try:
        content = file.read_bytes()
        with safetensors.safe_open(file, framework="numpy") as opened:
            text = (opened.metadata() or {})[_KEY]
        parts = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
        description = json.loads(text)
        if description["format"] != FORMAT:
            raise ArgumentError(
                f"{file} is of format {description['format']}, and this plugrad reads {FORMAT}; write it again"
            )
        op = all_ops().get(description["op"])
        if op is None:
            raise ArgumentError(
                f"{file} holds the op {description['op']!r}, which is not stated here: what states it is not imported"
            )

        def get(value: Any) -> Any:
            if isinstance(value, list):
                return tuple(map(get, value))
            if value is None:
                return None
            dtype = as_dtype(value["dtype"])
            if "number" in value:
                return Number(value["number"], dtype)
            part = parts[value["array"]]
            return np.frombuffer(part["data"], dtype.numpy).reshape(part["shape"])

        dtypes = description["dtypes"]
        application = Application(
            op,
            get(description["inputs"]),
            {k: _decoded(v) for k, v in description["attributes"].items()},
            description["matmul_precision"],
            dtypes and tuple(d and as_dtype(d) for d in dtypes),
        )
        first, second = description["devices"]
        return Saved(
            application,
            (first, second),
            description["line"],
            get(description["expected"]),
            get(description["got"]),
        )
    except OSError as error:
        raise ArgumentError(f"{file} cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"{file} is no file that plugrad diff wrote, or is damaged: {error}") from error


def _encoded(value: Any) -> Any:
    """An attribute as JSON takes it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_encoded(v) for v in value]
    if isinstance(value, DType):
        return {"dtype": value.name}
    if isinstance(value, Device):
        return {"device": None}
    if isinstance(value, Spec):
        return {"spec": list(value.shape), "dtype": value.dtype.name}
    raise ArgumentError(f"an attribute of type {type(value).__name__} cannot be saved: {value!r}")


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_decoded, value))
    if not isinstance(value, Mapping):
        return value
    if "spec" in value:
        return Spec(_shape(value["spec"]), as_dtype(value["dtype"]), _HERE)
    return as_dtype(value["dtype"]) if "dtype" in value else _HERE


def _shape(sizes: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(n) for n in sizes)


__all__ = ["Saved", "read", "write"]
