"""Running the user's script on a device, as ``python SCRIPT`` would."""

from __future__ import annotations

import random
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from plugrad.backend import use_device
from plugrad.dispatch.modes import changed
from plugrad.dispatch.observer import Observer
from plugrad.errors import PlugradError
from plugrad.random import Generator, replayed
from plugrad.spec import Device


class ScriptFailed(Exception):
    """The script raised; the message is its traceback."""


def run_script(
    file: Path, arguments: Sequence[str], device: Device, seed: int, observer: Observer
) -> dict[str, Any]:
    """Run a script on a device under an observer.

    The device is the current one, and the generators of plugrad, Python and NumPy start from ``seed``. Modules that
    lie beside the script are imported anew, so that what they make at import is on the device too.

    Returns:
        The script's global names.

    Raises:
        ScriptFailed: if it raises, or exits with anything but 0.
        BaseException: one that is no `Exception`.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # A generator of its own: that of the process may have a stream on one of the devices already.
    generator = replayed(Generator(seed).state_dict())
    with _as_program(file, arguments), use_device(device), generator, changed(observer=observer):
        try:
            return runpy.run_path(str(file), run_name="__main__")
        except SystemExit as error:
            if error.code in (None, 0):
                return {}
            raise ScriptFailed(f"{file} exits with {error.code!r}\n") from error
        except Exception as error:
            raise ScriptFailed(_traceback(error, file)) from error


@contextmanager
def _as_program(file: Path, arguments: Sequence[str]) -> Iterator[None]:
    """``sys`` as a script finds it; the modules of its folder are forgotten afterwards."""
    folder = file.resolve().parent
    argv, path, modules = sys.argv, list(sys.path), set(sys.modules)
    sys.argv = [str(file), *arguments]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path
        for name in set(sys.modules) - modules:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin is not None and Path(origin).is_relative_to(folder):
                del sys.modules[name]


def _traceback(error: Exception, file: Path) -> str:
    """The traceback from the script on. An error of plugrad's own is explained by its cause alone."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename != str(file):
        step = step.tb_next
    chain = error.__cause__ is not None or not isinstance(error, PlugradError)
    return "".join(traceback.format_exception(type(error), error, step, chain=chain))


__all__ = ["ScriptFailed", "run_script"]
