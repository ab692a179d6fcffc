"""The record as plain data, for JSON: every event in the order of the chain, and the rounds they add up to."""

import hashlib
import json
import math
from typing import Any

from services.audit.record import Contribution, Exclusion, Place, Record, Report, Result, Round, Term
from services.rpc import swarm_pb2 as pb


def record_data(record: Record) -> dict[str, Any]:
    """Digests and fingerprints in hexadecimal, numbers that are not finite as None."""
    events = [event_data(event) for event in record.events]
    final = record.final
    return {
        "contract": record.contract,
        "location": record.location,
        "block": record.block,
        "state": record.state,
        "sound": not record.problems,
        "problems": record.problems,
        "record_digest": _digest(events),
        "config": _plain(record.config) if record.config is not None else None,
        "participants": [
            {
                "name": who.name,
                "fingerprint": who.fingerprint,
                "may_lead": who.may_lead,
                "active": who.active,
                "left": who.left,
                **_place(who.at),
            }
            for who in record.participants.values()
        ],
        "final": {"round": final.number, **_result(final.result)} if final and final.result else None,
        "rounds": [round_data(entry) for entry in record.rounds.values()],
        "events": events,
    }


def round_data(entry: Round) -> dict[str, Any]:
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


def _digest(events: list[dict[str, Any]]) -> str:
    """The same at every SN whose chain has come as far."""
    return hashlib.sha256(json.dumps(events, sort_keys=True).encode()).hexdigest()


def _plain(message: Any) -> dict[str, Any]:
    return {it.name: _value(getattr(message, it.name)) for it in message.DESCRIPTOR.fields}


def _value(value: Any) -> Any:
    if isinstance(value, pb.Config):
        return _plain(value)
    if isinstance(value, bytes):
        return value.hex()
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _place(at: Place) -> dict[str, int]:
    return {"block": at.block, "log_index": at.log_index}


def _result(it: Result) -> dict[str, Any]:
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


def _exclusion(it: Exclusion) -> dict[str, Any]:
    return {"name": it.name, "reason": it.reason, "term": it.term, **_place(it.at)}


def _report(it: Report) -> dict[str, Any]:
    return {
        "name": it.name,
        "loss": _number(it.loss),
        "metric": _number(it.metric),
        "epochs_done": it.epochs_done,
        "epochs_total": it.epochs_total,
        **_place(it.at),
    }
