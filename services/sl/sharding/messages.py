"""What the leader of a shared merge and its mergers say to each other: one JSON object a message, its kind first.

Whatever comes is typed to its leaves and bounded, here, before anybody looks at it. Runs are (start, stop) of segments.
Floats travel as hexadecimal text, Gram matrices as their bytes, so that each bit arrives. ``attempt`` counts from 1:
it grows when a participant is left out, or a merger was found to lie, and all begins anew.
"""

import base64
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

# Of one message: a few hundred segments' hashes, or their parts of a Gram matrix.
MESSAGE_BYTES = 4 * 1024 * 1024

# What is said of so many segments at once fits in a message, whatever is said of each.
MOST_AT_ONCE = 32 * 1024

# Of the parts of a Gram matrix, in base64, that one message holds.
MEASURED_CHARACTERS = 1024 * 1024

NAME_CHARACTERS = 200
REASON_CHARACTERS = 1000

_KIND = re.compile(r'\{\s*"kind"\s*:\s*"([A-Za-z]{1,20})"\s*(?:,|(?=\}))')


class Unreadable(ValueError):
    """Not one of these messages, or none that makes sense now. It is the fault of whoever has said it."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it is more than a line of text")
    return text


def _apart(runs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    ends = [end for run in runs for end in run]
    if any(start >= stop for start, stop in runs) or ends != sorted(ends):
        raise ValueError("runs that are empty, or not in their order")
    return runs


def _ascending(indices: tuple[int, ...]) -> tuple[int, ...]:
    if any(index >= following for index, following in pairwise(indices)):
        raise ValueError("not in their order")
    return indices


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a name that is there twice")
    return names


def _finite(text: str) -> str:
    try:
        value = float.fromhex(text)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError("no finite number")
    return text


_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Index = Annotated[int, Field(ge=0, lt=2**31)]  # of a segment: half a petabyte
_Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS), AfterValidator(_printable)]
_Words = Annotated[str, Field(max_length=REASON_CHARACTERS), AfterValidator(_printable)]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Hashes = Annotated[tuple[_Hash, ...], Field(min_length=1, max_length=MOST_AT_ONCE)]
_Float = Annotated[str, Field(max_length=40, pattern=r"^-?0x[0-9a-f.]+p[+-][0-9]{1,5}$"), AfterValidator(_finite)]
_Matrix = Annotated[str, Field(min_length=4, pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
_Names = Annotated[tuple[_Name, ...], Field(min_length=1, max_length=10_000), AfterValidator(_once)]

Run = tuple[_Index, _Index]
_Runs = Annotated[tuple[Run, ...], Field(min_length=1, max_length=MOST_AT_ONCE), AfterValidator(_apart)]


@dataclass(frozen=True)
class ShardMessage:
    """Base of all."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")


# --- from the leader ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order(ShardMessage):
    """Base of what only a leader says."""


@dataclass(frozen=True)
class BeginAttempt(Order):
    """``names``: whose parameters are merged. Whatever was ordered before is void."""

    round: _Count
    term: _Count
    attempt: _Count
    names: _Names


@dataclass(frozen=True)
class Deal(Order):
    """Segments that the receiver is to merge, beside those it has."""

    runs: _Runs


@dataclass(frozen=True)
class AssignedRuns(Order):
    """``by`` is to make these segments of the result."""

    by: _Name
    runs: _Runs


@dataclass(frozen=True)
class Measure(Order):
    """All distances are to be measured once more, in this frame, which has this number."""

    number: _Count
    centre: _Index
    scale: _Float


@dataclass(frozen=True)
class Settled(Order):
    """Nothing is left to be measured: ``shares`` as hexadecimal floats; None for methods without."""

    shares: Annotated[tuple[_Float, ...], Field(min_length=1, max_length=10_000)] | None


@dataclass(frozen=True)
class Serves(Order):
    """``by`` serves these segments of the result; their hashes, from ``start`` on. They stand for this attempt."""

    by: _Name
    start: _Index
    hashes: _Hashes


# --- from a merger ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer(ShardMessage):
    """Base of what only a merger says."""


