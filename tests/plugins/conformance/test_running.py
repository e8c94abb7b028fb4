"""``plugrad conformance`` on backends made on the spot: exit codes, faults that take a process along, manifests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from plugrad_conformance.cli import app
from plugrad_conformance.conduct import verdict
from support.conformance_chips import command, conformance, environment, install_chip, source

WRONG = """
@kernel("add")
def _(x, y, *, into=None):
    return np.add(x, y) + 1
"""
NOISY = """
@kernel("add")
def _(x, y, *, into=None):
    print("added, to standard output")
    os.write(1, b"and past Python\\n")
    assert sys.stdin.read() == ""
    return np.add(x, y)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the workers of this process find distributions."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*given: str) -> Result:
    """The command in this process, which never loads a backend; its workers are processes."""
    return CliRunner().invoke(app, list(given), catch_exceptions=False)


def report_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return document


def cases_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {c["id"]: c for c in report_of(folder)["cases"]}


# -- 0: conformant --


def test_a_conformant_backend_that_prints_and_reads(tmp_path: Path) -> None:
    """What it prints, at import and in kernels, disturbs nothing, and what it reads is empty."""
    first = 'print("hello from import"); os.write(1, b"{}\\n"); assert sys.stdin.read() == ""'
    file = install_chip(tmp_path, source(first=first, kernels=NOISY))
    done = conformance(tmp_path, "run", "chip", "--op", "add", "--level", "L1", "-o", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "chip:0 of dist-chip 1.0: " in done.stdout
    assert "a filtered run: no level" in done.stdout
    assert "level reached" not in done.stdout
    assert "standard output" not in done.stdout
    assert "hello from import" in (tmp_path / "out/worker-0.log").read_text()
    document = report_of(tmp_path / "out")
    assert document["filtered"] is True
    assert document["reached"] is None
    assert {c["status"] for c in document["cases"]} == {"passed"}
    assert {c["op"] for c in document["cases"]} == {"add"}
    assert document["sources"]["add"]["kernel"] > 10
    assert document["sources"]["add"]["body"] == document["sources"]["add"]["fallback"] == 0
    assert (tmp_path / "out/junit.xml").exists()
    assert (tmp_path / "out/report.html").exists()

    # The same report, once the backend has changed: what is repeated comes out otherwise.
    file.write_text(source(kernels=WRONG))
    again = conformance(tmp_path, "verify", "out", "--rerun", "5")
    assert again.returncode == 1, again.stdout + again.stderr
    assert "forward/add/float32: the report says passed, now it fails: " in again.stdout


# -- 1: failures --

FAULTY = """
@kernel("subtract")
def _(x, y, *, into=None):
    time.sleep(600)

@kernel("multiply")
def _(x, y, *, into=None):
    print("going", file=sys.stderr, flush=True)
    os._exit(3)

@kernel("negative")
def _(x, *, into=None):
    os.abort()

@kernel("floor")
def _(x, *, into=None):
    sys.exit("a kernel that leaves")

@kernel("abs")
def _(x, *, into=None):
    raise ValueError("a kernel's own error")
"""
CHOSEN = """\
# One case of each op; the kernels of square and sqrt are sound.
forward/add/float32
forward/subtract/float32

forward/multiply/float32
  forward/negative/float32
forward/floor/float32
forward/abs/float32
forward/square/float32
forward/sqrt/float32
"""


def test_a_fault_costs_its_own_case_alone(folder: Path) -> None:
    """Wrong, hanging, dying kernels are named and counted as failed, and the rest of the run goes on."""
    install_chip(folder, source(kernels=WRONG + FAULTY))
    (folder / "chosen.txt").write_text(CHOSEN)
    done = invoke("run", "chip", "--cases", "chosen.txt", "--jobs", "1", "--limit", "6", "-o", "out")
    assert done.exit_code == 1, done.output
    cases = cases_of(folder / "out")
    passed = {i for i, c in cases.items() if c["status"] == "passed"}
    assert passed == {"forward/square/float32", "forward/sqrt/float32"}
    failed = {c["op"]: c["message"] for c in cases.values() if c["status"] == "failed"}
    assert failed.keys() == {"add", "subtract", "multiply", "negative", "floor", "abs"}
    assert "wanted" in failed["add"]
    assert failed["subtract"] == "it took more than 6 s: its process was killed"
    assert failed["multiply"] == (
        "the process that ran it died (exit code 3); the last line that it wrote: going"
    )
    assert failed["negative"] == "the process that ran it died (SIGABRT)"
    assert failed["floor"].startswith("the process that ran it died (exit code 1)")
    assert failed["abs"].startswith("ValueError: a kernel's own error (raised at ")
    for op, message in failed.items():
        assert f"failed forward/{op}/float32: {message[:300]}" in done.output
    levels = {item["level"]: item for item in report_of(folder / "out")["levels"]}
    assert (levels["L1"]["cases"], levels["L1"]["failed"], levels["L1"]["passed"]) == (8, 6, 2)


def test_a_device_that_loads_no_more_is_not_tried_for_ever(folder: Path) -> None:
    """A kernel that takes the device along: a few starts fail, and then the cases that are left fail at once."""
    install_chip(folder, source(first=GONE, kernels=TAKES_IT_ALONG))
    chosen = [f"forward/{op}/float32" for op in ("add", "subtract", "multiply", "divide", "square", "sqrt")]
    done = invoke("run", "chip", *(w for c in chosen for w in ("--case", c)), "--jobs", "1", "-o", "out")
    assert done.exit_code == 1, done.output
    cases = cases_of(folder / "out")
    assert cases.pop("forward/add/float32")["message"] == "the process that ran it died (exit code 4)"
    assert len(cases) == 5
    for case in cases.values():
        assert case["status"] == "failed"
        assert "the device does not load in a new process: " in case["message"]
        assert "the device is gone" in case["message"]
    assert (folder / "starts").read_text() == "x" * 4


GONE = """
with (HERE / "starts").open("a") as starts:
    starts.write("x")
if (HERE / "gone").exists():
    raise RuntimeError("the device is gone")
"""
TAKES_IT_ALONG = """
@kernel("add")
def _(x, y, *, into=None):
    (HERE / "gone").touch()
    os._exit(4)
"""


# -- 2: the device does not load --


def test_an_unknown_device(folder: Path) -> None:
    install_chip(folder, source())
    done = invoke("run", "chp", "-o", "out")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(
        "error: chp does not load: no backend is named 'chp'; did you mean 'chip'? (installed: "
    )
    assert not (folder / "out/report.json").exists()


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (
            "raise RuntimeError('no luck')",
            "is broken: RuntimeError: no luck; the traceback is in out/worker-0.log",
        ),
        (
            "time.sleep(600)",
            "error: chip does not load: it took more than 4 s to load: its process was killed",
        ),
        (
            "print('loading the driver', flush=True); os._exit(7)",
            "error: chip does not load: the process that loads it died (exit code 7); the last line that it wrote: "
            "loading the driver",
        ),
        (
            "from plugrad.errors import BackendUnavailable\nraise BackendUnavailable('no such hardware here')",
            "is unavailable: no such hardware here",
        ),
    ],
    ids=["raises", "hangs", "dies", "unavailable"],
)
def test_a_backend_that_does_not_load(folder: Path, first: str, told: str) -> None:
    install_chip(folder, source(first=first))
    # Only what hangs waits for the limit to pass.
    limit = "4" if "sleep" in first else "120"
    done = invoke("run", "chip", "--start-limit", limit, "-o", "out")
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.output
    if "RuntimeError" in first:
        assert "package_of_chip" in (folder / "out/worker-0.log").read_text()


