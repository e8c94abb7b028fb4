"""Try the installed wheel as a user would: run from a folder outside the checkout, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path

import plugrad as pg

PROGRAM = """
import plugrad as pg

x = pg.asarray([1.0, 2.0, 3.0]).requires_grad_()
loss: pg.Tensor = (x * x).sum()
loss.backward()
print(x.grad)
"""


def run(*command: str, cwd: str) -> str:
    """The output of a command of this environment; its failure is ours."""
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Import, type-check, list the devices, train, and resume."""
    package = Path(pg.__file__).parent
    checkout = Path(__file__).resolve().parents[2]
    assert not package.is_relative_to(checkout / "core"), f"{package} is the checkout, not the wheel"
    assert (package / "py.typed").is_file(), "the wheel is not typed"
    base = {r.split(">")[0].strip() for r in requires("plugrad") or [] if "extra" not in r}
    assert base == {"ml-dtypes", "numpy", "pluggy", "rich", "safetensors", "typer"}, base
    binaries = Path(sys.executable).parent
    plugrad = str(binaries / "plugrad")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "program.py"
        script.write_text(PROGRAM)
        assert "[2., 4., 6.]" in run(sys.executable, "-W", "error", str(script), cwd=folder)
        run(sys.executable, "-m", "mypy", "--strict", str(script), cwd=folder)
        assert "numpy" in run(plugrad, "devices", cwd=folder)
        assert "matmul" in run(plugrad, "ops", cwd=folder)
        trained = run(plugrad, "train", "digits", "--epochs", "1", cwd=folder)
        assert "held-back digits" in trained, trained
        resumed = run(plugrad, "train", "digits", "--epochs", "2", "--resume", cwd=folder)
        assert "going on from" in resumed, resumed
        assert "after 2 epochs" in resumed, resumed
        failed = subprocess.run(
            [plugrad, "train", "digit"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert failed.returncode == 1
        assert "did you mean digits?" in failed.stderr, failed.stderr
        assert "Traceback" not in failed.stderr
    print("the wheel imports, is typed, lists devices and ops, trains, and resumes")


if __name__ == "__main__":
    main()
