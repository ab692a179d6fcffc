"""How results are written for people: times, ages, sizes, tables, and text from others."""

import time
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime

Now = Callable[[], float]

_UNITS = ("B", "KB", "MB", "GB", "TB")


def moment(at: float, now: Now = time.time) -> str:
    """``2026-07-03 14:05:09 CEST (3 s ago)``; ``never`` for 0."""
    if at <= 0:
        return "never"
    local = datetime.fromtimestamp(at).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()} ({age(max(0.0, now() - at))} ago)"


def heard(at: float) -> str:
    """When this SN last heard from a node; ``-`` if another SN hears from it."""
    return moment(at) if at > 0 else "-"


def age(seconds: float) -> str:
    """The two largest units: ``3 s``, ``2 min 5 s``, ``3 h 10 min``, ``4 d 2 h``."""
    whole = int(seconds)
    for unit, length, smaller, smaller_length in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60)):
        if whole >= length:
            return _two(whole // length, unit, whole % length // smaller_length, smaller)
    return _two(whole // 60, "min", whole % 60, "s") if whole >= 60 else f"{whole} s"


def size(count: int) -> str:
    """``20.1 MB``"""
    value, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], separator: str = "  ") -> list[str]:
    """A header line, then a line per row, in columns as wide as needed."""
    cells = [list(columns), *([clean(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]
    return [
        separator.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]


def facts(pairs: Sequence[tuple[str, object]]) -> list[str]:
    """``NAME : value`` lines with aligned colons."""
    width = max(len(name) for name, _ in pairs)
    return [f"{name.ljust(width)} : {clean(str(value))}".rstrip() for name, value in pairs]


def yes(flag: bool) -> str:
    return "YES" if flag else "NO"


def clean(text: str) -> str:
    """The text in one line, without terminal control characters: it may come from anybody."""
    return "".join(character if _is_harmless(character) else " " for character in text)


def lines_of(text: str) -> list[str]:
    """The lines of a text from others, each one cleaned."""
    return [clean(line) for line in text.splitlines()]


def _is_harmless(character: str) -> bool:
    return character == " " or unicodedata.category(character)[0] not in "CZ"


def _two(count: int, unit: str, rest: int, smaller: str) -> str:
    return f"{count} {unit} {rest} {smaller}" if rest else f"{count} {unit}"