# -- 3: nothing ran --


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--level", "L7"], "--level is 'L7', takes L0, L1, L2, L3, L4"),
        (["--op", "softmx"], "no case is of an op 'softmx'; did you mean 'softmax'?"),
        (["--op", "add", "--level", "L0"], "no case up to L0 is of the op 'add'"),
        (["--op", "add", "--case", "forward/sqrt/float32"], "no case that is named is of the op 'add'"),
        (
            ["--case", "forward/add/float33"],
            "no case is named 'forward/add/float33'; there are forward/add/float32",
        ),
        (
            ["--case", "forward/add/float16", "--level", "L1"],
            "forward/add/float16 is a case of L3, and --level is L1",
        ),
        (["--cases", "missing.txt"], "--cases missing.txt: it cannot be read: "),
        (["--cases", "empty.txt"], "--cases empty.txt: it names no case"),
        (["--cases", "malformed.txt"], "no case is named '{\"cases\": [1]}'"),
        (["--cases", "binary.txt"], "--cases binary.txt: it cannot be read: "),
        (
            ["-o", "empty.txt"],
            "empty.txt: no report can be written there: File exists; name another folder with -o",
        ),
        (["--jobs", "0"], "Invalid value for '--jobs'"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_nothing_ran(folder: Path, given: list[str], told: str) -> None:
    (folder / "empty.txt").write_text("# none\n\n")
    (folder / "malformed.txt").write_text('{"cases": [1]}\n')
    (folder / "binary.txt").write_bytes(b"\x80\xff\x00")
    done = invoke("run", "no-such-device", *given)
    assert done.exit_code == 3, done.output
    assert told in done.stderr
    assert done.stdout == ""
    assert not (folder / "report").exists()


# -- what a device need not have, and what it must --


def test_dtypes_that_are_not_there_and_a_fallback_that_is(folder: Path) -> None:
    """A floating dtype that lacks leaves its cases out; an integer, or a kernel that another device would lend, fails
    them. The number of workers changes no record."""
    first = "import plugrad; plugrad.fallback('numpy').__enter__()"
    file = install_chip(folder, source(first=first, without=["divide"], lacks=["float16", "uint8"]))
    given = ["run", "chip", "--op", "add", "--op", "divide", "--level", "L3"]
    documents = []
    for jobs in ("1", "2"):
        done = invoke(*given, "--jobs", jobs, "-o", jobs)
        assert done.exit_code == 1, done.output
        documents.append(report_of(folder / jobs))
    cases = {c["id"]: c for c in documents[0]["cases"]}
    assert "float16" not in documents[0]["device"]["dtypes"]
    assert {"forward/add/bfloat16", "vjp/add/float32", "vjp/divide/float32"} < cases.keys()
    assert not [i for i in cases if "/float16" in i]
    of_add = {
        i for i, c in cases.items() if c["op"] == "add" and c["status"] not in ("passed", "not_exercised")
    }
    assert of_add == {i for i in cases if i.startswith("forward/add/uint8")}
    assert cases["forward/add/uint8"]["message"] == "the device has no uint8"
    of_divide = [
        c for c in cases.values() if c["op"] == "divide" and c["kind"] in ("forward", "vjp", "sizes")
    ]
    assert {c["status"] for c in of_divide} == {"unsupported"}
    assert documents[0]["sources"]["divide"] == {"kernel": 0, "body": 0, "fallback": 0}
    assert documents[0]["levels"][1]["unsupported"] > 0

    for document in documents:
        for case in document["cases"]:
            del case["seconds"]
    assert documents[0]["cases"] == documents[1]["cases"]

    lacking = invoke("run", "chip", "--case", "forward/add/float16")
    assert lacking.exit_code == 3
    assert "error: chip has not what the case forward/add/float16 takes" in lacking.stderr

    check_verify_and_compare(folder, file)


def check_verify_and_compare(folder: Path, file: Path) -> None:
    """A fresh report holds together, and comes out the same again; an edited one does not hold."""
    sound = invoke("verify", "1", "--rerun", "5")
    assert sound.exit_code == 0, sound.output
    assert "The report of chip:0 holds together: " in sound.stdout
    assert "and 5 of them came out the same again" in sound.stdout

    compared = invoke("compare", "1", "2")
    assert compared.exit_code == 0
    assert "chip:0" in compared.stdout

    document = report_of(folder / "2")
    case = next(c for c in document["cases"] if c["id"] == "forward/add/uint8")
    case["status"] = "passed"
    (folder / "2/report.json").write_text(json.dumps(document))
    edited = invoke("verify", "2/report.json")
    assert edited.exit_code == 1
    assert "it was edited" in edited.stdout
    assert "levels: L3: passed is " in edited.stdout
    assert "holds together" not in edited.stdout

    file.write_text("raise RuntimeError('gone')")
    assert invoke("verify", "1", "--rerun", "1").exit_code == 2
    assert invoke("verify", "1").exit_code == 0


# -- manifests --

MANIFEST = """
claimed = "L0"

[[waivers]]
case = "plugin/kernels"
reason = "the table is shared with a product that has an op of its own"

[[waivers]]
case = "memory/allocate"
reason = "was wrong once"

[[waivers]]
case = "devices/moves"
reason = "of no run of one device"
"""
NO_OP = """
class Named:
    name = "of-their-own"

kernels.add(Named(), Kernel(print))
"""


def test_waivers_and_a_claim_that_is_not_kept(tmp_path: Path) -> None:
    install_chip(tmp_path, source(kernels=NO_OP), manifest=MANIFEST)
    done = conformance(tmp_path, "run", "chip", "--level", "L0", "-o", "out")
    assert done.returncode == 1, done.stdout + done.stderr
    document = report_of(tmp_path / "out")
    cases = {c["id"]: c for c in document["cases"]}
    waived, passing = cases["plugin/kernels"], cases["memory/allocate"]
    assert waived["status"] == "waived"
    assert waived["message"].startswith("the table is shared with a product that has an op of its own; ")
    assert "'of-their-own', which is no op" in waived["message"]
    assert passing["status"] == "failed"
    assert passing["message"] == (
        "it is waived, and passes: take the waiver out of the manifest (was wrong once)"
    )
    assert document["levels"][0]["waived"] == document["levels"][0]["failed"] == 1
    assert (document["claimed"], document["reached"]) == ("L0", None)
    assert {w["case"]: w["unexpected_pass"] for w in document["waivers"]} == {
        "plugin/kernels": False,
        "memory/allocate": True,
    }
    lines = done.stdout.splitlines()
    assert "waived: plugin/kernels: the table is shared with a product that has an op of its own" in lines
    assert "the backend claims L0 and does not reach it" in lines
    assert "level reached: none" in lines
    assert invoke("verify", str(tmp_path / "out")).exit_code == 0


def test_what_is_said_of_a_claim() -> None:
    def document(
        claimed: str | None, reached: str | None, *, asked: str = "L4", filtered: bool = False
    ) -> Any:
        cases = [{"status": "passed", "level": 0}, {"status": "failed", "level": None}]
        return {
            "claimed": claimed,
            "reached": reached,
            "asked": {"level": asked},
            "filtered": filtered,
            "cases": cases,
        }

    assert verdict(document(None, "L4")) == (0, [])
    assert verdict(document("L2", "L2")) == (0, [])
    assert verdict(document("L3", "L3-nofp64")) == (0, [])
    more = "the backend claims L2 and reaches L3-nofp16: its manifest can claim more"
    assert verdict(document("L2", "L3-nofp16")) == (0, [more])
    assert verdict(document("L2", "L1")) == (1, ["the backend claims L2 and does not reach it"])
    assert verdict(document("L0", None)) == (1, ["the backend claims L0 and does not reach it"])
    assert verdict(document("L4", "L1", asked="L1")) == (0, [])
    assert verdict(document("L4", None, filtered=True)) == (0, [])
    nothing = {**document(None, None), "cases": [{"status": "not_exercised", "level": 3}]}
    assert verdict(nothing) == (3, ["no case that counts for a level was exercised: nothing is shown"])


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ("claimed = L2", "conformance.toml: Invalid value"),
        (
            '[[waivers]]\ncase = "forward/ad/float32"\nreason = "r"\n',
            "it waives 'forward/ad/float32', and no case of the suite is named so",
        ),
    ],
    ids=["no-toml", "no-case"],
)
def test_a_malformed_manifest_fails_its_case_alone(folder: Path, manifest: str, told: str) -> None:
    install_chip(folder, source(), manifest=manifest)
    done = invoke("run", "chip", "--case", "plugin/manifest", "--case", "memory/allocate", "-o", "out")
    assert done.exit_code == 1, done.output
    cases = cases_of(folder / "out")
    assert cases["plugin/manifest"]["status"] == "failed"
    assert told in cases["plugin/manifest"]["message"]
    assert cases["memory/allocate"]["status"] == "passed"
    assert report_of(folder / "out")["waivers"] == []


