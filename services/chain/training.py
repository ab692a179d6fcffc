"""TrainingContract in Python: one training, its participants and its rounds."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Self

from services.chain.backend import ChainBackend
from services.chain.events import TrainingConfig, TrainingEvent, bits_of, marked, training_event
from services.chain.gateway import Gateway
from services.chain.receipts import Log, Receipt


@dataclass(frozen=True)
class CheckInCall:
    """The content of a check-in, in the order of the contract's struct. Digest and layout are 32 bytes.

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


class TrainingGateway(Gateway[TrainingEvent]):
    """Writes return after their receipt, and raise the error class with the name of the contract's error."""

    contract = "TrainingContract"

    @classmethod
    async def deploy(cls, chain: ChainBackend, network_address: str) -> Self:
        """A new training of the swarm whose SwarmNetwork is at ``network_address``."""
        return await cls._deploy(chain, network_address)

    # --- writing ------------------------------------------------------------------------------------

    async def enrol(self, name: str, fingerprint: bytes, may_lead: bool, config: TrainingConfig) -> Receipt:
        """Raises ConfigurationDiffers, NameTaken, TrainingComplete, MalformedCall."""
        return await self._send("enrol", name, fingerprint, may_lead, astuple(config))

    async def check_in(self, call: CheckInCall) -> Receipt:
        """Raises StaleRound, RoundClosed, Behind, AlreadyCheckedIn, ModelDiffers, NotEnrolled, ..."""
        return await self._send("checkIn", astuple(call))

    async def close_round(self, round_number: int, term: int) -> Receipt:
        """Raises BelowMinPeers, NobodyMayLead, RoundClosed, StaleRound; StaleTerm if the round was reopened."""
        return await self._send("closeRound", round_number, term)

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
        """Raises EnoughPeers if enough participants are left for a merge; otherwise as ``publish``."""
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
        """Raises StaleRound if the round was not accepted, or a later one was already reported."""
        bits = bits_of(loss), bits_of(metric)
        return await self._send("report", round_number, name, *bits, epochs_done, epochs_total)

    async def leave(self, name: str, reason: str) -> Receipt:
        """Raises NotEnrolled; changes nothing if it has already left."""
        return await self._send("leave", name, reason)

    async def reset(self) -> Receipt:
        """For a training that is complete, or that everyone has left; otherwise raises TrainingNotComplete."""
        return await self._send("reset")

    # --- reading ------------------------------------------------------------------------------------

    def _event(self, log: Log) -> TrainingEvent:
        return training_event(log)


def _columns(left_out: Sequence[LeftOutRow]) -> tuple[list[str], list[str]]:
    return [name for name, *_ in left_out], [marked(reason, not_finite) for _, reason, not_finite in left_out]
