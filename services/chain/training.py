"""TrainingContract as Python: one training, its participants and its rounds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any, Self

from services.chain.backend import ChainBackend
from services.chain.events import TrainingConfig, TrainingEvent, bits_of, marked, measure_of, training_event
from services.chain.gateway import Gateway
from services.chain.receipts import Receipt

PAGE = 100


class RoundState(IntEnum):
    """As in the contract and in the API."""

    UNCONFIGURED = 0
    CHECKIN = 1
    MERGE = 2
    COMPLETE = 3


@dataclass(frozen=True)
class CheckInCall:
    """What a check-in says, in the order of the contract's struct. Digest and layout are 32 bytes.

    ``base`` is the round whose result the parameters were trained from, 0 before the first.
    """

    round: int
    base: int
    name: str
    digest: bytes
    size: int
    layout: bytes
    weight: int
    finished: bool
    host: str
    port: int


# Who is left out, why, and whether that is for NaN or infinity.
LeftOutRow = tuple[str, str, bool]


@dataclass(frozen=True)
class Participant:
    """An enrolled node; ``index`` is its place in the contract. ``loss``, ``metric``: None where there is no value."""

    index: int
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


@dataclass(frozen=True)
class CheckIn:
    """One contribution to a round. ``participant`` is an index."""

    participant: int
    digest: bytes
    size: int
    weight: int
    finished: bool
    staleness: int = 0


@dataclass(frozen=True)
class RoundResult:
    """What an accepted round came to. ``leader`` is an index."""

    round: int
    digest: bytes
    size: int
    term: int
    leader: int
    participants: int


@dataclass(frozen=True)
class TrainingState:
    """Where a training stands. ``leader`` is an index and means something in MERGE only."""

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


@dataclass(frozen=True)
class TrainingSnapshot:
    """All of a training after one block. ``check_ins`` are of the running round, ``merged`` of the last accepted."""

    block: int
    state: TrainingState
    participants: list[Participant]
    check_ins: list[CheckIn]
    last_result: RoundResult | None
    merged: list[CheckIn]


class TrainingGateway(Gateway):
    """Writes return after their receipt and raise the error class named like the contract's error."""

    contract = "TrainingContract"

    @classmethod
    async def deploy(cls, chain: ChainBackend, network_address: str) -> Self:
        """A new training of the swarm whose SwarmNetwork stands at ``network_address``."""
        return await cls._deploy(chain, network_address)

    # --- writing ------------------------------------------------------------------------------------

    async def enrol(self, name: str, fingerprint: bytes, may_lead: bool, config: TrainingConfig) -> Receipt:
        """Raises ConfigurationDiffers, NameTaken, TrainingComplete, MalformedCall."""
        return await self._send("enrol", name, fingerprint, may_lead, astuple(config))

    async def check_in(self, call: CheckInCall) -> Receipt:
        """Raises StaleRound, RoundClosed, Behind, AlreadyCheckedIn, ModelDiffers, NotEnrolled, ..."""
        return await self._send("checkIn", astuple(call))

    async def close_round(self, round_number: int) -> Receipt:
        """Raises BelowMinPeers, NobodyMayLead, RoundClosed, StaleRound."""
        return await self._send("closeRound", round_number)

    async def publish(  # noqa: PLR0917 - in the order of the contract
        self,
        round_number: int,
        term: int,
        leader: str,
        digest: bytes,
        size: int,
        left_out: Sequence[LeftOutRow],
    ) -> Receipt:
        """Raises StaleRound, StaleTerm, NotTheLeader, BelowMinPeers, ..."""
        names, reasons = _columns(left_out)
        return await self._send("publish", round_number, term, leader, digest, size, names, reasons)

    async def reopen(self, round_number: int, term: int, leader: str, left_out: Sequence[LeftOutRow]) -> Receipt:
        """Raises EnoughPeers where those who are left could be merged, else as ``publish``."""
        names, reasons = _columns(left_out)
        return await self._send("reopen", round_number, term, leader, names, reasons)

    async def vote_out(self, round_number: int, term: int, voter: str) -> Receipt:
        """Raises StaleTerm, NotAParticipant, LeaderMayNotVote, RoundNotClosed."""
        return await self._send("voteOut", round_number, term, voter)

    async def report(  # noqa: PLR0917 - in the order of the contract
        self,
        round_number: int,
        name: str,
        loss: float | None,
        metric: float | None,
        epochs_done: int,
        epochs_total: int,
    ) -> Receipt:
        """Raises StaleRound for a round that was not accepted, or before one already reported."""
        bits = bits_of(loss), bits_of(metric)
        return await self._send("report", round_number, name, *bits, epochs_done, epochs_total)

    async def leave(self, name: str, reason: str) -> Receipt:
        """Raises NotEnrolled; nothing changes for one that left already."""
        return await self._send("leave", name, reason)

    async def reset(self) -> Receipt:
        """Raises TrainingNotComplete."""
        return await self._send("reset")

    # --- reading ------------------------------------------------------------------------------------

    async def status(self, block: int | None = None) -> TrainingState:
        state, round_, term, leader, accepted, first, config, layout, by, active = await self._read(
            "status", block=block
        )
        return TrainingState(
            RoundState(state), round_, term, leader, accepted, first, TrainingConfig(*config), layout, by, active
        )

    async def participants(self, block: int | None = None) -> list[Participant]:
        """Everyone who ever enrolled, in the order of the first enrolment."""
        rows = await self._read_pages("participants", PAGE, block)
        return [_participant(index, row) for index, row in enumerate(rows)]

    async def check_ins(self, round_number: int, block: int | None = None) -> list[CheckIn]:
        """Who checked in to a round; of an accepted round, who was merged."""
        return [CheckIn(*row) for row in await self._read("checkIns", round_number, block=block)]

    async def result(self, round_number: int, block: int | None = None) -> RoundResult | None:
        """What a round came to; None where nothing was accepted for it."""
        row = await self._read("result", round_number, block=block)
        return RoundResult(round_number, *row) if any(row[0]) else None

    async def snapshot(self) -> TrainingSnapshot:
        """Everything at once, as it was after one block; go on with ``follow(snapshot.block + 1)``."""
        block = await self.chain.block_number()
        state, participants = await asyncio.gather(self.status(block), self.participants(block))
        check_ins, result, merged = await asyncio.gather(
            self.check_ins(state.round, block),
            self.result(state.last_accepted, block),
            self.check_ins(state.last_accepted, block),
        )
        return TrainingSnapshot(block, state, participants, check_ins, result, merged)

    def history(self, from_block: int = 0, to_block: int | None = None) -> AsyncIterator[list[TrainingEvent]]:
        """What happened from one block to another (default: the newest), both included, in order, page by page."""
        return self._pages(training_event, from_block, to_block)

    async def events(self, from_block: int = 0) -> list[TrainingEvent]:
        """All of it at once, for a history that is known to be short."""
        return [event async for page in self.history(from_block) for event in page]

    async def follow(self, from_block: int = 0) -> AsyncIterator[TrainingEvent]:
        """What happened since a block, then everything new, without a gap; ends with the chain."""
        async for log in self._follow(from_block):
            yield training_event(log)


def _participant(index: int, row: Sequence[Any]) -> Participant:
    name, fingerprint, host, port, may_lead, active, done, total, report_round, loss, metric = row
    measures = (measure_of(loss), measure_of(metric)) if report_round else (None, None)
    return Participant(
        index, name, fingerprint, host, port, may_lead, active, done, total, report_round, *measures
    )  # fmt: skip


def _columns(left_out: Sequence[LeftOutRow]) -> tuple[list[str], list[str]]:
    return [name for name, *_ in left_out], [marked(reason, not_finite) for _, reason, not_finite in left_out]
