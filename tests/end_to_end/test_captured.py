"""Every training of ``plugrad train`` comes to the same bits captured and op by op.

On a device whose kernels are generated from graphs, which compute several ops as one, it comes to the same losses.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from plugrad.backend import backend_of, resolve_device
from plugrad.cli import main
from plugrad.train.jobs import JOBS, Settings


def trained(name: str, folder: Path, jit: bool) -> dict[str, Any]:
    """What the newest checkpoint of each model holds after a few epochs."""
    epochs = 2 if name == "digits" else 12
    JOBS[name](
        Settings(
            resolve_device(None),
            folder=folder,
            epochs=epochs,
            console=Console(file=io.StringIO()),
            jit=jit,
        )
    )
    found: dict[str, Any] = {}
    for state in sorted(folder.rglob("state.json")):
        where = state.parent
        content = json.loads(state.read_text(encoding="utf-8"))
        content.pop("files", None)
        tensors = (where / "tensors.safetensors").read_bytes()
        found[str(where.relative_to(folder))] = content, tensors
    return found


@pytest.mark.parametrize("name", JOBS)
def test_a_job_learns_the_same_captured(name: str, tmp_path: Path) -> None:
    captured, eager = trained(name, tmp_path / "captured", True), trained(name, tmp_path / "eager", False)
    assert captured.keys() == eager.keys() != set()
    device = resolve_device(None)
    generated = backend_of(device).capabilities(device).generating
    for where, (state, tensors) in captured.items():
        assert state["history"] != []
        other, its_tensors = eager[where]
        if generated:
            for a, b in zip(state["history"], other["history"], strict=True):
                assert a == pytest.approx(b, rel=1e-3, abs=5e-3)
        else:
            assert state == other
            assert tensors == its_tensors


def test_the_command_takes_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setitem(JOBS, "xor", lambda settings: seen.append(settings.jit))
    for option in ([], ["--jit"], ["--no-jit"]):
        monkeypatch.setattr("sys.argv", ["plugrad", "train", "xor", "--folder", str(tmp_path), *option])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
    assert seen == [True, True, False]
