"""Proposals as an SN shows them: with the votes that count."""

from dataclasses import replace

from services.chain.network import OrganizationEntry, Proposal
from services.sn.ballot import listed

A, B = OrganizationEntry("a", (), 1, held=True), OrganizationEntry("b", (), 1, held=True)
OPEN = Proposal(1, "expel", "b", "a", 0, (), "sl", "sl-b", "", ("a",), ("admin/ada",), open=True)


class Chain:
    """What is read of the directory."""

    def __init__(self, *organizations: OrganizationEntry) -> None:
        self._organizations = organizations

    async def organizations(self) -> list[OrganizationEntry]:
        return list(self._organizations)

    async def proposals(self) -> list[Proposal]:
        return [OPEN]

    async def votes_needed(self) -> int:
        return sum(one.held and one.sns > 0 for one in self._organizations) // 2 + 1


async def votes(*organizations: OrganizationEntry) -> tuple[list[str], int]:
    """Who is for it, and how many must be."""
    told = await listed(Chain(*organizations))  # type: ignore[arg-type]  # what it reads of the gateway
    return [vote.organization for vote in told.proposals[0].votes], told.votes_needed


async def test_the_vote_of_an_organization_without_an_sn_does_not_count() -> None:
    assert await votes(A, B) == (["a"], 2)
    assert await votes(replace(A, sns=0), B) == ([], 1)
    assert await votes(replace(A, held=False), B) == ([], 1)
