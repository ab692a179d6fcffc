"""Who seals which block according to the chain, and this node's vote on who should seal."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from services.chain.abi import checksummed
from services.chain.clique import ChainBlock, ordered
from services.chain.finality import Era
from services.chain.latest_value import LatestValue
from services.chain.recent_blocks import RecentBlocks
from services.chain.signer_election import Vote, next_vote
from services.runtime import logs as log_setup

Request = Callable[..., Awaitable[Any]]


class Voting:
    """``proposed``: this node's current vote."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._log = log_setup.get("chain")
        self.eras: list[Era] = []
        self.changed: LatestValue[tuple[str, ...]] = LatestValue()  # the signers
        self.proposed: Vote | None = None
        self._newest_vote = -1  # number of its block
        self._voted_for: frozenset[str] = frozenset()

    @property
    def signers(self) -> tuple[str, ...]:
        """Who seals the next block, in the order of turns."""
        return self.eras[-1].signers

    @property
    def one_signer(self) -> bool:
        """Whether a single account seals all recent blocks."""
        return len(self.eras) == 1 and len(self.signers) == 1

    @property
    def under_way(self) -> bool:
        """Whether a branch of this chain may have different signers."""
        return self.proposed is not None or self._newest_vote >= self.eras[-1].start

    @property
    def candidates(self) -> frozenset[str]:
        """Accounts that are not signers, and have votes, or this node's intended vote, to become signers."""
        proposed = {self.proposed.account} if self.proposed is not None and self.proposed.authorize else set()
        return (self._voted_for | proposed) - set(self.signers)

    async def read(self, tail: RecentBlocks) -> bool:
        """Asks geth who seals each block of the tail, and the next block; True if the latter has changed."""
        before = self.signers if self.eras else ()
        first, *rest = tail.links
        signers, voted_for = await self._standing_after(first)
        eras = [Era(first.number + 1, signers)]
        for link in rest:
            if not link.header.votes:
                continue
            signers, also_voted_for = await self._standing_after(link)
            voted_for |= also_voted_for
            if signers != eras[-1].signers:
                eras.append(Era(link.number + 1, signers))
        self.eras, self._voted_for = eras, frozenset(voted_for)
        self._newest_vote = max((link.number for link in rest if link.header.votes), default=-1)
        if self.signers != before:
            self._log.debug("signers", block=tail.head.number, accounts=", ".join(self.signers))
            self.changed.put(self.signers)
        return self.signers != before

    async def vote(self, live: Sequence[str], organizations: Mapping[str, str] | None = None) -> bool:
        """Votes as all signers do if these SNs are live; does not vote if no change is needed.
        ``organizations``: see ``next_vote``.

        Returns True if the vote has changed.
        """
        wanted = next_vote(self.signers, live, organizations)
        if wanted == self.proposed:
            return False
        if self.proposed is not None:
            await self._request("clique_discard", self.proposed.account)
        self.proposed = wanted
        if wanted is not None:
            self._log.info("voting on who seals", account=wanted.account, authorize=wanted.authorize)
            await self._request("clique_propose", wanted.account, wanted.authorize)
        return True

    async def _standing_after(self, link: ChainBlock) -> tuple[tuple[str, ...], set[str]]:
        """Who may seal the next block, and the accounts that have votes to become signers, however old these are."""
        found = await self._request("clique_getSnapshotAtHash", link.hash)
        signers = ordered([checksummed(account) for account in found["signers"]])
        tally = (found["tally"] or {}).items()
        return tuple(signers), {checksummed(account) for account, votes in tally if votes["authorize"]}
