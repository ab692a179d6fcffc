"""Loss and metric as in reports: a number, which may be NaN or infinite if a training diverges, or None if there is no
value, for example without validation data.
"""

import math
from typing import Any, Literal

# JSON has no number for these values: they are written as protobuf writes them.
JsonNumber = float | Literal["NaN", "Infinity", "-Infinity"]


def measure(message: Any, name: str) -> float | None:
    """The value of an optional field of a message; None if it is not set."""
    value: float | None = getattr(message, name) if message.HasField(name) else None
    return value


def in_json(value: float) -> JsonNumber:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def measure_in_json(value: float | None) -> JsonNumber | None:
    return None if value is None else in_json(value)


def shown(value: JsonNumber | None, form: str) -> str:
    """For people: ``0.2500``, ``nan``, ``inf``, and ``-`` for no value."""
    return "-" if value is None else format(float(value), form)
