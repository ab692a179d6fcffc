"""The record for people: a table of the rounds, and all other events, in the order of the chain."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.audit.data import event_data
from services.audit.models import ModelFile
from services.audit.record import Record, RecordPosition, RoundRecord
from services.rpc import swarm_pb2 as pb
from services.rpc.measures import shown
from services.rpc.swarm_pb2 import RoundState

DIGEST_CHARACTERS = 16


def record_view(record: Record, files: Sequence[ModelFile] = ()) -> RenderableType:
    """Everything to show."""
    parts: list[RenderableType] = [Text(headline(record), style="bold")]
    if record.organizations:
        parts.append(_cell(organizations(record)))
    if record.rounds:
        parts.append(rounds_table(record))
    if record.others:
        parts.append(events_table(record.others))
    if files:
        parts.append(files_table(files))
    parts.append(Text(verdict(record), style="green" if not record.problems else "bold red"))
    return Group(*parts)


def headline(record: Record) -> str:
    """``Record of demo (0x12...) up to block 31: COMPLETE, 4 rounds accepted``"""
    accepted = sum(entry.result is not None for entry in record.rounds.values())
    state = f"{RoundState.Name(record.state)}, {accepted} round{'s' * (accepted != 1)} accepted"
    return f"Record of {record.contract} ({record.location}) up to block {record.block}: {state}"


def organizations(record: Record) -> Iterator[str]:
    """``hospital-a: a-1, a-2``, and last those whose organization is unknown."""
    of: dict[str, list[str]] = {}
    for name in record.participants:
        of.setdefault(record.organizations.get(name, ""), []).append(name)
    for organization in sorted(of, key=lambda it: (not it, it)):
        yield f"{organization or 'organization unknown'}: {', '.join(of[organization])}"


def verdict(record: Record) -> str:
    if record.problems:
        return _cell([f"{len(record.problems)} contradictions:", *record.problems]).plain
    return f"{record.count} events, in the order of the chain, none against the rules of a round."


def rounds_table(record: Record) -> Table:
    """One row per round; its place on the chain is that of its result, or of its newest event."""
    table = Table("block", "log", "round", "terms", "checked in", "result", "left out", "loss", show_lines=True)
    for entry in record.rounds.values():
        block, log_index = _newest(entry)
        table.add_row(
            str(block),
            str(log_index),
            str(entry.number),
            _cell(_terms(entry)),
            _cell(_check_ins(entry)),
            _cell(_result(entry)),
            _cell(_left_out(entry)),
            _cell(f"{it.name} {shown(it.loss, '.4g')} ({shown(it.metric, '.4g')})" for it in entry.reports),
        )
    return table


def events_table(events: Sequence[pb.RecordEvent]) -> Table:
    """One row per event, in order."""
    table = Table("block", "log", "event", "facts")
    for event in events:
        facts = event_data(event)
        block, log_index, kind = (str(facts.pop(key)) for key in ("block", "log_index", "event"))
        table.add_row(block, log_index, kind.replace("_", " "), _cell(_facts(facts), " "))
    return table


def files_table(files: Sequence[ModelFile]) -> Table:
    table = Table("file", "digest", "it is", "")
    for it in files:
        mark = Text("differs", style="bold red") if it.differs else Text("ok", style="green")
        table.add_row(_cell([str(it.path)]), it.digest[:DIGEST_CHARACTERS] or "-", _cell([it.found]), mark)
    return table


def _cell(lines: Iterable[str], between: str = "\n") -> Text:
    """Literal text without markup; unprintable characters are replaced, so no node can control the terminal."""
    return Text(between.join("".join(it if it.isprintable() else "?" for it in line) for line in lines) or "-")


def _newest(entry: RoundRecord) -> RecordPosition:
    if entry.result is not None:
        return entry.result.at
    places = [it.at for it in entry.check_ins] + [it.at for it in entry.terms] + [it.at for it in entry.left_out]
    return max(places, default=RecordPosition(0, 0))


def _terms(entry: RoundRecord) -> Iterator[str]:
    for term in entry.terms:
        votes = f", {len(term.votes)} votes against" if term.votes else ""
        yield f"{term.term}: {term.leader} {term.ended or 'merges'}{votes}"


def _check_ins(entry: RoundRecord) -> Iterator[str]:
    for it in entry.check_ins:
        ended = ", finished" if it.finished else ""
        stale = f" ({it.staleness} rounds stale)" if it.staleness else ""
        yield f"{it.name} weight {it.weight}{stale}, {it.size} B, {it.digest[:DIGEST_CHARACTERS]}, {it.fate}{ended}"


def _result(entry: RoundRecord) -> Iterator[str]:
    if entry.result is not None:
        yield entry.result.digest[:DIGEST_CHARACTERS] + (" (final)" if entry.completed else "")
        yield f"{entry.result.size} B of {entry.result.participants}"


def _left_out(entry: RoundRecord) -> Iterator[str]:
    for it in entry.left_out:
        yield f"{it.name}: {it.reason}"
    for name in entry.absent:
        yield f"{name}: not checked in"


def _facts(facts: dict[str, object]) -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _facts(value)
        else:
            long = isinstance(value, str) and name in ("digest", "fingerprint", "layout")
            yield f"{name}={str(value)[:DIGEST_CHARACTERS] if long else value}"