@dataclass(frozen=True)
class Moves(Answer):
    """A sign of life: bytes since the last one, and whether it waits for somebody's parameters."""

    count: _Count
    waits: bool


@dataclass(frozen=True)
class Unusable(Answer):
    """A participant's parameters cannot be had, or are not what they should be: ``segment`` is one that is missing."""

    name: _Name
    reason: _Words
    segment: _Index


@dataclass(frozen=True)
class FoundNonFinite(Answer):
    """A participant's parameters hold NaN or infinity in this segment."""

    attempt: _Count
    name: _Name
    segment: _Index


@dataclass(frozen=True)
class Measured(Answer):
    """Gram matrices in base64, one for each segment from ``start`` on."""

    attempt: _Count
    frame: _Count
    start: _Index
    parts: Annotated[tuple[_Matrix, ...], Field(min_length=1, max_length=MOST_AT_ONCE)]


@dataclass(frozen=True)
class MergedSegments(Answer):
    """Segments of the result that are served from now on: their hashes, from ``start`` on."""

    attempt: _Count
    start: _Index
    hashes: _Hashes


@dataclass(frozen=True)
class Holds(Answer):
    """Segments of the result that are here now, made elsewhere, with the hashes that the leader has told."""

    attempt: _Count
    segments: Annotated[tuple[_Index, ...], Field(min_length=1, max_length=MOST_AT_ONCE), AfterValidator(_ascending)]


@dataclass(frozen=True)
class ServedWrong(Answer):
    """``name`` serves other bytes of the result than those that its merger has made."""

    attempt: _Count
    name: _Name


@dataclass(frozen=True)
class Declined(Answer):
    """It does not follow this leader, or cannot go on."""

    reason: _Words


# --- within the leader, to and from its own merger: never on a line -------------------------------------------


@dataclass(frozen=True)
class Examine(ShardMessage):
    """Somebody is accused: the leader looks at this segment of its parameters itself."""

    name: str
    segment: int


@dataclass(frozen=True)
class Examined(ShardMessage):
    """``tensor``: the first one with NaN or infinity in the segment; empty where there is none."""

    name: str
    segment: int
    tensor: str


@dataclass(frozen=True)
class Seen(ShardMessage):
    """What the leader was served before whoever made it has said so: hashes of the result, from ``start`` on."""

    attempt: int
    start: int
    hashes: tuple[str, ...]


Said = TypeVar("Said", bound=ShardMessage)
Entry = TypeVar("Entry")
_READERS: dict[str, tuple[type[ShardMessage], TypeAdapter[Any]]] = {
    kind.__name__: (kind, TypeAdapter(kind)) for kind in (*Order.__subclasses__(), *Answer.__subclasses__())
}


def encode(message: ShardMessage) -> str:
    return json.dumps({"kind": type(message).__name__, **vars(message)}, default=asdict, separators=(",", ":"))


def decode(text: str, said_by: type[Said] = ShardMessage) -> Said:  # type: ignore[assignment]
    """``said_by``: Order or Answer. Raises Unreadable."""
    begin = _KIND.match(text)
    kind, reader = _READERS.get(begin[1], (None, None)) if begin else (None, None)
    if begin is None or kind is None or reader is None or not issubclass(kind, said_by):
        raise Unreadable(f"it is no {said_by.__name__}: {text[:40]!r}")
    try:
        message: Said = reader.validate_json("{" + text[begin.end() :])
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in (kind.__name__, *first["loc"]))
        raise Unreadable(f"{where}: {first['msg']}"[:200]) from None
    return message


def words(text: str) -> str:
    """As much of it as a message takes, on one line."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in line[:REASON_CHARACTERS])


def in_messages(entries: Sequence[Entry], most: int = MOST_AT_ONCE) -> Iterator[Sequence[Entry]]:
    """Cut so that what is said of each part fits in one message."""
    return (entries[start : start + most] for start in range(0, len(entries), most))


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unpacked(text: str) -> bytes:
    """Raises ValueError."""
    return base64.b64decode(text, validate=True)
