"""The record as plain data, for JSON: every event in the order of the chain, and the rounds made from them."""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from services.audit.record import (
    Contribution,
    ExclusionRecord,
    Record,
    RecordPosition,
    ReportRecord,
    ResultRecord,
    RoundRecord,
    Term,
)
from services.errors import StorageError
from services.rpc import swarm_pb2 as pb
from services.rpc.measures import in_json, measure_in_json


class EventFile:
    """The events as JSON, one per line, in a file, since they may be many; it is deleted when closed.

    Raises StorageError if it cannot be written.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"[")
        self._count = 0
        with _writing():
            self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, event: pb.RecordEvent) -> None:
        """Adds the next event, in the order of the chain."""
        line = json.dumps(event_data(event), sort_keys=True).encode()
        if self._count:
            self._hash.update(b", ")
        self._hash.update(line)
        self._count += 1
        with _writing():
            self._file.write(line + b"\n")

    def lines(self) -> Iterator[str]:
        """Each event as a JSON object."""
        with _writing():
            self._file.seek(0)
        for line in self._file:
            yield line.decode().rstrip()

    @property
    def digest(self) -> str:
        """SHA-256 of all events so far; the same at every SN whose chain is as long."""
        whole = self._hash.copy()
        whole.update(b"]")
        return whole.hexdigest()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(path=tempfile.gettempdir(), problem=error.strerror or str(error)) from None


def json_text(facts: Mapping[str, Any], events: EventFile) -> Iterator[str]:
    """One JSON object in pieces: first the facts, last the events."""
    yield json.dumps({**facts, "record_digest": events.digest})[:-1]
    yield ', "events": ['
    for number, line in enumerate(events.lines()):
        yield f", {line}" if number else line
    yield "]}"


def record_data(record: Record) -> dict[str, Any]:
    """The record without its events. Digests and fingerprints are hexadecimal; numbers that are not finite are ``NaN``,
    ``Infinity`` and ``-Infinity``.
    """
    return {
        "contract": record.contract,
        "location": record.location,
        "block": record.block,
        "state": pb.RoundState.Name(record.state),
        "sound": not record.problems,
        "problems": record.problems,
        "config": _plain(record.config) if record.config is not None else None,
        "participants": [
            {
                "name": who.name,
                "organization": record.organizations.get(who.name, ""),
                "fingerprint": who.fingerprint,
                "may_lead": who.may_lead,
                "active": who.active,
                "left": who.left,
                **_place(who.at),
            }
            for who in record.participants.values()
        ],
        "final": {"round": final.number, **_result(final.result)} if (final := record.final) and final.result else None,
        "rounds": [round_data(entry) for entry in record.rounds.values()],
    }


def round_data(entry: RoundRecord) -> dict[str, Any]:
    """One round: participants, weights, digests, sizes, leaders, result, who was left out and why, votes, reports."""
    return {
        "round": entry.number,
        "accepted": entry.result is not None,
        "completed": entry.completed,
        "result": _result(entry.result) if entry.result else None,
        "check_ins": [_contribution(it) for it in entry.check_ins],
        "terms": [_term(it) for it in entry.terms],
        "left_out": [_exclusion(it) for it in entry.left_out],
        "absent": entry.absent,
        "reports": [_report(it) for it in entry.reports],
    }


def event_data(event: pb.RecordEvent) -> dict[str, Any]:
    """``{"block": 7, "log_index": 0, "event": "checked_in", "round": 1, ...}``"""
    kind = event.WhichOneof("event")
    facts = _plain(getattr(event, kind)) if kind else {}
    return {"block": event.block, "log_index": event.log_index, "event": kind or "unknown", **facts}


def _plain(message: Any) -> dict[str, Any]:
    return {
        it.name: None if _left_out(message, it) else _value(getattr(message, it.name))
        for it in message.DESCRIPTOR.fields
    }


def _left_out(message: Any, field: Any) -> bool:
    return field.message_type is None and field.has_presence and not message.HasField(field.name)


def _value(value: Any) -> Any:
    if isinstance(value, pb.Config):
        return _plain(value)
    if isinstance(value, bytes):
        return value.hex()
    return in_json(value) if isinstance(value, float) else value


def _place(at: RecordPosition) -> dict[str, int]:
    return {"block": at.block, "log_index": at.log_index}


def _result(it: ResultRecord) -> dict[str, Any]:
    return {
        "digest": it.digest,
        "size": it.size,
        "leader": it.leader,
        "term": it.term,
        "participants": it.participants,
        **_place(it.at),
    }


def _contribution(it: Contribution) -> dict[str, Any]:
    return {
        "name": it.name,
        "digest": it.digest,
        "size": it.size,
        "weight": it.weight,
        "finished": it.finished,
        "staleness": it.staleness,
        "address": it.address,
        "fate": it.fate,
        **_place(it.at),
    }


def _term(it: Term) -> dict[str, Any]:
    return {
        "term": it.term,
        "leader": it.leader,
        "participants": it.participants,
        "votes": [{"voter": vote.voter, **_place(vote.at)} for vote in it.votes],
        "ended": it.ended,
        "ended_at": _place(it.ended_at) if it.ended_at else None,
        **_place(it.at),
    }


def _exclusion(it: ExclusionRecord) -> dict[str, Any]:
    return {"name": it.name, "reason": it.reason, "term": it.term, **_place(it.at)}


def _report(it: ReportRecord) -> dict[str, Any]:
    return {
        "name": it.name,
        "loss": measure_in_json(it.loss),
        "metric": measure_in_json(it.metric),
        "epochs_done": it.epochs_done,
        "epochs_total": it.epochs_total,
        **_place(it.at),
    }
