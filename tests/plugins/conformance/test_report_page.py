"""The page that shows a report, as a browser renders it: headless Chromium, from a file, without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from plugrad_conformance.report.html import page
from support.conformance_reports import FAILURE, HOSTILE, HOSTILE_MESSAGE, WAIVED, make_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="the page is tested in Chromium: no chromium or chromium-browser on the path"
)
VOID = {"br", "hr", "img", "input", "link", "meta"}


class Element:
    """An element of a rendered page."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Element | str] = []

    def __iter__(self) -> Iterator[Element]:
        """This element and all within, in order."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """The elements of a tag and some attributes; ``data_op`` is ``data-op``, ``class_`` any of the classes."""

        def fits(e: Element) -> bool:
            for name, value in attributes.items():
                given = e.attributes.get(name.rstrip("_").replace("_", "-"))
                if given is None or value not in (given.split() if name == "class_" else (given,)):
                    return False
            return not tag or e.tag == tag

        return [e for e in self if fits(e)]

    def one(self, tag: str = "", **attributes: str) -> Element:
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    @property
    def hidden(self) -> bool:
        return "hidden" in self.attributes

    @property
    def cases(self) -> list[str]:
        """The ids of the cases listed within."""
        return [e.attributes["data-case"] for e in self if "data-case" in e.attributes]


class TreeBuilder(HTMLParser):
    """Makes elements of the text that a browser dumps, which closes every element that it opens."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {k: v or "" for k, v in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


Render = Callable[[str, str], Element]


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """A function that renders a page, with what follows ``#`` in its address."""

    def render(html: str, address: str = "") -> Element:
        assert BROWSER is not None
        folder = tmp_path_factory.mktemp("page")
        (folder / "report.html").write_text(html, encoding="utf-8")
        flags = (
            "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
            "disable-component-update disable-sync virtual-time-budget=5000 dump-dom"
        )
        url = (folder / "report.html").as_uri() + (f"#{address}" if address else "")
        command = [BROWSER, *(f"--{f}" for f in flags.split()), f"--user-data-dir={folder / 'profile'}", url]
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
        builder = TreeBuilder()
        builder.feed(done.stdout.decode("utf-8"))
        builder.close()
        return builder.open[0]

    return render


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return make_report()


@pytest.fixture(scope="module")
def html(report: dict[str, Any]) -> str:
    return page(report)


@pytest.fixture(scope="module")
def plain(render: Render, html: str) -> Element:
    """The page as it opens."""
    return render(html, "")


def matrix(dom: Element) -> Element:
    return dom.one(id="matrix")


def test_the_page_loads_nothing(html: str) -> None:
    template = html[: html.index('<script id="report"')] + html[html.index("</script>\n<script>") :]
    assert not re.search(
        r"//\w|url\(|@import|<link|<img|<iframe|\bsrc=|\bfetch\(|XMLHttpRequest|\bimport\b", template
    )
    assert "default-src 'none'" in template
    assert "innerHTML" not in template
    assert "{{" not in template


def test_no_content_ends_the_report(html: str) -> None:
    start = html.index('<script id="report"')
    data = html[html.index(">", start) + 1 : html.index("</script>", start)]
    assert not set(data) & set("<>&")
    assert data.isascii()


@needs_browser
def test_the_head_and_the_levels(plain: Element, report: dict[str, Any]) -> None:
    assert "L1" in plain.one(id="verdict").text
    assert "claims L2: not kept" in plain.one(id="verdict").text
    assert plain.one("title").text == "example:0: L1 - plugrad conformance"
    assert plain.all(id="filtered") == []
    for text in ("plugrad-example-backend 0.3.1", "driver 2.4", "2026-11-24", "3.11.2", "2 jobs"):
        assert text in plain.one(id="head").text
    rows = plain.one(id="levels").one("tbody").all("tr")
    for row, item in zip(rows, report["levels"], strict=True):
        counts = [int(c.text.replace(",", "")) for c in row.all(class_="number")]
        assert counts == [
            item[k] for k in ("cases", "passed", "not_exercised", "failed", "unsupported", "waived")
        ]
    assert [r.all("th")[0].text for r in rows] == ["✓ L0", "✓ L1", "✗ L2", "✗ L3", "\u2013 L4"]
    assert WAIVED in plain.one(id="waivers").text
    assert "flushes subnormal numbers" in plain.one(id="waivers").text
    assert "fallbacks 0 (0.0 %)" in plain.one(id="computed").text


