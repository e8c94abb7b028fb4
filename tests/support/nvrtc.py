"""NVRTC, the compiler of CUDA C++, from the distribution `nvidia-cuda-nvrtc`: it needs neither a GPU nor a driver."""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

_DISTRIBUTION = "nvidia-cuda-nvrtc"


@dataclass(frozen=True)
class Compiled:
    """What the assembler says of a kernel.

    Attributes:
        name: the kernel.
        registers: registers of a thread.
        spilled: bytes that a thread keeps in memory as registers do not suffice.
    """

    name: str
    registers: int
    spilled: int


def available() -> bool:
    """Whether the distribution is installed."""
    try:
        importlib.metadata.distribution(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@cache
def _library() -> Any:
    files = importlib.metadata.files(_DISTRIBUTION) or []
    found = next(f for f in files if re.fullmatch(r"libnvrtc\.so\.\d+", f.name))
    return ctypes.CDLL(str(found.locate()))


def compile_kernels(text: str, architecture: str) -> list[Compiled]:
    """Compile a text to a cubin of an architecture such as ``sm_90``.

    Raises:
        RuntimeError: if it does not compile, with what the compiler said.
    """
    nvrtc, program = _library(), ctypes.c_void_p()
    assert not nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    try:
        options = [o.encode() for o in ("--std=c++17", f"-arch={architecture}", "--ptxas-options=-v")]
        failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, buffer)
        log = buffer.value.decode()
        if failed:
            raise RuntimeError(log)
        assert not nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
        assert size.value
        return _read(log)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(log: str) -> list[Compiled]:
    found = []
    for part in log.split("Compiling entry function ")[1:]:
        name = part.split("'")[1]
        registers = re.search(r"Used (\d+) registers", part)
        spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", part))
        assert registers is not None, part
        found.append(Compiled(name, int(registers[1]), spilled))
    return found


def together(texts: Sequence[str], names: Sequence[str]) -> str:
    """Texts of one kernel each as one text: what they define gets a name of its own in each."""
    parts = []
    for i, (text, name) in enumerate(zip(texts, names, strict=True)):
        defined = {name, *re.findall(r"\b(\w+)\([^()]*\)\s*\n?\{", text)}
        for word in defined - {"for", "if", "while", "switch"}:
            text = re.sub(rf"\b{word}\b(?=\()", f"{word}_{i}", text)
        parts.append(text)
    return "\n".join(parts)
