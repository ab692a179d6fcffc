"""Which blocks no other chain can replace any more, and what a signer may attest to. No I/O.

geth follows the chain of greatest total difficulty; of equal ones the shorter, then any. A signer *attests* to the
blocks of its chain from some total difficulty on. This means that it holds them, and that every block that it may
have sealed on another chain is so far behind that the signers that may be missing cannot make it the heavier chain.
Once more than half of the signers attest to a block, only the others could replace it. They can add at most as many
blocks to another chain as they are, because in Clique, consecutive blocks have different signers, as many as are
more than half. If even those are too light, the block is final. docs/architecture.md has the picture and the proof.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from services.chain.clique import IN_TURN, OUT_OF_TURN, ChainBlock, in_turn, majority, minority


@dataclass(frozen=True)
class Attestation:
    """Covers the blocks up to ``number``, on the chain of ``hash``, whose total difficulty is at least ``floor``."""

    number: int
    hash: str
    floor: int


@dataclass(frozen=True)
class Era:
    """``signers``, in order, seal the blocks from number ``start`` on."""

    start: int
    signers: tuple[str, ...]


def final_number(
    chain: Sequence[ChainBlock],
    eras: Sequence[Era],
    attestations: Mapping[str, Attestation],
    *,
    voting: bool,
    candidates: Set[str] = frozenset(),
) -> int:
    """The newest final block of ``chain``; -1 if none is known to be final.

    ``chain``: consecutive blocks, from a final one up to the head. ``eras``: those of these blocks and the next one,
    oldest first. ``attestations``: for blocks on this chain, by account. ``voting``: another chain may have other
    signers, so turns are not known. ``candidates``: accounts that have votes to become signers; on another chain the
    votes of signers that do not attest may already have made them signers.
    """
    unsettled = voting or bool(candidates) or any(era.start > chain[0].number + 1 for era in eras)
    best = -1
    for link in reversed(chain):
        if link.number <= best:
            break
        holders = {account for account, attestation in attestations.items() if _holds(attestation, link)}
        if not _most(era_of(eras, link.number).signers, holders):
            continue
        threatened = [
            fork.number
            for fork in chain
            if fork.number < link.number
            and _can_replace(fork, link, era_of(eras, fork.number + 1).signers, holders, candidates, unsettled)
        ]
        best = max(best, min(threatened, default=link.number))
    return best


def era_of(eras: Sequence[Era], number: int) -> Era:
    """Who seals block ``number``."""
    return next((era for era in reversed(eras) if era.start <= number), eras[0])


def _holds(attestation: Attestation, link: ChainBlock) -> bool:
    return attestation.number >= link.number and attestation.floor <= link.total


def _most(signers: Sequence[str], holders: Set[str]) -> bool:
    return sum(signer in holders for signer in signers) >= majority(signers)


def _can_replace(  # noqa: PLR0917 - a block, the one that it may replace, and who may do so
    fork: ChainBlock,
    link: ChainBlock,
    signers: Sequence[str],
    holders: Set[str],
    candidates: Set[str],
    unsettled: bool,
) -> bool:
    """Whether signers that do not attest can seal on ``fork`` and get a chain that geth may prefer to ``link``'s."""
    if not _most(signers, holders):
        return True
    others = set(signers) - holders
    if others:  # one of them may complete a vote
        others |= candidates - holders
    total = fork.total
    for number in range(fork.number + 1, fork.number + 1 + len(others)):
        total += IN_TURN if unsettled or in_turn(signers, number) in others else OUT_OF_TURN
        if total > link.total or (total == link.total and number <= link.number):
            return True
    return False


class Exposure:
    """The blocks that this signer may have sealed and that are not on its chain: their total difficulties, kept until
    they are harmless.
    """

    def __init__(self) -> None:
        self._totals: list[int] = []
        self._open: tuple[int, int] | None = None
        self._times = 0

    def may_seal(self, number: int, total: int) -> None:
        """geth is told to seal block ``number``, of total difficulty ``total``; told twice, it may seal several."""
        if self._open == (number, total):
            self._times += 1
            return
        self.cut_off()
        self._times, self._open = 1, (number, total)

    def may_seal_again(self) -> None:
        """Of the block that geth was told to seal, there may be two."""
        self._times += 1

    def cut_off(self) -> None:
        """The outcome of the block that geth may be sealing will not be seen."""
        if self._open is not None:
            self.lost(self._open[1])
            self._open = None

    def lost(self, total: int) -> None:
        """A block that this signer sealed, or may have, is not on its chain."""
        self._totals.append(total)

    def moved(self, number: int, mine: bool) -> None:
        """The chain now has block ``number``; ``mine``: this signer sealed it."""
        if self._open is None:
            return
        expected, total = self._open
        if not (mine and number == expected and self._times == 1):
            self.lost(total)
        self._open = None

    def floor(self, signers: Sequence[str]) -> int:
        """The total difficulty from which this signer may attest."""
        return max(self._totals) + 2 * minority(signers) + 1 if self._totals else 0

    def forget_below(self, final_total: int, signers: Sequence[str]) -> None:
        """Forgets blocks on which no chain can reach the total of a final block any more."""
        self._totals = [total for total in self._totals if total + 2 * minority(signers) >= final_total]
