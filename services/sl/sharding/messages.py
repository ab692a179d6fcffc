"""Messages between the leader of a shared merge and its mergers: one JSON object each, which begins with its kind.

Types and bounds of every field are checked here, before anything else reads a message. Runs are (start, stop) of
segments. Floats are sent as hexadecimal text, Gram matrices as their bytes, so that each bit arrives. ``attempt``
counts from 1; it grows when all begins anew because a participant is left out or a merger was found to lie.
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

# Size limit of one message: a few hundred segments' hashes, or their parts of a Gram matrix.
MESSAGE_BYTES = 4 * 1024 * 1024

# A message about this many segments is never too large, whatever it says about each.
MOST_AT_ONCE = 32 * 1024

# Characters of base64 that one message may hold for parts of a Gram matrix.
MEASURED_CHARACTERS = 1024 * 1024

NAME_CHARACTERS = 200
REASON_CHARACTERS = 1000

_KIND = re.compile(r'\{\s*"kind"\s*:\s*"([A-Za-z]{1,20})"\s*(?:,|(?=\}))')


class Unreadable(ValueError):
    """Not one of these messages, or one that makes no sense now. The sender is at fault."""


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
_Index = Annotated[int, Field(ge=0, lt=2**31)]  # of a segment; covers half a petabyte
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
    """Base class."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")


# --- from the leader ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order(ShardMessage):
    """Base class of messages that only a leader sends."""


@dataclass(frozen=True)
class BeginAttempt(Order):
    """``names``: whose parameters are merged. All earlier orders are void."""

    round: _Count
    term: _Count
    attempt: _Count
    names: _Names


@dataclass(frozen=True)
class Deal(Order):
    """Segments that the receiver is to merge, in addition to earlier ones."""

    runs: _Runs


@dataclass(frozen=True)
class AssignedRuns(Order):
    """``by`` is to make these segments of the result."""

    by: _Name
    runs: _Runs


@dataclass(frozen=True)
class Measure(Order):
    """All distances are to be measured again, in the frame with this number."""

    number: _Count
    centre: _Index
    scale: _Float


@dataclass(frozen=True)
class Settled(Order):
    """The measurement is complete. ``shares``: hexadecimal floats; None for methods without shares."""

    shares: Annotated[tuple[_Float, ...], Field(min_length=1, max_length=10_000)] | None


@dataclass(frozen=True)
class Serves(Order):
    """``by`` serves these segments of the result: their hashes, from ``start`` on, which are final for this attempt."""

    by: _Name
    start: _Index
    hashes: _Hashes


# --- from a merger ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer(ShardMessage):
    """Base class of messages that only a merger sends."""


@dataclass(frozen=True)
class Moves(Answer):
    """A sign of life: bytes since the last one, and whether the merger waits for a participant's parameters."""

    count: _Count
    waits: bool


@dataclass(frozen=True)
class Unusable(Answer):
    """A participant's parameters cannot be fetched or are not as they should be. ``segment``: one that is missing."""

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
    """Segments of the result, made elsewhere, that the sender holds now, with the hashes that the leader has sent."""

    attempt: _Count
    segments: Annotated[tuple[_Index, ...], Field(min_length=1, max_length=MOST_AT_ONCE), AfterValidator(_ascending)]


@dataclass(frozen=True)
class ServedWrong(Answer):
    """``name`` serves other bytes of the result than it has made."""

    attempt: _Count
    name: _Name


@dataclass(frozen=True)
class Declined(Answer):
    """The sender does not follow this leader, or cannot continue."""

    reason: _Words


# --- within the leader, to and from its own merger: never on a line -------------------------------------------


@dataclass(frozen=True)
class Examine(ShardMessage):
    """A participant is accused: the leader examines this segment of its parameters itself."""

    name: str
    segment: int


@dataclass(frozen=True)
class Examined(ShardMessage):
    """``tensor``: the first one with NaN or infinity in the segment; empty if there is none."""

    name: str
    segment: int
    tensor: str


@dataclass(frozen=True)
class Seen(ShardMessage):
    """Hashes of segments, from ``start`` on, that the leader was served before their merger reported them."""

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
    """Reads a message of the kind ``said_by``, Order or Answer. Raises Unreadable."""
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
    """The text on one line, cut to what a message can hold."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in line[:REASON_CHARACTERS])


def in_messages(entries: Sequence[Entry], most: int = MOST_AT_ONCE) -> Iterator[Sequence[Entry]]:
    """Cuts ``entries`` into parts that each fit in one message."""
    return (entries[start : start + most] for start in range(0, len(entries), most))


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unpacked(text: str) -> bytes:
    """Raises ValueError."""
    return base64.b64decode(text, validate=True)
