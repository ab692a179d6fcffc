"""The findings, as a table for people and as JSON for programs."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from services.errors import SwarmError
from services.runtime import escaping

State = Literal["ok", "warning", "failed", "skipped"]

_COLORS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


@dataclass(frozen=True)
class Finding:
    """Result of one check. ``advice``: what to do; "" if nothing."""

    check: str
    subject: str
    state: State
    found: str
    advice: str = ""


def failure(check: str, subject: str, error: SwarmError, state: State = "failed") -> Finding:
    """An error, split into what is wrong and what to do."""
    sentence = str(error)
    advice = sentence.removeprefix(error.message.format_map(dict(error.facts)) + ". ")
    return Finding(check, subject, state, sentence.removesuffix(f". {advice}"), advice)


def failed(findings: Iterable[Finding]) -> int:
    """How many checks failed; warnings do not count."""
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
        check, subject, found, advice = (_plain(text) for text in _texts(finding))
        table.add_row(check, subject, f"[{color}]{finding.state}[/]", found, advice or "-")
    return table


def _texts(finding: Finding) -> tuple[str, str, str, str]:
    return finding.check, finding.subject, finding.found, finding.advice


def _plain(text: str) -> str:
    """Texts may come from peers: escapes rich's markup and control characters of terminals."""
    return escape(escaping.replaced(text))
