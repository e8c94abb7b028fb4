"""The suite as a whole: complete for the ops that there are, its cases well named, its sources free of devices."""

from __future__ import annotations

import ast
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import plugrad_conformance
from plugrad.backend import backends
from plugrad.dispatch.op import Op
from plugrad.dispatch.statement import Kind, all_ops
from plugrad.errors import ArgumentError, DataError
from plugrad_conformance import pytest_options, suite
from plugrad_conformance.cases import FEATURES, Case, Level, select
from plugrad_conformance.checks import CHECKS
from plugrad_conformance.checks.forward import has_floats
from plugrad_conformance.manifest import Manifest, manifest_of, read
from plugrad_conformance.oracles import ORACLES
from plugrad_conformance.report.document import digest
from plugrad_conformance.report.levels import LEVELS, count
from plugrad_conformance.report.schema import parse_id
from plugrad_conformance.report.verify import verify
from plugrad_conformance.running import record, run_case
from plugrad_conformance.subject import Subject, samples_of, stated_ops
from plugrad_conformance.suite import Suite
from plugrad_conformance.tolerances import RULES, TABLE
from support.conformance_reports import make_report

PACKAGE = Path(plugrad_conformance.__file__).parent


def own_ops() -> list[Op[..., Any]]:
    """The core's own ops: those that other tests add have a namespace."""
    return [op for op in stated_ops() if "." not in op.name]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return Suite().listed()


# -- complete --


def test_every_op_has_an_oracle_and_a_tolerance_and_they_are_of_ops() -> None:
    named = {op.name for op in own_ops()}
    assert named == {n for n, op in all_ops().items() if op.owner is None and "." not in n}
    assert {n for n in ORACLES if "." not in n} == named
    assert {n for n in TABLE if "." not in n} == named
    assert {op.kind for op in own_ops() if op.differentiable} <= RULES.keys()


def test_every_op_has_cases_of_the_kinds_that_apply(cases: list[Case]) -> None:
    there = {(c.kind, c.op, c.direction) for c in cases}
    subjects = {(c.kind, c.subject) for c in cases}
    wanted: set[tuple[str, str, str]] = set()
    for op in own_ops():
        samples = samples_of(op, 0)
        arrays = any(isinstance(o, np.ndarray) for s in samples for o in s.operands)
        floats = any(has_floats(s) for s in samples)
        kinds = ["forward", "determinism"]
        kinds += ["errors"] * bool(op.operands) + ["layout"] * arrays + ["special"] * floats
        kinds += ["sizes"] * (op.kind is Kind.ELEMENTWISE and bool(op.operands) and not op.transparent)
        kinds += ["into"] * (not op.transparent and not op.data_dependent)
        wanted |= {(kind, op.name, "forward") for kind in kinds}
        if op.differentiable:
            wanted |= {(kind, op.name, "vjp") for kind in ("vjp", "determinism", "layout", "special")}
    assert sorted(wanted - there) == []
    assert sorted(r.op.name for op in own_ops() for r in op.vjps if ("into", r.op.name) not in subjects) == []


def test_every_check_and_every_level_has_cases(cases: list[Case]) -> None:
    assert {c.kind for c in cases} == CHECKS.keys()
    assert {c.level for c in cases} == {*Level, None}
    assert [level.name for level in Level] == list(LEVELS)
    assert min(Counter(c.level for c in cases).values()) > 5


# -- named --


def test_ids_are_unique_and_say_what_the_case_says(cases: list[Case]) -> None:
    twice = [i for i, times in Counter(c.id for c in cases).items() if times > 1]
    assert twice == []
    for case in cases:
        name = parse_id(case.id)
        assert (name.kind, name.subject, name.dtype or "") == (case.kind, case.subject, case.dtype)
        assert (name.variant or "") == case.variant
        if case.op:
            assert case.op in all_ops()
            assert (name.op, name.direction) == (case.op, case.direction)
        else:
            assert case.direction == ""


def test_needs_follow_from_the_dtype_and_the_kind(cases: list[Case]) -> None:
    for case in cases:
        of_dtype = {case.dtype} & set(FEATURES)
        assert case.needs >= of_dtype, case.id
        assert case.needs <= set(FEATURES), case.id
        assert ("devices" in case.needs) == (case.kind == "devices"), case.id
        if case.level in (Level.L1, Level.L2):
            assert not case.needs, f"{case.id}: what not every device has is no matter before L3"
    everything = {c.id for c in cases}
    for feature in FEATURES:
        kept = {c.id for c in Suite({feature}).listed()}
        assert everything - kept == {c.id for c in cases if feature in c.needs} != set()


