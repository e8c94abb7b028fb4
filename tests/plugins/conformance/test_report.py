"""Reports of the conformance suite: written, read, verified, compared."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from plugrad.errors import DataError
from plugrad_conformance.report.compare import compare, print_comparison
from plugrad_conformance.report.document import digest, read, write
from plugrad_conformance.report.junit import junit
from plugrad_conformance.report.levels import count, level_reached
from plugrad_conformance.report.schema import CaseName, parse_id, shape_problems
from plugrad_conformance.report.verify import NOTE, verify
from support.conformance_reports import FAILURE, HOSTILE, UNSUPPORTED, WAIVED, make_report

Document = dict[str, Any]


class FakeSuite:
    """The suite that a generated report is of."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.hash = document["suite"]
        self.levels = {c["id"]: c["level"] for c in document["cases"]}

    def cases(self, levels: Sequence[int]) -> dict[str, int]:
        return {id: level for id, level in self.levels.items() if level in levels}


@pytest.fixture(scope="module")
def sound() -> Document:
    return make_report(ops=12)


@pytest.fixture(scope="module")
def suite(sound: Document) -> FakeSuite:
    return FakeSuite(sound)


def recount(document: Document) -> None:
    """Let the counts and the level follow the cases, as a careful forger does."""
    document["levels"] = count(document["cases"], document["asked"]["level"])
    device = document["device"]
    document["reached"] = level_reached(
        document["levels"], dtypes=device["dtypes"], devices=device["devices"], filtered=document["filtered"]
    )


def signed(document: Document) -> Document:
    document["digest"] = digest(document)
    return document


# --- levels


