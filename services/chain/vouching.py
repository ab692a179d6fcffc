"""What the SNs vouch for: this one's own word, and what the others have said."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from services.chain.finality import Exposure, Vouch
from services.chain.newest import Newest
from services.chain.tail import Tail

VOUCHES_KEPT = 64


@dataclass(frozen=True)
class Standing:
    """What an SN tells the others of its chain: the total difficulty of its head, and what it vouches for."""

    total: int
    vouch: Vouch | None


class Vouching:
    """``totals``: what the SNs in touch have, by account. ``own``: what this SN tells. ``vouched``: the greatest total
    difficulty that it has vouched for.
    """

    def __init__(self, account: str, exposure: Exposure) -> None:
        self._me = account
        self._exposure = exposure
        self._said: dict[str, deque[Vouch]] = {}
        self.totals: dict[str, int] = {}
        self.own: Newest[Standing] = Newest()
        self.vouched = -1

    def heard(self, account: str, standing: Standing) -> None:
        """What another SN tells."""
        self.totals[account] = standing.total
        if standing.vouch is not None:
            self._keep(account, standing.vouch)

    def tell(self, tail: Tail, signers: Sequence[str]) -> None:
        """Tells of a new head, and vouches for it where nothing sealed elsewhere is in the way."""
        head, floor = tail.head, self._exposure.floor(signers)
        vouch = None
        if head.total >= floor:
            vouch = Vouch(head.number, head.hash, floor)
            self._keep(self._me, vouch)
            self.vouched = max(self.vouched, head.total)
        self.own.put(Standing(head.total, vouch))

    def on(self, tail: Tail) -> dict[str, Vouch]:
        """The newest word of each SN on blocks of this chain."""
        found: dict[str, Vouch] = {}
        for account, said in self._said.items():
            there = (vouch for vouch in reversed(said) if tail.holds(vouch.number, vouch.hash))
            if (newest := next(there, None)) is not None:
                found[account] = newest
        return found

    def all_spoke(self, tail: Tail, accounts: Sequence[str]) -> bool:
        """Whether all these vouch for the head."""
        words = self.on(tail)
        return all(account in words and words[account].hash == tail.head.hash for account in accounts)

    def _keep(self, account: str, vouch: Vouch) -> None:
        self._said.setdefault(account, deque(maxlen=VOUCHES_KEPT)).append(vouch)