def test_a_level_holds_those_below_and_what_counts_for_none(cases: list[Case]) -> None:
    one = Suite().listed(1)
    assert {c.level for c in one} == {Level.L0, Level.L1, None}
    assert one == [c for c in cases if c.level is None or c.level <= 1]
    assert Suite().cases([1]) == {c.id: c.level for c in cases if c.level in (1, None)}


def test_seeds_follow_from_ids(cases: list[Case]) -> None:
    assert all(c.seed == zlib.crc32(c.id.encode()) for c in cases)
    assert len({c.seed for c in cases}) == len(cases)


def test_cases_are_selected_by_name(cases: list[Case]) -> None:
    first, second = cases[3], cases[7]
    assert select(cases, [second.id, first.id, second.id]) == [first, second]
    with pytest.raises(ArgumentError, match="no case is named 'forward/add/float99'; there are forward/add/"):
        select(cases, ["forward/add/float99"])
    with pytest.raises(ArgumentError, match="no case is named 'nonsense'$"):
        select(cases, ["nonsense"])


# -- of no device --


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """The string literals of a file, its docstrings among them, and the modules that it imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.startswith("plugrad_"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("plugrad_"):
            yield node.lineno, node.module or ""


def test_the_suite_names_no_device(cases: list[Case]) -> None:
    """Neither a backend that is installed nor one that the project has or plans; the library NumPy is no device."""
    installed = {n for r in backends() for n in (r.name, *r.aliases)}
    names = (installed | {"cupy", "opencl", "cuda", "pocl", "metal", "torch", "jax"}) - {"null"}
    assert "numpy" in names
    word = re.compile(
        rf"(?<![\w.])(plugrad_)?({'|'.join(map(re.escape, sorted(names)))})(?![\w.])", re.IGNORECASE
    )
    assert [c.id for c in cases if word.search(c.id)] == []
    # NumPy is the library that the oracles are written in: a report tells its version, and files are read by it. The tolerances
    # cite a standard.
    cited = re.compile(r"NumPy|OpenCL 3\.0|\"OpenCL C\"")
    key = {("conduct.py", "numpy"), ("saved.py", "numpy")}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, text in _texts(path):
            hit = word.search(cited.sub("", text))
            if hit and (path.name, text) not in key:
                found.append(f"{path.relative_to(PACKAGE)}:{line}: {text[:80]!r}")
    assert found == []


# -- what tells versions apart --


@pytest.mark.parametrize("lacks", [set(), {"float16", "devices"}])
def test_a_report_of_the_whole_suite_holds_together(lacks: set[str]) -> None:
    records = [{**record(c, "passed", ""), "samples": 1} for c in Suite(lacks).listed()]
    document = make_report(ops=1, faults=False)
    have = [d for d in document["device"]["dtypes"] if d not in lacks]
    document["device"] |= {"dtypes": have, "devices": 1 if "devices" in lacks else 2}
    document |= {"suite": Suite().hash, "cases": records, "waivers": [], "levels": count(records, "L4")}
    document["reached"] = "L4-nofp16-onedevice" if lacks else "L4"
    document["sources"] = {}
    document["digest"] = digest(document)
    assert verify(document, Suite(lacks)) == []
    del records[-9]
    assert verify(document, Suite(lacks)) != []


def test_the_hash_follows_ids_and_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = Suite().hash
    assert re.fullmatch("[0-9a-f]{64}", before)
    copy = tmp_path / "copy"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def hashed() -> str:
        suite._hash.cache_clear()
        return Suite().hash

    try:
        monkeypatch.setattr(suite, "__file__", str(copy / "suite.py"))
        assert hashed() == before
        with (copy / "report/compare.py").open("a") as file:
            file.write("# how a report looks is no matter\n")
        assert hashed() == before
        with (copy / "tolerances.py").open("a") as file:
            file.write("# changed\n")
        changed = hashed()
        assert changed != before
        first, *rest = suite._all()
        monkeypatch.setattr(suite, "_all", lambda: (replace(first, variant="other"), *rest))
        assert hashed() not in (before, changed)
        monkeypatch.setattr(suite, "_all", lambda: tuple(rest))
        assert hashed() not in (before, changed)
    finally:
        monkeypatch.undo()
        suite._hash.cache_clear()
    assert Suite().hash == before


# -- what computed --


def test_what_a_case_counts_does_not_hang_on_the_cases_before_it(cases: list[Case]) -> None:
    subject = Subject("numpy")
    by_id = {c.id: c for c in cases}
    for name in ("layout/add.vjp/float32/transposed", "vjp/add/float32", "forward/add/float32"):
        first, second = (run_case(by_id[name], subject) for _ in range(2))
        assert first["status"] == "passed", first["message"]
        assert first["sources"] == second["sources"]
        assert sum(first["sources"].values()) > 0
        assert first["sources"]["fallback"] == 0
        assert (first["sources"]["body"] > 0) == (by_id[name].direction == "vjp")


def test_the_options_of_pytest_are_those_of_the_command() -> None:
    options: dict[str, dict[str, Any]] = {}
    parser = SimpleNamespace(
        getgroup=lambda name: SimpleNamespace(addoption=lambda flag, **given: options.update({flag: given}))
    )

    def manager(*args: str) -> Any:
        config = SimpleNamespace(invocation_params=SimpleNamespace(args=args))
        return SimpleNamespace(getplugin=lambda name: config)

    pytest_options.pytest_addoption(parser, manager("tests", "-q"))  # type: ignore[arg-type]
    assert options == {}
    pytest_options.pytest_addoption(parser, manager("--pyargs", "plugrad_conformance"))  # type: ignore[arg-type]
    assert options.keys() == {"--device", "--level", "--op"}
    assert options["--level"]["choices"] == list(LEVELS)


# -- manifests --


def manifest(folder: Path, text: str | bytes) -> Path:
    path = folder / "conformance.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_manifest_is_read(tmp_path: Path) -> None:
    text = """
