"""The messages between an ML program and its SL: bytes and dataclasses, no pipes.

A frame is 20 bytes (magic, version, type, header length, body length; little endian), a JSON header that holds the
fields of one dataclass below in camelCase, and a raw body, which is a parameter stream.
"""

import json
import re
import struct
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Self

from swarm_callback.errors import VersionMismatch, WireError
from swarm_callback.nesting import deeper_than

MAGIC: Final = b"SWML"
VERSION: Final = 4  # increases with each change of the messages below
MAX_HEADER_BYTES: Final = 1024 * 1024
MAX_BODY_BYTES: Final = 2**63 - 1
_PREFIX: Final = struct.Struct("<4sHHIQ")
PREFIX_BYTES: Final = _PREFIX.size


@dataclass(frozen=True)
class ChannelMessage:
    """Base class; ``TYPE`` is the number on the wire."""

    TYPE: ClassVar[int] = 0
    HAS_BODY: ClassVar[bool] = False


@dataclass(frozen=True)
class Open(ChannelMessage):
    """ML → SL, first message: the parameters of the callback."""

    TYPE = 1
    contract: str
    sync_frequency: int
    min_peers: int
    merge_method: str
    node_weightage: int
    checkin_model_on_train_end: str
    use_adaptive_sync: bool
    total_epochs: int
    framework: str
    pid: int
    transfer_compression: str = "none"
    first_merge: str = "leader"
    model_version: str = ""
    weighting: str = "fixed"
    patience: int = 0
    metric_down: bool = False


@dataclass(frozen=True)
class Opened(ChannelMessage):
    """SL → ML: enrolled. ``late``: the training already has a merged model, which the first sync brings.

    ``epochs_done``: epochs of this node's ML program before it and its SL were restarted; 0 at the beginning.
    """

    TYPE = 2
    node: str
    round: int
    late: bool
    epochs_done: int


@dataclass(frozen=True)
class OpenRefused(ChannelMessage):
    """SL → ML: the session ends; ``message`` is for the user."""

    TYPE = 3
    code: str
    message: str


@dataclass(frozen=True)
class Sync(ChannelMessage):
    """ML → SL, body: the parameters as they are now. ``seq`` counts from 1 within the session.

    ``examples``: how many they were trained on since the last merge, if that is the weight; else 0.
    """

    TYPE = 4
    HAS_BODY = True
    seq: int
    epochs_done: int
    examples: int = 0


@dataclass(frozen=True)
class Close(ChannelMessage):
    """ML → SL, body: the parameters at the end of local training. ``checkin``: snapshot, active or inactive."""

    TYPE = 5
    HAS_BODY = True
    seq: int
    epochs_done: int
    checkin: str
    examples: int = 0


@dataclass(frozen=True)
class Merged(ChannelMessage):
    """SL → ML, answer to Sync and Close; body: the merged parameters, empty if nothing was ever merged.

    ``pace``: the reason for the interval. ``best_round``: the round with the best mean metric so far, 0 if nobody asks.
    ``late``: rounds merged without this node before this one, which includes what it trained meanwhile. ``not_finite``:
    this node's parameters were left out, as they hold NaN or infinity.
    """

    TYPE = 6
    HAS_BODY = True
    seq: int
    round: int
    contributed: bool
    note: str
    next_sync_interval: int
    training_over: bool
    pace: str = ""
    best_round: int = 0
    late: int = 0
    not_finite: bool = False


@dataclass(frozen=True)
class Report(ChannelMessage):
    """ML → SL, no answer: loss and metric of the merged model of ``round`` on this node's validation data.

    ``loss``, ``metric``: None if there is no value, which is not the same as NaN.
    """

    TYPE = 7
    round: int
    loss: float | None
    metric: float | None
    epochs_done: int
    total_epochs: int


@dataclass(frozen=True)
class Notice(ChannelMessage):
    """SL → ML while ML waits: something to log."""

    TYPE = 8
    text: str


@dataclass(frozen=True)
class Abort(ChannelMessage):
    """In both directions: the sender failed and ends the session; ``message`` is for the user."""

    TYPE = 9
    code: str
    message: str


@dataclass(frozen=True)
class Bye(ChannelMessage):
    """ML → SL: the session ends normally."""

    TYPE = 10


_BY_TYPE: Final[dict[int, type[ChannelMessage]]] = {
    cls.TYPE: cls for cls in (Open, Opened, OpenRefused, Sync, Close, Merged, Report, Notice, Abort, Bye)
}


@dataclass(frozen=True)
class Prefix:
    """The first 20 bytes of a frame, checked."""

    kind: type[ChannelMessage]
    header_size: int
    body_size: int

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Self:
        """Raises WireError, VersionMismatch."""
        magic, version, number, header_size, body_size = _PREFIX.unpack(data)
        if magic != MAGIC:
            raise WireError(problem=f"it begins with {magic!r} instead of {MAGIC!r}")
        if version != VERSION:
            raise VersionMismatch(theirs=version, ours=VERSION)
        kind = _BY_TYPE.get(number)
        if kind is None:
            raise WireError(problem=f"its type {number} is not known")
        if header_size > MAX_HEADER_BYTES:
            raise WireError(problem=f"its header has {header_size} bytes, {MAX_HEADER_BYTES} are allowed")
        if body_size > MAX_BODY_BYTES or (body_size and not kind.HAS_BODY):
            raise WireError(problem=f"a {kind.__name__} message cannot have a body of {body_size} bytes")
        return cls(kind, header_size, body_size)


def pack(message: ChannelMessage, body_size: int = 0) -> bytes:
    """Prefix and header of a frame; ``body_size`` raw bytes follow."""
    values = {_camel(field.name): getattr(message, field.name) for field in fields(message)}
    header = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    if len(header) > MAX_HEADER_BYTES:
        raise WireError(problem=f"its header has {len(header)} bytes, {MAX_HEADER_BYTES} are allowed")
    return _PREFIX.pack(MAGIC, VERSION, message.TYPE, len(header), body_size) + header


def unpack_header(kind: type[ChannelMessage], header: bytes | bytearray) -> ChannelMessage:
    """The message whose type the prefix named. Raises WireError for other fields or types than the class has."""
    if deeper_than(1, header):
        raise WireError(problem=f"the header of {kind.__name__} is nested")
    try:
        values = json.loads(header.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WireError(problem=f"the header of {kind.__name__} is not JSON ({error})") from None
    expected = {_camel(field.name): field for field in fields(kind)}
    if not isinstance(values, dict) or values.keys() != expected.keys():
        raise WireError(problem=f"a {kind.__name__} message has the fields {', '.join(expected) or 'none'}")
    return kind(**{field.name: _checked(kind, name, field.type, values[name]) for name, field in expected.items()})


def _checked(kind: type[ChannelMessage], name: str, wanted: Any, value: Any) -> Any:
    if wanted == float | None:
        if value is None:
            return None
        wanted = float
    if wanted is float and type(value) is int and abs(value) < 2**1023:  # beyond it there is no such float
        value = float(value)
    if type(value) is not wanted or (wanted is int and not 0 <= value < 2**63):
        raise WireError(problem=f"{name} of a {kind.__name__} message cannot be {str(value)[:40]!r}")
    return value


def _camel(name: str) -> str:
    return re.sub(r"_(.)", lambda match: match[1].upper(), name)