@needs_browser
def test_the_matrix_has_a_row_for_each_op_and_a_cell_for_all_of_its_cases(
    plain: Element, report: dict[str, Any]
) -> None:
    rows = matrix(plain).one("tbody").all("tr")
    assert [r.attributes["data-op"] for r in rows] == sorted({c["op"] for c in report["cases"] if c["op"]})
    failing = matrix(plain).one(data_at="softmax/vjp/float32")
    assert "s-failed" in failing.attributes["class"].split()
    assert failing.text == "✗ 13\xd7"
    assert matrix(plain).one(data_at="softmax/forward/float32").text == "✗ ∞"
    assert matrix(plain).one(data_at="add/forward/float16").text == "U"
    assert matrix(plain).one(data_at="pow/forward/float32").text == "W 4"
    passed = matrix(plain).one(data_at="matmul/forward/float16")
    assert "s-passed" in passed.attributes["class"].split()
    assert passed.text.startswith("✓ ")
    (add,) = [r for r in rows if r.attributes["data-op"] == "add"]
    counts = [int(c.text.replace(",", "")) for c in add.all(class_="number")[:3]]
    assert counts == [report["sources"]["add"][s] for s in ("kernel", "body", "fallback")]
    others = [c["id"] for c in report["cases"] if c["op"] is None]
    assert sorted(plain.one(id="others").cases) == sorted(others)
    assert plain.one(id="shown").text == f"{len(report['cases']):,} cases"
    assert plain.one(id="panel").hidden


@needs_browser
def test_a_failure_shows_the_command_that_repeats_it(plain: Element) -> None:
    row = plain.one(id="problems").one(data_case=FAILURE)
    assert row.one("code").text == f"plugrad conformance run example:0 --case {FAILURE}"
    assert row.one("button").text == "Copy"
    assert "wanted 0.25" in row.one(class_="message").text
    assert "12.5 \xd7 bound" in row.text


@needs_browser
def test_a_hostile_message_is_text(plain: Element) -> None:
    row = plain.one(id="problems").one(data_case=HOSTILE)
    assert row.one(class_="message").text == HOSTILE_MESSAGE
    assert plain.all("img") == []
    assert len(plain.all("script")) == 2


@needs_browser
def test_the_address_searches_and_filters(render: Render, html: str, report: dict[str, Any]) -> None:
    dom = render(html, "q=soft&status=failed")
    assert [r.attributes["data-op"] for r in matrix(dom).one("tbody").all("tr")] == ["softmax"]
    wanted = [
        c["id"] for c in report["cases"] if c["status"] == "failed" and "soft" in c["id"] + c["message"]
    ]
    assert sorted(dom.one(id="problems").cases) == sorted(wanted)
    assert dom.one(id="shown").text == f"{len(wanted)} of {len(report['cases']):,} cases"
    assert dom.one(id="others").hidden
    pressed = [b.attributes["data-status"] for b in dom.one(id="statuses").all("button", aria_pressed="true")]
    assert pressed == ["failed"]
    assert "dim" in matrix(dom).one(data_at="softmax/forward/bfloat16").attributes["class"].split()
    assert "dim" not in matrix(dom).one(data_at="softmax/vjp/float32").attributes["class"].split()


@needs_browser
def test_the_address_opens_a_cell(render: Render, html: str, report: dict[str, Any]) -> None:
    dom = render(html, "at=softmax/vjp/float32&dtype=float32&level=L2")
    panel = dom.one(id="panel")
    wanted = [
        c["id"]
        for c in report["cases"]
        if (c["op"], c["direction"], c["dtype"]) == ("softmax", "vjp", "float32")
    ]
    assert not panel.hidden
    assert sorted(panel.cases) == sorted(wanted)
    assert panel.cases[0] == FAILURE
    assert f"--case {FAILURE}" in panel.text
    assert matrix(dom).one(aria_selected="true").attributes["data-at"] == "softmax/vjp/float32"
    assert {e.text for e in matrix(dom).one("thead").all("th") if e.text in ("f32", "f16")} == {"f32"}
    found = sum((c["level"], c["dtype"]) == (2, "float32") for c in report["cases"])
    assert dom.one(id="shown").text.startswith(f"{found} of ")
    problems = dom.one(id="problems").cases
    assert FAILURE in problems
    named = {c["id"]: c for c in report["cases"]}
    assert all((named[i]["level"], named[i]["dtype"]) == (2, "float32") for i in problems)


