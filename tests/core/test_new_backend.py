"""`plugrad new-backend` writes a backend that is found, keeps arrays, and refuses every op until it has a kernel."""

from __future__ import annotations

import ast
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import plugrad as pg
from core.distributions import BACKEND_GROUP, backend_source, install, site_folder
from plugrad import dtypes
from plugrad.backend import Backend, Registry, State, register_backend
from plugrad.cli import app
from plugrad.cli import new_backend as new_backend_module
from plugrad.cli.new_backend import write_backend
from plugrad.errors import ArgumentError, UnsupportedOp
from plugrad.spec import Device, Spec


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A folder on ``sys.path`` to install distributions into."""
    folder = tmp_path / "site"
    folder.mkdir()
    with site_folder(folder):
        yield folder


def installed(folder: Path, site: Path) -> Registry:
    """What is written in ``folder`` installed into ``site``, as its pyproject.toml says."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        (folder / package).rename(site / package)
    install(site, project["project"]["name"], project["project"]["entry-points"], {})
    return Registry([str(site)])


def test_it_is_found_and_keeps_arrays(tmp_path: Path, site: Path) -> None:
    folder = write_backend("my_chip", tmp_path)
    assert folder == tmp_path / "plugrad-my-chip"
    registry = installed(folder, site)
    (report,) = registry.reports()
    assert report.state is State.AVAILABLE, report.traceback
    assert (report.name, report.distribution, report.forward) == ("my_chip", "plugrad-my-chip", 0)
    backend = registry.get("my_chip")
    device = Device("my_chip")
    for dtype in backend.capabilities(device).dtypes:
        for host in (
            np.arange(24).reshape(2, 3, 4)[::-1, :, ::2],
            np.array(1),
            np.zeros((0, 3)),
            np.broadcast_to(np.array([1, 0]), (3, 2)),
        ):
            value = host.astype(dtype.numpy)
            array = backend.from_host(value, device)
            assert backend.shape(array) == host.shape
            assert backend.to_host(array).dtype == dtype.numpy
            np.testing.assert_array_equal(backend.to_host(array), value)
    value = np.ones(3, np.float32)
    array = backend.from_host(value, device)
    value[:] = 2
    read = backend.to_host(array)
    np.testing.assert_array_equal(read, np.ones(3))
    read[:] = 3
    np.testing.assert_array_equal(backend.to_host(array), np.ones(3))
    empty = backend.allocate(Spec((2, 0), dtypes.int64, device))
    assert backend.shape(empty) == (2, 0)
    assert backend.to_host(empty).dtype == np.int64


def _as_device(registry: Registry, name: str) -> Backend:
    """The backend as a device of this process."""
    backend = registry.get(name)
    register_backend(backend)
    return backend


def test_every_op_is_refused_until_it_has_a_kernel(tmp_path: Path, site: Path) -> None:
    folder = write_backend("firstchip", tmp_path)
    kernels = folder / "plugrad_firstchip" / "kernels.py"
    assert len(_as_device(installed(folder, site), "firstchip").kernels) == 0
    x = pg.asarray([1.0, 2.0], device="firstchip")
    assert str(x.device) == "firstchip:0"
    with pytest.raises(UnsupportedOp, match=r"add: device firstchip:0 has no kernel"):
        x + x
    with pytest.raises(UnsupportedOp):
        pg.softmax(x)
    assert not kernels.exists(), "it was installed"


def test_the_kernel_that_is_shown_works(tmp_path: Path, site: Path) -> None:
    folder = write_backend("secondchip", tmp_path)
    kernels = folder / "plugrad_secondchip" / "kernels.py"
    source = kernels.read_text()
    shown = textwrap.dedent((ast.get_docstring(ast.parse(source)) or "").partition("could be this:\n\n")[2])
    kernels.write_text(f"{source}\n{shown}\n")
    backend = _as_device(installed(folder, site), "secondchip")
    assert [op.name for op in backend.kernels] == ["add"]
    x = pg.asarray([1.0, 2.0], device="secondchip")
    np.testing.assert_array_equal((x + x).numpy(), [2.0, 4.0])


def test_what_is_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["new-backend", "chip9", "--directory", str(tmp_path)])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "plugrad-chip9"
    assert f"pip install -e '{folder}[test]'" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["plugrad-chip9"]
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    package = {
        f"plugrad_chip9/{n}"
        for n in ("__init__.py", "backend.py", "buffer.py", "kernels.py", "conformance.toml")
    }
    assert files == {"pyproject.toml", "README.md", "tests/test_chip9.py", *package}
    for file in files:
        text = (folder / file).read_text()
        assert "$" not in text.replace("$ p", ""), file
        if file.endswith(".py"):
            compile(text, file, "exec")
    assert tomllib.loads((folder / "plugrad_chip9" / "conformance.toml").read_text()) == {"claimed": "L0"}
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {BACKEND_GROUP: {"chip9": "plugrad_chip9"}}
    assert (folder / "README.md").stat().st_mode & 0o444


@pytest.mark.parametrize(
    "name", ["", "My", "9chip", "my-chip", "my chip", "_chip", "chip/../x", "ch\u00efp", "a:0"]
)
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="cannot name a backend: takes lower-case letters"):
        write_backend(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_that_are_taken(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"taken": "plug_taken", "alias": "plug_taken"}
    install(site, "dist-taken", {BACKEND_GROUP: names}, {"plug_taken": backend_source("taken")})
    install(site, "dist-lost", {BACKEND_GROUP: {"lost": "plug_lost"}}, {"plug_lost": "raise OSError"})
    monkeypatch.setattr(new_backend_module, "backends", Registry([str(site)]).reports)
    (site / "plugrad_package.py").touch()
    for name, told in (
        ("null", "the core's own device"),
        ("taken", "is a backend of dist-taken 1.0 already"),
        ("alias", "is a backend of dist-taken 1.0 already"),
        ("lost", "is a backend of dist-lost 1.0 already"),
        ("package", "there is a package plugrad_package already"),
    ):
        with pytest.raises(ArgumentError, match=told):
            write_backend(name, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="there is no folder"):
        write_backend("mychip", tmp_path / "nowhere")
    (tmp_path / "plugrad-mychip").mkdir()
    (tmp_path / "plugrad-mychip" / "mine").touch()
    with pytest.raises(ArgumentError, match="plugrad-mychip is there already"):
        write_backend("mychip", tmp_path)
    assert [p.name for p in (tmp_path / "plugrad-mychip").iterdir()] == ["mine"]


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = Path.write_text, []

    def full_disk(self: Path, text: str, **options: str) -> int:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(self)
        return write(self, text, **options)

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(ArgumentError, match="cannot be written: No space left on device"):
        write_backend("mychip", tmp_path)
    assert len(written) == 3
    assert not list(tmp_path.iterdir())
