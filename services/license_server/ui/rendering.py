"""Templates, and the formats of dates, numbers and digests in them."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"

FEATURE_NAMES = {
    "SN": "Swarm network nodes",
    "SL": "Swarm learning nodes",
    "SWOP": "Swarm operators",
    "SWCI": "Command interfaces",
}


class Templates:
    """Everything is escaped, except values passed as Markup."""

    def __init__(self, static: Path) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(static=cache(lambda name: _address(static, name)), feature_names=FEATURE_NAMES)
        self._environment.filters.update(
            moment=moment,
            day=day,
            ago=ago,
            span=span,
            short=short,
            count=count,
            listed=listed,
            axis=axis,
            sentence=sentence,
        )

    def render(self, template: str, /, **context: Any) -> str:
        return self._environment.get_template(template).render(now=datetime.now(UTC), **context)


def moment(at: datetime | None) -> Markup | str:
    """A time, to the minute; the browser converts it to the user's time zone."""
    if at is None:
        return "never"
    return Markup('<time datetime="{}">{} UTC</time>').format(_iso(at), f"{at:%Y-%m-%d %H:%M}")


def day(at: datetime | None) -> Markup | str:
    """A day in UTC, as in the license."""
    if at is None:
        return "no end"
    if at.timestamp() == 0:
        return "always"
    return Markup('<time datetime="{}" data-keep>{}</time>').format(_iso(at), f"{at:%Y-%m-%d}")


def axis(at: datetime, within_a_day: bool) -> Markup:
    """A label below a chart: the hour or the day."""
    form, kind = ("%H:%M", "hour") if within_a_day else ("%b %d", "day")
    return Markup('<time datetime="{}" data-as="{}">{}</time>').format(_iso(at), kind, at.strftime(form))


def ago(at: datetime, now: datetime) -> str:
    return f"{span((now - at).total_seconds())} ago"


def span(seconds: float) -> str:
    """A duration in the largest whole unit: '12 s', '5 min', '3 h', '2 days'."""
    seconds = max(seconds, 0.0)
    for unit_s, unit in ((86_400, "day"), (3600, "h"), (60, "min")):
        if seconds >= unit_s * (2 if unit == "day" else 1):
            return count(int(seconds // unit_s), unit) if unit == "day" else f"{int(seconds // unit_s)} {unit}"
    return f"{int(seconds)} s"


def short(digest: str, digits: int = 16) -> str:
    """The beginning of a digest, in groups of four."""
    head = digest[:digits]
    return " ".join(head[start : start + 4] for start in range(0, len(head), 4))


def count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def sentence(words: str) -> str:
    """Capitalizes the first letter and changes nothing else."""
    return words[:1].upper() + words[1:]


def listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _address(static: Path, name: str) -> str:
    digest = hashlib.sha256((static / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"
