"""Backends are found by entry points, loaded lazily and one by one, and none harms another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import plugrad
from core.distributions import BACKEND_GROUP, PLUGIN_GROUP, backend_source, install, site_folder
from plugrad import dtypes
from plugrad.backend import (
    BackendReport,
    Registry,
    State,
    get_backend,
    load_hooks,
    resolve_device,
    use_device,
)
from plugrad.backend.null import NullBackend
from plugrad.cli import devices as devices_module
from plugrad.errors import BackendBroken, BackendIncompatible, BackendUnavailable, DeviceError
from plugrad.spec import Device, Spec


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A folder on ``sys.path`` to install distributions into."""
    with site_folder(tmp_path) as folder:
        yield folder


@pytest.fixture
def registry(site: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of what is installed in ``site``; it lists that at its first use."""
    monkeypatch.delenv("PLUGRAD_DEVICE", raising=False)
    return Registry([str(site)])


def install_backend(site: Path, name: str, source: str | None = None, *, extra: str = "") -> None:
    """Install the distribution ``dist-NAME`` with the backend ``NAME`` in the module ``plug_NAME``."""
    value = f"plug_{name} [{extra}]" if extra else f"plug_{name}"
    install(
        site,
        f"dist-{name}",
        {BACKEND_GROUP: {name: value}},
        {f"plug_{name}": backend_source(name) if source is None else source},
    )


def report_of(registry: Registry, name: str) -> BackendReport:
    """The one report of that name."""
    [report] = [r for r in registry.reports() if r.name == name]
    return report


def test_a_backend_that_works(site: Path, registry: Registry) -> None:
    source = backend_source(
        "good",
        devices=2,
        kernels="""
@kernels(Named("add"), when=lambda specs, attrs: False)
@kernels(Named("add"), Named("add.vjp"), Named("matmul.vjp.x"), Named("mine.tanh.vjp"))
def _(*arrays, into=None): ...
""",
    )
    install_backend(site, "good", source)
    backend = registry.get("good")
    assert backend.name == "good"
    assert registry.get("good") is backend
    assert registry.backend_of(Device("good", 1)) is backend
    assert registry.devices() == (Device("good", 0), Device("good", 1))
    report = report_of(registry, "good")
    assert report.state is State.AVAILABLE
    assert (report.distribution, report.version, report.api) == ("dist-good", "1.0", ("1",))
    assert (report.aliases, report.reason, report.traceback, report.notes) == ((), "", "", ())
    assert [d.info.description for d in report.devices] == ["chip 0", "chip 1"]
    assert report.dtypes == (*dtypes.SIGNED, dtypes.float32)
    assert report.kernels == {"add": 2, "add.vjp": 1, "matmul.vjp.x": 1, "mine.tanh.vjp": 1}
    assert (report.forward, report.vjp) == (1, 3)


def test_nothing_is_imported_before_it_is_asked_for(site: Path, registry: Registry) -> None:
    install_backend(site, "one")
    install_backend(site, "two")
    with pytest.raises(DeviceError, match="no backend is named 'three'"):
        registry.get("three")
    assert registry.extensions("kernels") == []
    assert "plug_one" not in sys.modules
    registry.resolve("one")
    assert "plug_one" in sys.modules
    assert "plug_two" not in sys.modules
    registry.devices()
    assert "plug_two" in sys.modules


def test_importing_the_core_imports_no_plugin(site: Path) -> None:
    install_backend(site, "probe")
    code = """
import sys
import plugrad, plugrad.backend
from plugrad.backend import current_device, get_backend
plugins = [m for m in sys.modules if m == "plug_probe" or m.startswith("plugrad_")]
assert not plugins, plugins
assert str(current_device()) == "probe:0"
assert get_backend("probe") is sys.modules["plugrad.backend"].backend_of(current_device())
assert "plug_probe" in sys.modules
"""
    core = str(Path(plugrad.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((core, str(site))), "PLUGRAD_DEVICE": "probe"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_one_that_raises_at_import(site: Path, registry: Registry) -> None:
    install_backend(site, "bad", "1 / 0\n")
    install_backend(site, "good")
    with pytest.raises(BackendBroken, match=r"'bad' of dist-bad 1\.0 is broken: ZeroDivisionError") as caught:
        registry.get("bad")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    report = report_of(registry, "bad")
    assert report.state is State.BROKEN
    assert report.reason == "ZeroDivisionError: division by zero"
    assert 'plug_bad.py", line 1' in report.traceback
    assert registry.devices() == (Device("good"),)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class E(Exception):\n    def __str__(self): return 1 / 0\nraise E", "E"),
        ("def plugrad_create_backend(): ...", "has no hook plugrad_create_backend"),
        ("import plug_bad.part", "No module named 'plug_bad.part'"),
        ("import plugrad.nowhere", "No module named 'plugrad.nowhere'"),
        (
            "from plugrad.backend import hookimpl\n@hookimpl\ndef plugrad_unheard_of(): ...",
            "unknown hook 'plugrad_unheard_of'",
        ),
        (
            "from plugrad.backend import hookimpl\n@hookimpl\ndef plugrad_create_backend(x): ...",
            "Argument",
        ),
        (
            "from plugrad.backend import hookimpl\n@hookimpl\ndef plugrad_create_backend(): return 7",
            "gives int",
        ),
        (backend_source("other"), "has the name 'other', and its entry points are named 'bad'"),
        (backend_source("bad").replace("name = 'bad'", ""), "has the name None"),
        (backend_source("bad", create="HostBackend.devices = lambda self: 1 / 0"), "division by zero"),
        (
            backend_source("bad", create="HostBackend.capabilities = lambda self, d: 1 / 0"),
            "division by zero",
        ),
        (backend_source("bad", setup="kernels = {}"), "kernels of HostBackend is dict, not a KernelTable"),
    ],
)
def test_one_that_is_broken(site: Path, registry: Registry, source: str, reason: str) -> None:
    install_backend(site, "bad", source)
    install_backend(site, "good")
    with pytest.raises(BackendBroken):
        registry.get("bad")
    with pytest.raises(BackendBroken):
        registry.get("bad")
    report = next(r for r in registry.reports() if r.distribution == "dist-bad")
    assert report.state is State.BROKEN
    assert reason in report.reason
    assert report.traceback
    assert (report.devices, dict(report.kernels)) == ((), {})
    assert registry.devices() == (Device("good"),)


@pytest.mark.parametrize(
    "source",
    [
        backend_source("away", create="raise BackendUnavailable('no driver')"),
        backend_source("away", setup="raise BackendUnavailable('no driver')"),
        backend_source("away", create="HostBackend.devices = lambda self: throw()").replace(
            "created = []", "def throw(): raise BackendUnavailable('no driver')\ncreated = []"
        ),
    ],
    ids=["hook", "import", "devices"],
)
def test_one_that_is_unavailable(site: Path, registry: Registry, source: str) -> None:
    install_backend(site, "away", source)
    with pytest.raises(BackendUnavailable, match="is unavailable: no driver") as caught:
        registry.resolve("away:0")
    assert isinstance(caught.value.__cause__, BackendUnavailable)
    report = report_of(registry, "away")
    assert (report.state, report.reason, report.traceback) == (State.UNAVAILABLE, "no driver", "")


def test_one_without_hardware(site: Path, registry: Registry) -> None:
    install_backend(site, "bare", backend_source("bare", devices=0))
    with pytest.raises(BackendUnavailable, match="finds no device"):
        registry.get("bare")
    report = report_of(registry, "bare")
    assert (report.state, report.reason) == (State.UNAVAILABLE, "it finds no device")


@pytest.mark.parametrize("where", ["setup", "create"])
def test_a_missing_module_and_its_extra(site: Path, registry: Registry, where: str) -> None:
    missing = {where: "import not_installed_driver.api"}
    install_backend(site, "gpu", backend_source("gpu", **missing), extra="driver,tools")
    install_backend(site, "npu", backend_source("npu", **missing))
    with pytest.raises(BackendUnavailable, match=r"pip install 'dist-gpu\[driver,tools\]'") as caught:
        registry.get("gpu")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert report_of(registry, "gpu").state is State.UNAVAILABLE
    report = report_of(registry, "npu")
    assert report.state is State.UNAVAILABLE
    assert report.reason == "the module 'not_installed_driver' is not installed"


def test_one_of_another_major(site: Path, registry: Registry) -> None:
    groups = {"plugrad.backend.v2": {"next": "plug_next"}, "plugrad.backend.v10": {"next": "plug_next"}}
    install(site, "dist-next", groups, {"plug_next": "raise AssertionError"})
    with pytest.raises(
        BackendIncompatible, match="written for plugin API v2 and v10, and this plugrad takes v1"
    ):
        registry.get("next")
    report = report_of(registry, "next")
    assert (report.state, report.api, report.traceback) == (State.INCOMPATIBLE, ("2", "10"), "")
    assert "plug_next" not in sys.modules


def test_of_several_majors_the_cores_own_is_used(site: Path, registry: Registry) -> None:
    groups = {
        "plugrad.backend.v2": {"both": "plug_both_v2", "only2": "plug_both_v2"},
        BACKEND_GROUP: {"both": "plug_both"},
    }
    install(site, "dist-both", groups, {"plug_both": backend_source("both")})
    assert registry.get("both").name == "both"
    assert report_of(registry, "both").api == ("1", "2")
    assert report_of(registry, "only2").state is State.INCOMPATIBLE
    assert "plug_both_v2" not in sys.modules


def test_two_that_claim_one_name(site: Path, registry: Registry) -> None:
    for who in "ab":
        entries = {"same": f"plug_{who}"}
        install(site, f"dist-{who}", {BACKEND_GROUP: entries}, {f"plug_{who}": backend_source("same")})
    install_backend(site, "good")
    registry.get("good")
    with pytest.raises(DeviceError, match=r"'same' is claimed by dist-a 1\.0 and dist-b 1\.0; uninstall"):
        registry.resolve("same:0")
    reports = [r for r in registry.reports() if r.name == "same"]
    assert [r.distribution for r in reports] == ["dist-a", "dist-b"]
    for report in reports:
        assert report.state is State.BROKEN
        assert "dist-a 1.0 and dist-b 1.0" in report.reason
    assert not {"plug_a", "plug_b"} & sys.modules.keys()
    assert registry.devices() == (Device("good"),)


def test_a_contested_alias_takes_only_itself(site: Path, registry: Registry) -> None:
    entries = {"fine": "plug_fine", "short": "plug_fine"}
    install(site, "dist-fine", {BACKEND_GROUP: entries}, {"plug_fine": backend_source("fine")})
    install(site, "dist-short", {BACKEND_GROUP: {"short": "plug_short"}}, {"plug_short": ""})
    assert registry.resolve("fine") is Device("fine")
    with pytest.raises(DeviceError, match=r"dist-fine 1\.0 and dist-short 1\.0"):
        registry.resolve("short")
    report = report_of(registry, "fine")
    assert report.state is State.AVAILABLE
    assert "dist-short" in report.notes[0].text
    assert report_of(registry, "short").state is State.BROKEN


def test_a_contested_name_is_not_had_through_an_alias(site: Path, registry: Registry) -> None:
    entries = {"full": "plug_full", "short": "plug_full"}
    install(site, "dist-full", {BACKEND_GROUP: entries}, {"plug_full": backend_source("full")})
    install(site, "dist-rival", {BACKEND_GROUP: {"full": "plug_rival"}}, {"plug_rival": ""})
    with pytest.raises(DeviceError, match=r"'full' is claimed by dist-full 1\.0 and dist-rival 1\.0"):
        registry.resolve("short")
    assert registry.devices() == ()


@pytest.mark.parametrize("order", [("cpu", "host"), ("host", "cpu")])
def test_an_alias_means_the_same_device(site: Path, registry: Registry, order: tuple[str, str]) -> None:
    # White space and extras do not make another value.
    values = dict(zip(order, ("plug_host", "plug_host [fast]"), strict=True))
    install(site, "dist-host", {BACKEND_GROUP: values}, {"plug_host": backend_source("host", devices=2)})
    assert registry.resolve("cpu:1") is Device("host", 1)
    assert registry.get("cpu") is registry.get("host")
    assert registry.resolve(Device("cpu", 1)) is Device("host", 1)
    [report] = registry.reports()
    assert (report.name, report.aliases) == ("host", ("cpu",))
    assert registry.devices() == (Device("host", 0), Device("host", 1))
    assert sys.modules["plug_host"].created == [1]


def test_a_broken_one_has_the_name_that_its_module_carries(site: Path, registry: Registry) -> None:
    entries = {"cpu": "plug_host", "host": "plug_host"}
    install(site, "dist-host", {BACKEND_GROUP: entries}, {"plug_host": "1 / 0"})
    [report] = registry.reports()
    assert (report.name, report.aliases, report.state) == ("host", ("cpu",), State.BROKEN)
    with pytest.raises(BackendBroken):
        registry.get("cpu")


def test_the_plugin_may_be_an_object_in_a_module(site: Path, registry: Registry) -> None:
    source = backend_source("part") + (
        "\n\nclass Plugin:\n    @hookimpl\n    def plugrad_create_backend(self): return HostBackend()\n"
        "\n\nplugin = Plugin()\n"
    )
    install(site, "dist-part", {BACKEND_GROUP: {"part": "plug_part:plugin"}}, {"plug_part": source})
    assert registry.get("part").name == "part"


def test_the_name_null_is_taken(site: Path, registry: Registry) -> None:
    install_backend(site, "null")
    assert isinstance(registry.get("null"), NullBackend)
    report = report_of(registry, "null")
    assert (report.state, report.devices) == (State.BROKEN, ())
    assert "no plugin can have it" in report.reason
    assert "plug_null" not in sys.modules


def test_damaged_entry_points_are_reported(site: Path, registry: Registry) -> None:
    install_backend(site, "good")
    install(site, "dist-odd", {BACKEND_GROUP: {"odd": "not a module!"}}, {})
    torn = site / "torn-2.0.dist-info"
    torn.mkdir()
    (torn / "entry_points.txt").write_text(f"[{BACKEND_GROUP}]\nno equals sign\n")
    assert registry.devices() == (Device("good"),)
    report = report_of(registry, "torn")
    assert (report.state, report.version) == (State.BROKEN, "2.0")
    assert "entry_points.txt does not parse" in report.reason
    with pytest.raises(BackendBroken):
        registry.get("odd")


def test_a_name_that_cannot_name_a_device(site: Path, registry: Registry) -> None:
    install(site, "dist-odd", {BACKEND_GROUP: {"od:1": "plug_odd"}}, {"plug_odd": backend_source("od:1")})
    [report] = registry.reports()
    assert (report.state, report.reason) == (State.BROKEN, "'od:1' cannot name a device")


def test_the_first_of_two_installations_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, version in ((first, "2.0"), (second, "1.0")):
        folder.mkdir()
        entries = {BACKEND_GROUP: {"twice": "plug_twice"}}
        install(folder, "Dist.Twice", entries, {"plug_twice": backend_source("twice")}, version=version)
    with site_folder(second), site_folder(first):
        [report] = Registry([str(first), str(second)]).reports()
    assert (report.state, report.version) == (State.AVAILABLE, "2.0")


def test_unknown_names_and_indices(site: Path, registry: Registry) -> None:
    with pytest.raises(DeviceError, match="none is installed"):
        Registry([str(site / "empty")]).get("numpy")
    install_backend(site, "mychip", backend_source("mychip", devices=3))
    install_backend(site, "other")
    with pytest.raises(DeviceError, match=r"did you mean 'mychip'\? \(installed: mychip, other\)"):
        registry.resolve("MyChipp:0")
    with pytest.raises(DeviceError, match=r"'zzz' \(installed: mychip, other\)"):
        registry.resolve("zzz")
    with pytest.raises(DeviceError, match="no device mychip:3; backend 'mychip' has mychip:0 to mychip:2"):
        registry.resolve("mychip:3")
    with pytest.raises(DeviceError, match="no device other:7; backend 'other' has other:0"):
        registry.resolve(Device("other", 7))
    with pytest.raises(DeviceError, match="write 'name' or 'name:index'"):
        registry.resolve("mychip:-1")
    with pytest.raises(DeviceError, match="got int 3"):
        registry.resolve(3)  # type: ignore[arg-type]


KERNELS = """
from core_ops_of_test import add, tanh
from plugrad.backend import KernelTable, hookimpl

table = KernelTable()

@table(add, tanh)
def fast(*arrays, into=None): ...

@hookimpl
def plugrad_kernels():
    return {"good": table}
"""


def install_extended(site: Path) -> None:
    """Install a backend with a kernel for ``add``, and the module of ops that its plugins share with it."""
    shared = (
        "from types import SimpleNamespace\n\nclass Op:\n    def __init__(self, name): self.name = name\n\n"
    )
    (site / "core_ops_of_test.py").write_text(shared + "add = Op('add')\ntanh = Op('tanh')\n")
    source = backend_source(
        "good", setup="from core_ops_of_test import add\n@kernels(add)\ndef own(x, y): ...\n"
    )
    install_backend(site, "good", source)


def test_kernels_from_another_plugin(site: Path, registry: Registry) -> None:
    install_extended(site)
    install(site, "dist-fast", {PLUGIN_GROUP: {"kernels.good": "plug_fast"}}, {"plug_fast": KERNELS})
    assert "plug_fast" not in sys.modules
    backend = registry.get("good")
    ops = sys.modules["core_ops_of_test"]
    own, added = backend.kernels.find(ops.add, [], {}), backend.kernels.find(ops.tanh, [], {})
    assert own is not None
    assert added is not None
    assert own.function.__name__ == "own"
    assert added.function is sys.modules["plug_fast"].fast
    assert backend.kernels.count(ops.add) == 2
    report = report_of(registry, "good")
    assert report.kernels == {"add": 1}
    assert [n.text for n in report.notes] == ["kernels of dist-fast 1.0 (plug_fast) for 2 ops"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import not_installed_driver", "the module 'not_installed_driver' is not installed"),
        (KERNELS.replace('{"good": table}', "1 / 0"), "ZeroDivisionError: division by zero"),
        (KERNELS.replace('{"good": table}', "None"), "plugrad_kernels gives NoneType, not a mapping"),
        (KERNELS.replace('"good"', '"elsewhere"'), "kernels for 'elsewhere', which no entry point names"),
        (KERNELS.replace("table}", "[]}"), "plugrad_kernels gives list for 'good', not a KernelTable"),
    ],
)
def test_failing_kernels_are_noted(site: Path, registry: Registry, source: str, reason: str) -> None:
    install_extended(site)
    install(site, "dist-fast", {PLUGIN_GROUP: {"kernels.good": "plug_fast"}}, {"plug_fast": source})
    backend = registry.get("good")
    assert len(backend.kernels) == 1
    report = report_of(registry, "good")
    assert report.state is State.AVAILABLE
    [note] = report.notes
    assert note.text.startswith("kernels of dist-fast 1.0 (plug_fast) are left out: ")
    assert reason in note.text


def test_kernels_for_another_major_are_noted(site: Path, registry: Registry) -> None:
    install_extended(site)
    install(site, "dist-fast", {"plugrad.plugin.v2": {"kernels.good": "plug_fast"}}, {"plug_fast": KERNELS})
    [note] = report_of(registry, "good").notes
    assert note.text.endswith("are left out: they are for plugin API v2")
    assert "plug_fast" not in sys.modules


def test_extensions_are_named_without_import(site: Path, registry: Registry) -> None:
    source = (
        "from plugrad.backend import hookimpl\n@hookimpl\ndef plugrad_commands(): return {'profile': print}\n"
    )
    entries = {PLUGIN_GROUP: {"command.profile": "plug_profile", "callbacks.log": "plug_log"}}
    install(site, "dist-profile", entries, {"plug_profile": source})
    [(name, entry)] = registry.extensions("command")
    assert (name, entry.distribution, entry.compatible) == ("profile", "dist-profile", True)
    assert "plug_profile" not in sys.modules
    hooks = load_hooks(entry)
    assert hooks.plugrad_commands() == {"profile": print}
    assert hooks.plugrad_callbacks() is None


def test_threads_load_a_backend_once(site: Path, registry: Registry) -> None:
    install_backend(site, "slow", backend_source("slow", create="import time; time.sleep(0.05)"))
    start = threading.Barrier(8)
    found: list[object] = []

    def ask() -> None:
        start.wait()
        found.append(registry.backend_of(registry.resolve("slow")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [registry.get("slow")] * 8
    assert sys.modules["plug_slow"].created == [1]


def test_a_backend_that_asks_for_itself(
    site: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.registry_of_test", registry, raising=False)
    install_backend(site, "loop", backend_source("loop", create="registry_of_test.get('loop')"))
    with pytest.raises(BackendBroken, match="asked for by its own plugin while that is loaded"):
        registry.get("loop")


def test_an_interrupted_load_is_tried_again(
    site: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.interrupts_of_test", [KeyboardInterrupt], raising=False)
    create = "if interrupts_of_test: raise interrupts_of_test.pop()"
    install_backend(site, "long", backend_source("long", create=create))
    with pytest.raises(KeyboardInterrupt):
        registry.get("long")
    assert registry.get("long").name == "long"


def test_the_current_device(site: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    install_backend(site, "one", backend_source("one", devices=2))
    install_backend(site, "two")
    with pytest.raises(DeviceError, match="no backend is named 'numpy'"):
        registry.current()
    monkeypatch.setenv("PLUGRAD_DEVICE", "onne")
    with pytest.raises(DeviceError, match=r"PLUGRAD_DEVICE is 'onne': .* did you mean 'one'"):
        registry.current()
    monkeypatch.setenv("PLUGRAD_DEVICE", "one:1")
    assert registry.resolve(None) is Device("one", 1)
    with use_device("two", registry=registry) as device:
        assert device is registry.current() is Device("two")
        with use_device(Device("one"), registry=registry):
            assert registry.current() is Device("one")
        assert registry.current() is Device("two")
    assert registry.current() is Device("one", 1)


def test_use_device_as_a_call(site: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUGRAD_DEVICE", "one")
    install_backend(site, "one")
    install_backend(site, "two")
    setting = use_device("two", registry=registry)
    assert registry.current() is Device("two")
    seen: list[Device] = []
    thread = threading.Thread(target=lambda: seen.append(registry.current()))
    thread.start()
    thread.join()
    assert seen == [Device("one")]
    with pytest.raises(DeviceError, match="no backend is named 'three'"):
        use_device("three", registry=registry)
    assert registry.current() is Device("two")
    with pytest.raises(ZeroDivisionError), use_device("one", registry=registry):
        _ = 1 / 0
    assert registry.current() is Device("two")
    with setting, setting:
        assert registry.current() is Device("two")
    assert registry.current() is Device("one")
    with setting:
        assert registry.current() is Device("two")
    assert registry.current() is Device("one")


class FakeOp:
    """An op as a kernel table sees it."""

    def __init__(self, *, data_dependent: bool = False) -> None:
        self.name = "fake"
        self.data_dependent = data_dependent


def test_the_null_backend() -> None:
    null = get_backend("null")
    device = resolve_device("null")
    assert device is Device("null")
    assert null.capabilities(device).dtypes == frozenset(dtypes.ALL)
    kernel = null.kernels.find(FakeOp(), [], {})
    assert kernel is not None
    array = null.allocate(Spec((2,), dtypes.float32, device))
    results = kernel.function(array, 2.0, None, [array], axis=1, into=None)
    assert results[0] is results[1] is null.from_host(np.ones(3), device)
    with pytest.raises(TypeError):
        iter(results)
    assert null.kernels.find(FakeOp(data_dependent=True), [], {}) is None
    with pytest.raises(DeviceError, match="the null device has no values"):
        null.to_host(array)
    with pytest.raises(DeviceError, match="the null device has no values"):
        null.shape(array)
    with pytest.raises(DeviceError, match="no device null:1"):
        resolve_device("null:1")


def test_what_this_environment_has_installed_is_listed_lazily() -> None:
    plugins = {e.value for d in distributions() for e in d.entry_points if e.group == BACKEND_GROUP}
    before = plugins & sys.modules.keys()
    with pytest.raises(DeviceError, match="no backend is named 'nowhere'"):
        Registry().get("nowhere")
    assert plugins & sys.modules.keys() == before


@pytest.fixture
def command(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """``plugrad devices`` on what is installed in ``site``."""
    monkeypatch.setattr(devices_module, "backends", registry.reports)
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    app.command()(devices_module.devices_command)
    return app


@pytest.fixture
def installed(site: Path) -> None:
    """One backend of each kind that the listing tells apart."""
    source = backend_source(
        "good", devices=2, kernels="@kernels(Named('add'), Named('add.vjp'))\ndef _(*arrays, into=None): ..."
    )
    entries = {"good": "plug_good", "cpu": "plug_good"}
    install(site, "dist-good", {BACKEND_GROUP: entries}, {"plug_good": source})
    install(site, "dist-fast", {PLUGIN_GROUP: {"kernels.good": "plug_fast"}}, {"plug_fast": "[][0]"})
    install_backend(site, "bad", "1 / 0\n")
    install_backend(site, "gpu", backend_source("gpu", setup="import not_installed_driver"), extra="driver")


@pytest.mark.usefixtures("installed")
def test_devices_command_prints_a_table(command: typer.Typer) -> None:
    result = CliRunner().invoke(command)
    assert result.exit_code == 0, result.exception
    rows = {line.split()[0]: line for line in result.output.splitlines() if " v1 " in line}
    assert "good (cpu)" in rows["good"]
    assert "dist-good 1.0" in rows["good"]
    assert "1 + 1 vjp" in rows["good"]
    assert "int8-64 float32" in rows["good"]
    assert "broken" in rows["bad"]
    assert "good:1" in result.output
    assert "chip 1" in result.output
    missing = "gpu is unavailable: the module 'not_installed_driver' is not installed; pip install"
    assert f"{missing} 'dist-gpu[driver]'" in result.output
    assert "good:0 [more] memory helps" in result.output
    assert "good kernels of dist-fast 1.0 (plug_fast) are left out: IndexError" in result.output
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("installed")
def test_devices_command_verbose(command: typer.Typer) -> None:
    result = CliRunner().invoke(command, ["--verbose"])
    assert result.exit_code == 0, result.exception
    assert 'plug_bad.py", line 1' in result.output
    assert 'plug_fast.py", line 1' in result.output
    assert "add, add.vjp" in result.output


@pytest.mark.usefixtures("installed")
def test_devices_command_json(command: typer.Typer) -> None:
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 0, result.exception
    bad, good, gpu = json.loads(result.output)
    assert (bad["name"], bad["state"], gpu["state"]) == ("bad", "broken", "unavailable")
    assert "ZeroDivisionError" in bad["traceback"]
    assert (good["aliases"], good["api"], good["kernels"]) == (["cpu"], ["1"], {"add": 1, "add.vjp": 1})
    assert good["devices"][1]["device"] == "good:1"
    assert good["devices"][1]["dtypes"] == ["int8", "int16", "int32", "int64", "float32"]
    assert "IndexError" in good["notes"][0]["traceback"]


def test_devices_command_without_a_backend(command: typer.Typer) -> None:
    assert "No backend is installed" in CliRunner().invoke(command).output


def test_a_backend_of_this_process(site: Path, registry: Registry) -> None:
    install_backend(site, "good")

    class Mine(NullBackend):
        name = "mine"

    backend = Mine()
    registry.add(backend)
    assert registry.get("mine") is backend
    assert registry.resolve("mine:0") == Device("mine", 0)
    with pytest.raises(DeviceError, match="there is no device mine:1"):
        registry.resolve("mine:1")
    assert [r.name for r in registry.reports()] == ["good"]
    for taken in ("mine", "good", "null"):
        Mine.name = taken
        with pytest.raises(DeviceError, match=f"there is a backend named '{taken}' already"):
            registry.add(Mine())
    Mine.name = "a:1"
    with pytest.raises(BackendBroken, match="cannot name a device"):
        registry.add(Mine())
    with pytest.raises(BackendBroken, match="takes a Backend, got int"):
        registry.add(3)  # type: ignore[arg-type]
