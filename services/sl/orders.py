"""What the leader of a shared merge and its mergers say to each other: one JSON object a message.

Runs are (start, stop) of segments. Floats travel as hexadecimal text, Gram matrices as their bytes, so that each bit
arrives. ``attempt`` counts from 1: it grows when a participant is left out and all begins anew.
"""

import base64
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from swarm_callback.nesting import deeper_than

Run = tuple[int, int]

_DEPTH = 3  # of a message: itself, its runs, one of them

# Of one message: a few hundred segments' hashes, or their parts of a Gram matrix.
MESSAGE_BYTES = 4 * 1024 * 1024


class Unreadable(ValueError):
    """Not one of these messages."""


@dataclass(frozen=True)
class Message:
    """Base of all."""


# --- from the leader ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Begin(Message):
    """``names``: whose parameters are merged. Whatever was ordered before is void."""

    round: int
    term: int
    attempt: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Deal(Message):
    """Segments that the receiver is to merge, beside those it has."""

    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Shared(Message):
    """``by`` is to make these segments of the result."""

    by: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Measure(Message):
    """All distances are to be measured once more, in this frame, which has this number."""

    number: int
    centre: int
    scale: str


@dataclass(frozen=True)
class Settled(Message):
    """Nothing is left to be measured: ``shares`` as hexadecimal floats; None for methods without."""

    shares: tuple[str, ...] | None


@dataclass(frozen=True)
class Offered(Message):
    """``by`` serves these segments of the result; their hashes, from ``start`` on."""

    by: str
    start: int
    hashes: tuple[str, ...]


# --- from a merger ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moves(Message):
    """A sign of life: bytes since the last one, and whether it waits for somebody's parameters."""

    count: int
    waits: bool


@dataclass(frozen=True)
class Unusable(Message):
    """A participant's parameters cannot be had, or are not what they should be."""

    name: str
    reason: str


@dataclass(frozen=True)
class NonFinite(Message):
    attempt: int
    name: str
    tensor: str


@dataclass(frozen=True)
class Measured(Message):
    """Gram matrices in base64, one for each segment from ``start`` on."""

    attempt: int
    frame: int
    start: int
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Merged(Message):
    """Segments of the result that are served from now on: their hashes, from ``start`` on."""

    attempt: int
    start: int
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Holds(Message):
    """Segments of the result that are here now, made elsewhere."""

    attempt: int
    segments: tuple[int, ...]


@dataclass(frozen=True)
class ServedWrong(Message):
    """``name`` serves other bytes of the result than those that its merger has made."""

    attempt: int
    name: str


@dataclass(frozen=True)
class Refused(Message):
    """It does not follow this leader, or cannot go on."""

    reason: str


_KINDS = {kind.__name__: kind for kind in Message.__subclasses__()}
_TUPLES = {"names", "runs", "shares", "hashes", "parts", "segments"}
_TYPES = {"int": int, "str": str, "bool": bool}


def encode(message: Message) -> str:
    return json.dumps({"kind": type(message).__name__, **asdict(message)}, separators=(",", ":"))


def decode(text: str) -> Message:
    """Raises Unreadable."""
    try:
        if deeper_than(_DEPTH, text.encode()):
            raise Unreadable("nested deeper than any message")
        given = json.loads(text)
        kind = _KINDS[given.pop("kind")]
        if given.keys() != {field.name for field in fields(kind)}:
            raise Unreadable(f"{kind.__name__} with the fields {', '.join(given)}")
        return kind(**{field.name: _read(field.name, str(field.type), given[field.name]) for field in fields(kind)})
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise Unreadable(f"no message: {error!r}"[:200]) from None


def _read(name: str, kind: str, value: Any) -> Any:
    if name == "runs":
        return tuple((int(start), int(stop)) for start, stop in value)
    if name in _TUPLES:
        return None if value is None and "None" in kind else tuple(value)
    expected = next(found for text, found in _TYPES.items() if text in kind)
    if type(value) is not expected:
        raise TypeError(name)
    return value


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unpacked(text: str) -> bytes:
    """Raises ValueError."""
    return base64.b64decode(text, validate=True)
