"""What the SNs attest to: this one and the others."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from services.chain.finality import Attestation, Exposure
from services.chain.latest_value import LatestValue
from services.chain.recent_blocks import RecentBlocks

ATTESTATIONS_KEPT = 64


@dataclass(frozen=True)
class Standing:
    """What an SN tells the others about its chain: the total difficulty of its head, and what it attests to."""

    total: int
    attestation: Attestation | None


class Attestations:
    """``totals``: total difficulties of the SNs in touch, by account. ``own``: what this SN tells the others.
    ``attested``: the greatest total difficulty that it has attested to.
    """

    def __init__(self, account: str, exposure: Exposure) -> None:
        self._me = account
        self._exposure = exposure
        self._said: dict[str, deque[Attestation]] = {}
        self.totals: dict[str, int] = {}
        self.own: LatestValue[Standing] = LatestValue()
        self.attested = -1
        self._unfounded: dict[str, int] = {}  # total difficulties that SNs claimed but did not have

    def heard(self, account: str, standing: Standing) -> None:
        """Takes the standing of another SN."""
        if account not in self._unfounded:
            self.totals[account] = standing.total
        if standing.attestation is not None:
            self._keep(account, standing.attestation)

    def unfounded(self, account: str) -> None:
        """The SN does not have what it last claimed. Its totals are ignored until this chain has that much."""
        if account in self.totals:
            self._unfounded[account] = self.totals.pop(account)

    def forget(self, account: str) -> None:
        """Forgets all that it said."""
        for said in (self._said, self.totals, self._unfounded):
            said.pop(account, None)

    def tell(self, tail: RecentBlocks, signers: Sequence[str]) -> None:
        """Tells the others of a new head, and attests to it unless a block sealed elsewhere prevents that."""
        head, floor = tail.head, self._exposure.floor(signers)
        self._unfounded = {account: said for account, said in self._unfounded.items() if said > head.total}
        attestation = None
        if head.total >= floor:
            attestation = Attestation(head.number, head.hash, floor)
            self._keep(self._me, attestation)
            self.attested = max(self.attested, head.total)
        self.own.put(Standing(head.total, attestation))

    def on(self, tail: RecentBlocks) -> dict[str, Attestation]:
        """The newest attestation of each SN to a block of this chain."""
        found: dict[str, Attestation] = {}
        for account, said in self._said.items():
            there = (attestation for attestation in reversed(said) if tail.holds(attestation.number, attestation.hash))
            if (newest := next(there, None)) is not None:
                found[account] = newest
        return found

    def all_spoke(self, tail: RecentBlocks, accounts: Sequence[str]) -> bool:
        """Whether all these attest to the head."""
        words = self.on(tail)
        return all(account in words and words[account].hash == tail.head.hash for account in accounts)

    def _keep(self, account: str, attestation: Attestation) -> None:
        self._said.setdefault(account, deque(maxlen=ATTESTATIONS_KEPT)).append(attestation)
