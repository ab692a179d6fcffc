"""What was found, as a table for people and as JSON for programs."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.table import Table

State = Literal["ok", "warning", "failed", "skipped"]

_COLORS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


@dataclass(frozen=True)
class Finding:
    """One check. ``advice``: what to do, "" where nothing is to be done."""

    check: str
    subject: str
    state: State
    found: str
    advice: str = ""


def failed(findings: Iterable[Finding]) -> int:
    """How many checks failed; warnings are none."""
    return sum(finding.state == "failed" for finding in findings)


def as_data(findings: Iterable[Finding]) -> dict[str, Any]:
    """For --json."""
    listed = [asdict(finding) for finding in findings]
    states = ("ok", "warning", "failed", "skipped")
    return {"counts": {state: sum(it["state"] == state for it in listed) for state in states}, "checks": listed}


def as_table(findings: Iterable[Finding]) -> Table:
    """For people."""
    table = Table("check", "of", "state", "found", "what to do", box=None, pad_edge=False)
    for finding in findings:
        color = _COLORS[finding.state]
        table.add_row(
            finding.check, finding.subject, f"[{color}]{finding.state}[/]", finding.found, finding.advice or "-"
        )
    return table