def counts(*levels: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Levels of (cases, passed, not exercised); what is left failed."""
    return [
        {
            "level": f"L{n}",
            "cases": cases,
            "passed": passed,
            "not_exercised": skipped,
            "failed": cases - passed - skipped,
            "unsupported": 0,
            "waived": 0,
        }
        for n, (cases, passed, skipped) in enumerate(levels)
    ]


FLOATS = ["float16", "bfloat16", "float32", "float64"]
WHOLE = (4, 3, 1)


@pytest.mark.parametrize(
    ("levels", "dtypes", "devices", "reached"),
    [
        ([WHOLE] * 5, FLOATS, 2, "L4"),
        ([WHOLE] * 5, FLOATS, 1, "L4-onedevice"),
        ([WHOLE] * 5, ["float32", "float16", "bfloat16"], 1, "L4-nofp64-onedevice"),
        ([WHOLE] * 5, ["float32"], 1, "L4-nobf16-nofp16-nofp64-onedevice"),
        ([WHOLE] * 4, ["float32", "float64"], 1, "L3-nobf16-nofp16"),
        ([WHOLE] * 3, ["float32"], 1, "L2"),
        ([WHOLE] * 3 + [(4, 3, 0), WHOLE], FLOATS, 2, "L2"),
        ([(4, 3, 0)] + [WHOLE] * 4, FLOATS, 2, None),
        ([WHOLE, (0, 0, 0), WHOLE], FLOATS, 2, "L0"),
        ([WHOLE, (4, 0, 4)], FLOATS, 2, "L0"),
        ([], FLOATS, 2, None),
    ],
)
def test_a_level_means_all_of_its_cases_and_of_those_below(
    levels: list[tuple[int, int, int]], dtypes: list[str], devices: int, reached: str | None
) -> None:
    assert level_reached(counts(*levels), dtypes=dtypes, devices=devices, filtered=False) == reached


@pytest.mark.parametrize("status", ["unsupported", "waived", "failed"])
def test_what_counts_against_a_level(status: str) -> None:
    records = [
        {"level": 0, "status": "passed"},
        {"level": 1, "status": "passed"},
        {"level": 1, "status": status},
    ]
    levels = count(records, "L1")
    assert levels[1][status] == 1
    assert level_reached(levels, dtypes=FLOATS, devices=1, filtered=False) == "L0"


def test_a_filtered_run_has_no_level() -> None:
    assert level_reached(counts(WHOLE, WHOLE), dtypes=FLOATS, devices=1, filtered=True) is None


def test_ids_parse() -> None:
    assert parse_id("forward/add/float32") == CaseName("forward", "add", "float32")
    name = parse_id("layout/conv.vjp.weight/float32/transposed")
    assert name == CaseName("layout", "conv.vjp.weight", "float32", "transposed")
    assert (name.op, name.direction) == ("conv", "vjp")
    assert (parse_id("vjp/add/float32").op, parse_id("vjp/add/float32").direction) == ("add", "vjp")
    assert parse_id("memory/host-is-copied") == CaseName("memory", "host-is-copied")
    assert parse_id("random/uniform/chi-squared") == CaseName("random", "uniform", None, "chi-squared")
    assert parse_id("forward/acme.swish/float32").op == "acme.swish"


@pytest.mark.parametrize(
    "id", ["", "add", "a//b", "a/b/c/d", "a/b/float32/c/d", "for ward/add", "a/b/\n", "a/b\0"]
)
def test_ids_that_do_not_parse(id: str) -> None:
    with pytest.raises(ValueError, match="is no case id"):
        parse_id(id)


# --- written and read


def test_a_report_is_read_as_it_was_written(sound: Document, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    assert write(folder, sound) == folder / "report.json"
    assert sorted(p.name for p in folder.iterdir()) == ["junit.xml", "report.html", "report.json"]
    assert read(folder / "report.json") == read(folder) == sound


def test_a_report_that_is_written_again_replaces_the_old_one(sound: Document, tmp_path: Path) -> None:
    write(tmp_path, sound)
    write(tmp_path, {**sound, "claimed": "L1"})
    assert read(tmp_path)["claimed"] == "L1"
    assert len(list(tmp_path.iterdir())) == 3


def test_the_digest_is_computed_when_a_report_is_written(sound: Document, tmp_path: Path) -> None:
    write(tmp_path, {k: v for k, v in sound.items() if k != "digest"})
    assert read(tmp_path) == sound


def test_the_digest_does_not_depend_on_the_order_of_keys(sound: Document) -> None:
    assert digest(dict(reversed(sound.items()))) == sound["digest"] == digest(sound)


def test_numbers_without_a_word_in_json_are_written(sound: Document, tmp_path: Path) -> None:
    document = copy.deepcopy(sound)
    failed = next(c for c in document["cases"] if c["status"] == "failed")
    failed.update(worst=np.float32("inf"), unit="ULP", samples=np.int64(3))
    write(tmp_path, document)
    again = read(tmp_path)
    assert next(c for c in again["cases"] if c["id"] == failed["id"])["worst"] == "inf"
    assert verify(again, FakeSuite(sound)) == []


def test_messages_may_hold_anything(sound: Document, tmp_path: Path) -> None:
    document = copy.deepcopy(sound)
    message = "\x00\x1b[31m\ud800 ]]> </script> \u2028 \U0001f600\r\n"
    document["cases"][0]["message"] = message
    write(tmp_path, document)
    assert read(tmp_path)["cases"][0]["message"] == message


def test_a_document_that_is_no_report_is_not_written(sound: Document, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"device.devices: is 'one', takes an integer"):
        write(tmp_path, {**sound, "device": {**sound["device"], "devices": "one"}})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(sound: Document, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="cannot be written there"):
        write(tmp_path / "taken", sound)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"<html>", "not JSON"),
        (b'{"format": 1, "cases": ]}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1, 2]", "no report of the conformance suite"),
        (b'{"name": "x"}', "no report of the conformance suite"),
        (b'{"format": 2, "cases": [], "plugrad": "9.0"}', r"format 2.*reads format 1.*9\.0"),
        (b'{"format": 1, "cases": []}', "no whole report: plugrad: is missing"),
    ],
)
def test_foreign_files(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        read(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such report; `plugrad conformance run"):
        read(tmp_path / "report.json")


def test_a_report_cut_short_anywhere(sound: Document, tmp_path: Path) -> None:
    path = write(tmp_path, sound)
    text = path.read_text().rstrip()
    for size in random.Random(0).sample(range(1, len(text)), 100):
        path.write_text(text[:size])
        with pytest.raises(DataError, match="the report is cut short after"):
            read(path)


# --- verified


def test_a_sound_report(sound: Document, suite: FakeSuite) -> None:
    assert sound["reached"] == "L1"
    assert verify(sound, suite) == []


def test_a_filtered_report(sound: Document, suite: FakeSuite) -> None:
    some = copy.deepcopy(sound)
    some["cases"] = [c for c in some["cases"] if c["op"] == "softmax"]
    some["sources"] = {"softmax": some["sources"]["softmax"]}
    some["waivers"] = [w for w in some["waivers"] if "softmax" in w["case"]]
    some["asked"]["ops"], some["filtered"] = ["softmax"], True
    recount(some)
    assert verify(signed(some), suite) == []
    assert some["reached"] is None


def case_of(document: Document, id: str) -> dict[str, Any]:
    return next(c for c in document["cases"] if c["id"] == id)


def edit_status(document: Document) -> None:
    case_of(document, FAILURE).update(status="passed", message="")


def edit_status_and_counts(document: Document) -> None:
    edit_status(document)
    level = document["levels"][case_of(document, FAILURE)["level"]]
    level["failed"] -= 1
    level["passed"] += 1


def delete_a_case(document: Document) -> None:
    document["cases"].remove(case_of(document, FAILURE))


def delete_a_case_in_every_count(document: Document) -> None:
    case = case_of(document, UNSUPPORTED)
    document["cases"].remove(case)
    for source, value in case["sources"].items():
        document["sources"][case["op"]][source] -= value
    recount(document)


def duplicate_a_case(document: Document) -> None:
    document["cases"].append(copy.deepcopy(document["cases"][0]))


def move_a_case_up(document: Document) -> None:
    case_of(document, FAILURE)["level"] = 4
    recount(document)


def uncount_a_case(document: Document) -> None:
    case_of(document, FAILURE)["level"] = None
    recount(document)


def lower_a_denominator(document: Document) -> None:
    item = document["levels"][2]
    item["cases"] -= item["failed"]
    item["failed"] = 0


def claim_not_filtered(document: Document) -> None:
    document["asked"]["ops"] = ["add"]


def claim_filtered(document: Document) -> None:
    document["filtered"] = True
    document["reached"] = None


def hide_a_missing_dtype(document: Document) -> None:
    document["reached"] = "L4"


def rename_a_case(document: Document) -> None:
    case = case_of(document, FAILURE)
    case["id"] = case["id"].replace(case["op"], "add_twice")
    case["op"] = "add_twice"


def ask_for_less(document: Document) -> None:
    document["asked"]["level"] = "L1"


def ask_for_less_with_counts(document: Document) -> None:
    ask_for_less(document)
    document["levels"] = document["levels"][:2]


def set_in(path: str, value: Any) -> Callable[[Document], None]:
    """An edit of one place, such as ``cases.0.status``."""

    def edit(document: Document) -> None:
        *parents, last = (int(p) if p.isdigit() else p for p in path.split("."))
        place: Any = document
        for part in parents:
            place = place[part]
        place[last] = value

    edit.__name__ = f"{path}={value!r:.20}"
    return edit


EDITS: list[tuple[Callable[[Document], None], str]] = [
    (edit_status, r"levels: L2: passed is \d+, the cases give \d+"),
    (edit_status_and_counts, "passed with an error of 12.5 bound"),
    (delete_a_case, "levels: L2: cases is"),
    (delete_a_case_in_every_count, "cases: L3: 1 of the suite's .* are missing"),
    (duplicate_a_case, "more than once"),
    (move_a_case_up, f"{FAILURE}: level is 4, the suite has it on 2"),
    (uncount_a_case, f"{FAILURE}: level is none, the suite has it on 2"),
    (lower_a_denominator, "levels: L2: cases is"),
    (claim_not_filtered, "filtered: is false, but some ops or cases were asked for"),
    (claim_filtered, "filtered: is true, but every op and case were asked for"),
    (hide_a_missing_dtype, "reached: is L4, the counts give L1"),
    (rename_a_case, "not of the suite for such a device"),
    (ask_for_less, "of a level above L1"),
    (ask_for_less_with_counts, "of a level above L1"),
    (set_in("reached", "L2"), "reached: is L2, the counts give L1"),
    (set_in("reached", None), "reached: is none, the counts give L1"),
    (set_in("levels.1.level", "L0"), "levels: are L0, L0, L2, L3, L4, takes each"),
    (set_in("levels", []), "levels: are none, takes each"),
    (set_in("asked.level", "L9"), "asked.level: is 'L9'"),
    (set_in("claimed", "best"), "claimed: is 'best'"),
    (set_in("suite", "abc"), "suite: is 'abc', takes a SHA-256"),
    (set_in("created", "yesterday"), "created: is 'yesterday'"),
    (set_in("seconds", -1.0), "seconds: is -1.0"),
    (set_in("format", 7), "format: is 7"),
    (set_in("device.dtypes", ["float32", "float33"]), "device.dtypes: float33: no such dtype"),
    (set_in("device.dtypes", ["float32", "float32"]), "device.dtypes: names a dtype twice"),
    (set_in("device.devices", -1), "device.devices: is -1"),
    (set_in("device", None), "device: is null, takes an object"),
    (set_in("filtered", 0), "filtered: is 0, takes true or false"),
    (set_in("cases.0.status", "fine"), "status is 'fine', takes one of passed"),
    (set_in("cases.0.status", None), r"cases\[0\].status: is null"),
    (set_in("cases.0.level", 5), "level is 5, takes null or 0 to 4"),
    (set_in("cases.0.id", "nothing"), "'nothing' is no case id"),
    (set_in("cases.0.kind", "else"), "kind is 'else', its id says"),
    (set_in("cases.0.op", "else"), "op is 'else', its id says"),
    (set_in("cases.0.dtype", None), "dtype is None, its id says"),
    (set_in("cases.0.direction", "vjp"), "direction is 'vjp', its id says 'forward'"),
    (set_in("cases.0.seconds", -0.5), "a time or a count is not a number from 0 up"),
    (set_in("cases.0.samples", 0), "passed without a sample"),
    (set_in("cases.0.worst", -1), "worst is -1"),
    (set_in("cases.0.worst", "big"), "worst is 'big'"),
    (set_in("cases.0.worst", "inf"), "passed with an error of inf"),
    (set_in("cases.0.unit", None), "worst and unit: one is null"),
    (set_in("cases.0.unit", "metres"), "unit is 'metres'"),
    (set_in("cases.0.sources.kernel", 1000), "sources: .*: kernel is"),
    (set_in("cases.0.sources.fallback", 1), "calls computed by a fallback"),
    (set_in("sources.softmax.body", 10_000), "sources: softmax: body is 10000"),
    (set_in("sources.nothing", {"kernel": 1, "body": 0, "fallback": 0}), "sources: nothing: kernel is 1"),
    (set_in("waivers", []), f"cases: {WAIVED}: waived, and no waiver names it"),
    (set_in("waivers.0.reason", " "), "gives no reason"),
    (set_in("waivers.0.unexpected_pass", True), "passed unexpectedly, which counts as failed, but is waived"),
    (set_in("waivers.0.case", "forward/nothing/float32"), "there is no such case"),
    (lambda d: d["waivers"].append(d["waivers"][0]), "waivers: .*: more than once"),
    (lambda d: case_of(d, FAILURE).update(message=""), "is failed without a message"),
    (lambda d: case_of(d, WAIVED).update(status="failed"), "is waived, but the case is failed"),
]


@pytest.mark.parametrize(
    ("edit", "says"), EDITS, ids=[e.__name__ if e.__name__ != "<lambda>" else says for e, says in EDITS]
)
def test_an_edit_is_found(
    edit: Callable[[Document], Any], says: str, sound: Document, suite: FakeSuite
) -> None:
    document = copy.deepcopy(sound)
    edit(document)
    lines = verify(document, suite)
    assert shape_problems(document) or any(line.startswith("digest: is") for line in lines)
    lines = verify(signed(document), suite)
    assert not any(line.startswith("digest") for line in lines)
    assert any(re.search(says, line) for line in lines), lines


def test_a_case_that_counts_for_no_level(sound: Document) -> None:
    document = copy.deepcopy(sound)
    case = copy.deepcopy(case_of(document, "memory/stats"))
    case.update(id="speed/matmul-1024", kind="speed", level=None, status="failed", message="too slow to tell")
    document["cases"].append(case)
    assert verify(signed(document), FakeSuite(document)) == []
    (row,) = compare(sound, document)
    assert (row.what, row.a, row.b) == ("status", None, "failed")
    assert count(document["cases"], "L4") == sound["levels"]


def test_any_place_may_hold_anything(suite: FakeSuite) -> None:
    small = make_report(ops=3, faults=False)
    small["cases"] = small["cases"][:2] + small["cases"][-1:]
    places = list(paths(small))
    assert len(places) > 90
    for path in places:
        for value in (None, True, -1, 1e400, 10**400, "", "x", [], {}, [None], {"": None}):
            document = copy.deepcopy(small)
            set_in(path, value)(document)
            if digest(document) != small["digest"] or path == "digest":
                assert verify(document, suite), (path, value)


def paths(value: Any, prefix: str = "") -> list[str]:
    """The paths of all values within a document, as `set_in` takes them."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, inner in items:
        found += [f"{prefix}{key}", *paths(inner, f"{prefix}{key}.")]
    return found


def test_another_version_of_the_suite(sound: Document) -> None:
    other = FakeSuite(sound)
    other.hash = "f" * 64
    (line,) = verify(sound, other)
    assert line.startswith(NOTE)
    assert "of another version of the suite" in line
    document = copy.deepcopy(sound)
    edit_status(document)
    assert [n for n in verify(signed(document), other) if not n.startswith(NOTE)]


def test_a_forger_who_edits_everything_that_follows_is_not_found(sound: Document, suite: FakeSuite) -> None:
    document = copy.deepcopy(sound)
    case_of(document, FAILURE).update(status="passed", message="", worst=0.5)
    recount(document)
    assert verify(signed(document), suite) == []


# --- JUnit


def test_junit_counts_and_names(sound: Document) -> None:
    root = ElementTree.fromstring(junit(sound))
    cases = {c.get("name"): c for c in root.iter("testcase")}
    assert list(cases) == [c["id"] for c in sorted_by_kind(sound["cases"])]
    for record in sound["cases"]:
        case = cases[record["id"]]
        expected = {"passed": None, "not_exercised": "skipped"}.get(record["status"], "failure")
        assert [child.tag for child in case] == ([] if expected is None else [expected])
    failure = cases[FAILURE].find("failure")
    assert failure is not None
    assert failure.get("type") == "failed"
    assert failure.text == case_of(sound, FAILURE)["message"]
    waived = cases[WAIVED].find("failure")
    assert waived is not None
    assert "flushes subnormal numbers" in str(waived.get("message"))
    statuses = [c["status"] for c in sound["cases"]]
    failures = sum(s in ("failed", "unsupported", "waived") for s in statuses)
    assert root.get("tests") == str(len(statuses))
    assert root.get("failures") == str(failures)
    assert root.get("skipped") == str(statuses.count("not_exercised"))
    for name in ("tests", "failures", "skipped", "errors"):
        assert root.get(name) == str(sum(int(s.get(name, "")) for s in root.iter("testsuite")))


def sorted_by_kind(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    order = list(dict.fromkeys(c["kind"] for c in cases))
    return sorted(cases, key=lambda c: order.index(c["kind"]))


def test_junit_parses_whatever_a_message_holds(sound: Document) -> None:
    document = copy.deepcopy(sound)
    foreign = "".join(map(chr, [*range(0x20), 0x7F, 0x85, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x1F600]))
    case_of(document, FAILURE)["message"] = f"a{foreign}]]>&<b>"
    document["device"]["description"] = foreign
    document["device"]["name"] = f"x{foreign}"
    root = ElementTree.fromstring(junit(document).encode("utf-8"))
    (case,) = [c for c in root.iter("testcase") if c.get("name") == FAILURE]
    text = str(case.findtext("failure"))
    assert text.startswith("a\t\n")
    assert text.endswith("\x7f\x85\U0001f600]]>&<b>")


# --- compared


def test_equal_reports_do_not_differ(sound: Document) -> None:
    assert compare(sound, copy.deepcopy(sound)) == []
    assert "No differences" in printed(sound, sound)


def test_differences(sound: Document) -> None:
    other = copy.deepcopy(sound)
    case_of(other, FAILURE).update(status="passed", message="", worst=0.5)
    case_of(other, "forward/add/float32").update(status="failed", message="wrong")
    case_of(other, "forward/matmul/float32").update(worst=1e6)
    case_of(other, "forward/equal/bool").update(worst=0.25)
    case_of(other, "forward/sum/float32").update(seconds=7.5)
    case_of(other, "forward/pow/float64").update(level=2)
    other["cases"].remove(case_of(other, "memory/stats"))
    recount(other)
    rows = {(r.what, r.case): r for r in compare(sound, other)}
    assert set(rows) == {
        ("reached", ""),
        ("status", FAILURE),
        ("worst", FAILURE),
        ("status", "forward/add/float32"),
        ("worst", "forward/matmul/float32"),
        ("worst", "forward/equal/bool"),
        ("time", "forward/sum/float32"),
        ("level", "forward/pow/float64"),
        ("status", "memory/stats"),
    }
    worse = {key for key, row in rows.items() if row.worse}
    assert worse == {
        ("reached", ""),
        ("status", "forward/add/float32"),
        ("worst", "forward/matmul/float32"),
        ("worst", "forward/equal/bool"),
        ("time", "forward/sum/float32"),
    }
    assert rows["status", "memory/stats"].b is None
    assert rows["worst", FAILURE].ratio == pytest.approx(0.04)
    assert rows["worst", "forward/equal/bool"].ratio == float("inf")
    assert [r.worse for r in compare(sound, other)] == sorted((r.worse for r in rows.values()), reverse=True)


def test_infinite_errors_compare(sound: Document) -> None:
    other = copy.deepcopy(sound)
    case_of(other, HOSTILE).update(worst=1.0)
    (row,) = compare(other, sound)
    assert (row.a, row.b, row.ratio, row.worse) == (1.0, float("inf"), float("inf"), True)
    case_of(other, HOSTILE).update(worst="nan")
    assert compare(other, sound) == []


def printed(a: Document, b: Document, limit: int | None = 200) -> str:
    console = Console(file=StringIO(), width=120)
    print_comparison(console, a, b, limit=limit)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_comparison_is_printed_side_by_side(sound: Document) -> None:
    other = make_report(ops=12, faults=False)
    other["device"]["name"] = "[red]other[/red]:1"  # no markup of rich
    text = printed(sound, other)
    assert "A: example:0" in text
    assert "B: [red]other[/red]:1" in text
    assert re.search(r"level reached +L1 +L4", text)
    assert re.search(rf"status +{FAILURE} +failed +passed", text)
    assert "B is worse in 0" in text
    assert "more differences" in printed(sound, other, limit=1)
    other["suite"] = "e" * 64
    assert "different versions of the suite" in printed(sound, other)
