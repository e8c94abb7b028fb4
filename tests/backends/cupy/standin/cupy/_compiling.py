"""A kernel's text as a function of the host, by the C++ compiler and the header `shim.hpp`."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

_SHIM: Final = Path(__file__).parent.parent / "shim.hpp"
_COMPILER: Final = os.environ.get("CXX", "g++")
_OPTIONS: Final = ("-O1", "-shared", "-fPIC", "-fwrapv", "-ffp-contract=off", "-w")
_FOLDER: Final = Path(os.environ.get("PLUGRAD_STANDIN_CACHE") or tempfile.mkdtemp(prefix="plugrad-standin-"))


def compiled(text: str, name: str) -> Any:
    """The function that runs a grid: it takes the numbers of groups, of threads, and pointers to the arguments.

    Raises:
        RuntimeError: if the compiler does not take the text, with what it said.
    """
    text = (
        f'#include "{_SHIM}"\n{text}\n'
        'extern "C" void launch(const unsigned *grid, const unsigned *block, void **arguments)\n'
        f"{{ run({name}, grid, block, arguments); }}\n"
    )
    key = hashlib.sha256((text + _SHIM.read_text()).encode()).hexdigest()[:32]
    library = _FOLDER / f"{key}.so"
    if not library.exists():
        _FOLDER.mkdir(parents=True, exist_ok=True)
        own = _FOLDER / f"{key}.{os.getpid()}"
        done = subprocess.run(
            [_COMPILER, *_OPTIONS, "-x", "c++", "-", "-o", str(own), "-lm"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        own.replace(library)
    return ctypes.CDLL(str(library)).launch