claimed = "L3"

[[waivers]]
case = "special/erf/float16"
reason = "erf of subnormal numbers is flushed to zero"

[[waivers]]
case = "forward/exp/float16"
reason = "3 ULP"
"""
    assert read(manifest(tmp_path, text)) == Manifest(
        "L3",
        {
            "special/erf/float16": "erf of subnormal numbers is flushed to zero",
            "forward/exp/float16": "3 ULP",
        },
    )
    assert read(manifest(tmp_path, "")) == Manifest(None, {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("claimed =", r"Invalid value"),
        (b"\xff\xfe", r"can't decode"),
        ('clamed = "L2"', r"'clamed' is no key of a manifest; there are claimed, waivers"),
        ('claimed = "L9"', r"claimed is 'L9', takes one of L0, L1, L2, L3, L4"),
        ('claimed = "L4-onedevice"', r"claimed is 'L4-onedevice'"),
        ("claimed = 2", r"claimed is 2"),
        ('claimed = ["L2"]', r"claimed is \['L2'\]"),
        ('[waivers]\ncase = "a/b"\nreason = "r"', r"waivers is no list of tables; write \[\[waivers\]\]"),
        ('waivers = ["a/b"]', r"waivers is no list of tables"),
        ('[[waivers]]\ncase = "a/b"', r"a waiver takes a case and a reason, got \{'case': 'a/b'\}"),
        ('[[waivers]]\ncase = "a/b"\nreason = " "', r"a waiver takes a case and a reason"),
        ('[[waivers]]\ncase = "a/b"\nreason = 3', r"a waiver takes a case and a reason"),
        ('[[waivers]]\ncase = "a/b"\nreason = "r"\nuntil = "2.0"', r"'until' is no key of a waiver"),
        ('[[waivers]]\ncase = "a/b"\nreason = "r"\n' * 2, r"a/b is waived twice"),
    ],
)
def test_a_malformed_manifest(tmp_path: Path, text: str | bytes, told: str) -> None:
    path = manifest(tmp_path, text)
    with pytest.raises(DataError, match=told) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_manifest_is_found_beside_the_modules_of_the_class(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "package_with_manifest"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__", "backend", "inner/__init__", "inner/deep"):
        (package / f"{name}.py").touch()
    (tmp_path / "module_by_itself.py").touch()
    manifest(tmp_path, 'claimed = "L0"')
    manifest(package, 'claimed = "L1"')
    monkeypatch.syspath_prepend(tmp_path)

    def claimed(module: str) -> str | None:
        return manifest_of(type("Some", (), {"__module__": module})()).claimed

    assert claimed("package_with_manifest") == "L1"
    assert claimed("package_with_manifest.backend") == "L1"
    assert claimed("package_with_manifest.inner.deep") == "L1"
    manifest(package / "inner", 'claimed = "L2"')
    assert claimed("package_with_manifest.inner.deep") == "L2"
    assert claimed("package_with_manifest.backend") == "L1"
    assert claimed("module_by_itself") is None
    assert claimed("__main__") is None
    assert claimed("no_such_module") is None
