"""The page that tells what the suite catches: a table between two marks is made anew, the rest is written by hand."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from plugins.conformance.mutants.faults import FAULTS
from plugins.conformance.mutants.hunting import Verdict

BEGIN: Final = "<!-- made by tests/plugins/conformance/mutants/hunt.py: begin -->"
END: Final = "<!-- end -->"
SURVIVORS: Final = Path(__file__).with_name("survivors.toml")
AIM: Final = 0.99


def reasons() -> dict[str, str]:
    """Why each known survivor survives, by the mutant's name."""
    listed = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivor"]
    return {name: entry["reason"] for entry in listed for name in entry["mutants"]}


def shortfalls(verdicts: Sequence[Verdict], *, complete: bool) -> list[str]:
    """Where the aims are not met: survivors without a reason, reasons without a survivor, too many of them.

    Args:
        verdicts: of the mutants that were hunted.
        complete: these are all mutants.
    """
    survivors = {v.id: v.message for v in verdicts if v.killed_by is None}
    known, met = reasons(), {v.id for v in verdicts}
    wrong = [f"no reason is known: {name}: {told}" for name, told in survivors.items() if name not in known]
    wrong += [
        f"{SURVIVORS.name} names {name}, which is {'noticed' if name in met else 'no mutant'}"
        for name in known
        if name not in survivors and (complete or name in met)
    ]
    if complete and len(survivors) > (1 - AIM) * len(verdicts):
        wrong.append(f"{len(survivors)} of {len(verdicts)} survive: more than 1 in 100")
    return wrong


def table(verdicts: Sequence[Verdict], by_hand: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """The generated part, in Markdown.

    Args:
        verdicts: of the generated mutants.
        by_hand: of those by hand, by group: what the backend does, and the case that notices it.
    """
    survivors = [v for v in verdicts if v.killed_by is None]
    killed = len(verdicts) - len(survivors)
    lines = [
        f"{len(verdicts)} mutants, of {len({v.op for v in verdicts})} ops and rules; {killed} are noticed, "
        f"{100 * killed / len(verdicts):.2f} %; {sum(v.raised for v in verdicts)} of these because their kernel itself "
        "raised.",
        "",
        "| fault | what the kernel does | mutants | noticed | by tests of the kind |",
        "|---|---|---:|---:|---|",
    ]
    for fault in FAULTS:
        own = [v for v in verdicts if v.fault == fault.name]
        kinds = Counter(v.killed_by.partition("/")[0] for v in own if v.killed_by)
        by = ", ".join(f"{k} {n}" for k, n in kinds.most_common())
        lines.append(f"| {fault.name} | {fault.meaning} | {len(own)} | {kinds.total()} | {by} |")
    lines += ["", "Those that are not noticed, and why:", "", "| mutant | reason |", "|---|---|"]
    known = reasons()
    lines += [f"| `{v.id}` | {known.get(v.id, '')} |" for v in sorted(survivors, key=lambda v: v.id)]
    for group, rows in by_hand.items():
        lines += ["", f"{group}:", "", "| fault | noticed by |", "|---|---|"]
        lines += [f"| {meaning} | `{case}` |" for meaning, case in rows]
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Put the generated part between the marks of a page."""
    whole = page.read_text(encoding="utf-8")
    before, _, rest = whole.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