def acting(html: str, script: str) -> str:
    """The page without its policy, and with a script that does what a person would."""
    html, gone = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    assert gone == 1
    steps = (
        f"<script>const at = (a) => document.querySelector(`#matrix [data-at='${{a}}']`); {script}</script>"
    )
    return html.replace("</body>", f"{steps}</body>")


PRESS = "const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));"


@needs_browser
def test_a_click_opens_and_filters(render: Render, html: str) -> None:
    script = """
    at('softmax').click();
    document.querySelector('[data-status=unsupported]').click();
    const q = document.getElementById('q');
    q.value = 'conv bfloat16';
    q.dispatchEvent(new Event('input'));
    setTimeout(() => { document.title = location.hash; }, 500);
    """
    dom = render(acting(html, script), "")
    assert dom.one(id="panel").cases[0] == FAILURE
    assert len(dom.one(id="panel").cases) > 20
    assert dom.one(id="problems").cases == ["vjp/conv/bfloat16"]
    assert dom.one("title").text == "#q=conv+bfloat16&status=unsupported&at=softmax"


@needs_browser
def test_the_keyboard_moves_opens_and_closes(render: Render, html: str) -> None:
    script = f"""{PRESS}
    at('abs').focus();
    press('ArrowRight');
    press('ArrowDown');
    const moved = document.activeElement.dataset.at;
    press('Enter');
    const opened = document.activeElement.id;
    press('Escape');
    document.title = [moved, opened, document.getElementById('panel').hidden, document.activeElement.dataset.at].join(' ');
    """
    dom = render(acting(html, script), "")
    assert dom.one("title").text == "acos/forward/float32 panel true acos/forward/float32"


@needs_browser
def test_all_failures_are_printed(render: Render, html: str, plain: Element, report: dict[str, Any]) -> None:
    wanted = [c["id"] for c in report["cases"] if c["status"] in ("failed", "unsupported")]
    first = plain.one(id="problems")
    assert len(first.cases) == 8
    assert f"Show {len(wanted) - 8} more" in first.text
    dom = render(acting(html, "dispatchEvent(new Event('beforeprint'));"), "")
    assert sorted(dom.one(id="problems").cases) == sorted(wanted)


@needs_browser
def test_the_policy_stops_any_other_script(render: Render, html: str) -> None:
    foreign = "<script>document.title = 'foreign'</script><p id=end></p></body>"
    dom = render(html.replace("</body>", foreign), "")
    assert dom.one("title").text.startswith("example:0")
    assert dom.one(id="end")


@needs_browser
def test_a_filtered_run_says_so(render: Render) -> None:
    some = make_report(ops=3, faults=False)
    some["asked"]["ops"], some["filtered"], some["reached"] = ["add", "pow"], True, None
    some["device"]["name"] = "it's; a device"
    some["cases"][0].update(status="failed", message="wrong")
    dom = render(page(some), "")
    assert dom.one(id="filtered").text.startswith("Filtered run: no level.")
    assert "add, pow" in dom.one(id="filtered").text
    assert "no level" in dom.one(id="verdict").text
    assert dom.one(id="waivers").hidden
    command = dom.one(id="problems").one("code").text
    assert command == f"plugrad conformance run 'it'\\''s; a device' --case {some['cases'][0]['id']}"


@needs_browser
def test_a_report_without_a_case(render: Render) -> None:
    empty = make_report(ops=1, faults=False)
    empty.update(cases=[], sources={}, reached=None, claimed=None, levels=[])
    dom = render(page(empty), "")
    assert "none" in dom.one(id="verdict").text
    assert "no level claimed" in dom.one(id="verdict").text
    assert "No op has such a case." in matrix(dom).text
