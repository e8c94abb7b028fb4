"""Compiled kernels on disk: what is damaged is compiled anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

_cache = pytest.importorskip(
    "plugrad_opencl._cache", reason="pyopencl is not installed", exc_type=ImportError
)

PROGRAM = """
import plugrad as pg
with pg.use_device("opencl"):
    x = pg.asarray([1.0, 2.0])
    print((x * 2 + 1).tolist(), x.sum().item())
"""


def run(folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != _cache.VARIABLE}
    environment["XDG_CACHE_HOME"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def stored(folder: Path) -> list[Path]:
    return [p for p in (folder / "plugrad" / "opencl" / "pocl").rglob("*") if p.is_file()]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the kernels of a program; the test of a damage makes them anew for the next one."""
    folder = tmp_path_factory.mktemp("cache")
    run(folder)
    if not any(p.suffix == ".so" for p in stored(folder)):
        pytest.skip("this driver is not PoCL")
    return folder


def test_a_second_process_finds_the_kernels(filled: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in stored(filled) if p.name != "last_accessed"}
    assert run(filled) == "[3.0, 5.0] 3.0"
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert list((filled / "plugrad/opencl/programs").iterdir())


def nonsense(path: Path) -> None:
    path.write_bytes(b"nonsense" * 20)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        (".so", nonsense),
        (".so", half),
        (".bc", nonsense),
        (".bc", half),
        (".bc", Path.unlink),
        (".sqlite", nonsense),
        (".json", half),
    ],
)
def test_a_damaged_file_is_made_anew(filled: Path, ending: str, damage: Callable[[Path], None]) -> None:
    damaged = [p for p in filled.rglob(f"*{ending}") if p.is_file()]
    assert damaged
    time.sleep(0.01)  # so that the time of writing is another
    for path in damaged:
        damage(path)
    assert run(filled) == "[3.0, 5.0] 3.0"
    if ending in (".so", ".bc"):
        assert all(p.stat().st_size > 0 for p in damaged if p.exists())


def test_a_damaged_program_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _cache.load("one") is None
    _cache.store("one", b"binary")
    assert _cache.load("one") == b"binary"
    (path,) = (tmp_path / "plugrad/opencl/programs").iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:20], whole + b"x", b"x" + whole[1:]):
        path.write_bytes(damaged)
        assert _cache.load("one") is None
    _cache.store("one", b"binary")
    assert _cache.load("one") == b"binary"


def test_a_program_that_the_driver_refuses_is_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import plugrad as pg
    from plugrad.graph.source import Source

    device = pg.asarray([1.0], device="opencl")._array.device
    monkeypatch.setattr(_cache, "load", lambda key: b"no program of this driver")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = "__kernel void refused(__global float *x) { x[0] = 3; }"
    x = pg.asarray([1.0], device="opencl")
    device.launch(Source("refused", text, ("memory",)), (1,), (1,), (x._array.memory,))
    assert x.tolist() == [3]


def test_what_a_process_left_that_was_stopped_is_removed(tmp_path: Path) -> None:
    """And what another one noted stays."""
    for name in ("AB/one/program.bc", "AB/one/kernel/1/kernel.so", "CD/two/program.bc", "temporary"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
    noted = {n: v for n, v in _cache.files(tmp_path).items() if n.startswith("AB/")}
    assert len(noted) == 2
    _cache.remove_damaged(tmp_path, json.loads(json.dumps(noted)))
    assert sorted(_cache.files(tmp_path)) == ["AB/one/kernel/1/kernel.so", "AB/one/program.bc"]
    (tmp_path / "AB/one/program.bc").write_bytes(b"more content")
    _cache.remove_damaged(tmp_path, noted)
    assert not _cache.files(tmp_path)


def test_files_are_noted_while_kernels_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pocl/AB/one").mkdir(parents=True)
    (tmp_path / "pocl/AB/one/program.bc").write_bytes(b"content")
    keeper = _cache._Keeper(tmp_path, None)
    monkeypatch.setattr(_cache, "keepers", [keeper])
    _cache.compiled()
    assert not (tmp_path / "noted.json").exists()
    keeper.last -= 2 * _cache.SECONDS
    _cache.compiled()
    assert list(json.loads((tmp_path / "noted.json").read_text())) == ["AB/one/program.bc"]


def test_a_folder_that_is_set_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(_cache.VARIABLE, str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    _cache.prepare()
    assert os.environ[_cache.VARIABLE] == str(tmp_path / "own")
    assert not (tmp_path / "other").exists()
