"""JUnit XML: what continuous integration servers show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree

from plugrad_conformance.report.schema import CaseName, parse_id

# What is no character of XML 1.0 (https://www.w3.org/TR/xml/#charsets): most controls, and lone surrogates.
_FOREIGN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(document: Mapping[str, Any]) -> str:
    """A report as JUnit XML: a test suite per kind of test, a test case per case.

    Failed, unsupported and waived cases are failures, of the type of their status; cases that were not
    exercised are skipped.
    """
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for case in document["cases"]:
        kinds.setdefault(case["kind"], []).append(case)
    device = document["device"]["name"]
    root = _element("testsuites", name=f"plugrad conformance {device}", time=_time(document["seconds"]))
    total = [_suite(root, kind, cases, document) for kind, cases in kinds.items()]
    for position, name in enumerate(("tests", "failures", "skipped")):
        root.set(name, str(sum(t[position] for t in total)))
    root.set("errors", "0")
    ElementTree.indent(root, space=" ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(
    root: ElementTree.Element, kind: str, cases: list[Mapping[str, Any]], document: Mapping[str, Any]
) -> tuple[int, int, int]:
    """Append the suite of one kind; how many cases it has, how many failures, how many were skipped."""
    device = document["device"]
    suite = _element("testsuite", name=kind, timestamp=document["created"].rstrip("Z"))
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (
        ("device", device["name"]),
        ("distribution", f"{device['distribution']} {device['version']}"),
        ("plugrad", document["plugrad"]),
        ("suite", document["suite"]),
        ("level reached", _level(document)),
    ):
        properties.append(_element("property", name=name, value=value))
    failures = skipped = 0
    for case in cases:
        item = _element("testcase", classname=_class(case), name=case["id"], time=_time(case["seconds"]))
        status, message = case["status"], case["message"] or case["status"]
        if status == "not_exercised":
            item.append(_element("skipped", message=message))
            skipped += 1
        elif status != "passed":
            failure = _element("failure", type=status, message=message.partition("\n")[0])
            failure.text = _clean(message)
            item.append(failure)
            failures += 1
        suite.append(item)
    seconds = sum(c["seconds"] for c in cases)
    for name, value in (("tests", len(cases)), ("failures", failures), ("errors", 0), ("skipped", skipped)):
        suite.set(name, str(value))
    suite.set("time", _time(seconds))
    root.append(suite)
    return len(cases), failures, skipped


def _class(case: Mapping[str, Any]) -> str:
    """The name that servers group cases by: kind and subject."""
    try:
        name = parse_id(case["id"])
    except ValueError:
        name = CaseName(case["kind"], "?")
    return f"{name.kind}.{name.subject}"


def _level(document: Mapping[str, Any]) -> str:
    return "none: a filtered run" if document["filtered"] else document["reached"] or "none"


def _time(seconds: float) -> str:
    return f"{seconds:.6f}"


def _element(tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.Element(tag, {k: _clean(v) for k, v in attributes.items()})


def _clean(text: str) -> str:
    return _FOREIGN.sub("", text)