# -- a run that is broken off --

HANGS = """
@kernel("add")
def _(x, y, *, into=None):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (HERE / "temporary").write_text(f"{os.getpid()} {child.pid}")
    (HERE / "temporary").rename(HERE / "pids")
    time.sleep(600)
"""


def _alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_broken_off_leaves_no_process(tmp_path: Path, how: signal.Signals) -> None:
    """An interrupt stops workers and what they started; a worker whose run was killed ends by itself, and with it
    what it started."""
    install_chip(tmp_path, source(kernels=HANGS))
    given = ["run", "chip", "--case", "forward/add/float32", "-o", "out"]
    run = subprocess.Popen(
        command(*given), cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    while not (tmp_path / "pids").exists():
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    pids = [int(p) for p in (tmp_path / "pids").read_text().split()]
    assert all(_alive(p) for p in pids)
    run.send_signal(how)
    run.communicate(timeout=60)
    assert run.returncode == (130 if how is signal.SIGINT else -how)
    while any(_alive(p) for p in pids):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not (tmp_path / "out/report.json").exists()


# -- through pytest --


def suite_by_pytest(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    (folder / "empty.ini").write_text("[pytest]\n")
    options = ["-p", "no:cacheprovider", "-c", str(folder / "empty.ini"), "-q"]
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "--pyargs", "plugrad_conformance", *options, *given],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("kernels", "code"), [("", 0), (WRONG, 1)])
def test_the_suite_by_pytest(tmp_path: Path, kernels: str, code: int) -> None:
    install_chip(tmp_path, source(kernels=kernels))
    done = suite_by_pytest(tmp_path, "--device", "chip", "--op", "add", "--level", "L1")
    assert done.returncode == code, done.stdout + done.stderr
    if code:
        assert "test_case[forward/add/float32]" in done.stdout
        assert "failed: " in done.stdout
    else:
        assert "3 passed" in done.stdout


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "ERROR: name the device under test: pytest --pyargs plugrad_conformance --device DEVICE"),
        (["--device", "chp", "--op", "add"], "ERROR: no backend is named 'chp'; did you mean 'chip'?"),
        (["--device", "chip", "--op", "addd"], "ERROR: no case is of an op 'addd'; did you mean 'add'?"),
    ],
)
def test_pytest_without_a_device_or_a_case(tmp_path: Path, given: list[str], told: str) -> None:
    install_chip(tmp_path, source())
    done = suite_by_pytest(tmp_path, *given)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert told in done.stderr
    assert len((done.stdout + done.stderr).splitlines()) < 8


def test_pytest_on_other_tests_gets_no_options(tmp_path: Path) -> None:
    """A project's own ``--device`` does not clash."""
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--device')\n    parser.addoption('--op')\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it(request):\n    assert request.config.getoption('--device') == 'x'\n"
        "    assert 'plugrad_conformance.pytest_options' in sys.modules\n    assert 'plugrad' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--device", "x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_extra_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mpmath.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'mpmath'\", name='mpmath')"
    )
    done = conformance(tmp_path, "run", "numpy")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: plugrad conformance of plugrad ")
    assert done.stderr.endswith(
        "is unavailable: the module 'mpmath' is not installed; pip install 'plugrad[conformance]'\n"
    )
