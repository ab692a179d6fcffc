"""Database rows as plain data: each column becomes the field of the same name; times become datetimes in UTC."""

from collections.abc import Hashable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar, cast, get_type_hints

T = TypeVar("T")


def utc(at: float) -> datetime:
    """``at``: seconds since 1970, as in the database."""
    return datetime.fromtimestamp(at, UTC)


def read_as(cls: type[T], row: Mapping[str, Any], **given: Any) -> T:
    """A dataclass, from the columns with the names of its fields and from ``given``."""
    read = {name: _value(row[name], is_time) for name, is_time in _fields(cast(Hashable, cls)) if name not in given}
    return cls(**read, **given)


def _value(value: Any, is_time: bool) -> Any:
    return utc(value) if is_time and value is not None else value


@cache
def _fields(cls: Any) -> list[tuple[str, bool]]:
    hints = get_type_hints(cls)
    return [(it.name, hints[it.name] in (datetime, cast(Any, datetime | None))) for it in fields(cls)]
