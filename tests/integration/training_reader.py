"""Reads the state in a TrainingContract: SNs use its events, and tests compare the two."""

from typing import Any, NamedTuple

from services.chain.events import TrainingConfig, measure_of
from services.chain.training import TrainingGateway
from services.rpc.swarm_pb2 import RoundState

PAGE = 100


class StoredTraining(NamedTuple):
    """``leader`` is an index, as in the tuples below, and valid only in MERGE."""

    state: RoundState
    round: int
    term: int
    leader: int
    last_accepted: int
    first_round: int
    config: TrainingConfig
    layout: bytes
    layout_by: str
    active_count: int


class StoredParticipant(NamedTuple):
    name: str
    fingerprint: bytes
    host: str
    port: int
    may_lead: bool
    active: bool
    epochs_done: int
    epochs_total: int
    report_round: int
    loss: float | None
    metric: float | None


class StoredCheckIn(NamedTuple):
    participant: int
    size: int
    weight: int
    finished: bool
    staleness: int
    digest: bytes


class StoredResult(NamedTuple):
    digest: bytes
    size: int
    term: int
    leader: int
    participants: int


class TrainingReader(TrainingGateway):
    async def status(self, block: int | None = None) -> StoredTraining:
        row = StoredTraining(*await self._read("status", block=block))
        return row._replace(config=TrainingConfig(*row.config))

    async def participants(self) -> list[StoredParticipant]:
        """All that ever enrolled, in the order of first enrolment."""
        return [_participant(row) for row in await self._read_pages("participants", PAGE)]

    async def check_ins(self, round_number: int, block: int | None = None) -> list[StoredCheckIn]:
        """The check-ins of a round; of an accepted round, only those merged. Empty once two more rounds have begun."""
        return [StoredCheckIn(*row) for row in await self._read("checkIns", round_number, block=block)]

    async def result(self, round_number: int, block: int | None = None) -> StoredResult | None:
        """The result of a round; None if none was accepted, or if a later round has one."""
        row = await self._read("result", round_number, block=block)
        return StoredResult(*row) if any(row[0]) else None


def _participant(row: Any) -> StoredParticipant:
    found = StoredParticipant(*row)
    reported = found.report_round > 0
    return found._replace(
        loss=measure_of(row[-2]) if reported else None, metric=measure_of(row[-1]) if reported else None
    )
