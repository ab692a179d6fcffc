"""Votes of the swarm's organizations: proposals on the chain, which this SN makes and votes for."""

from collections.abc import Sequence, Set

from services.chain.network import NetworkGateway, OrganizationEntry, Proposal
from services.errors import NoSuchProposal
from services.rpc import swarm_pb2 as pb
from services.sn.membership import DirectoryMember


class Ballot:
    """The votes of this SN's organization. ``by``: role/name of the administrator who asked for it."""

    def __init__(self, network: NetworkGateway) -> None:
        self._network = network

    async def propose(self, change: str, organization: str, by: str, cas: Sequence[bytes] = ()) -> pb.VoteReply:
        """Raises NoOrganizations, OrganizationNotHeld, NoSNWouldBeLeft, TooManyProposals."""
        await self._network.propose(change, organization, by, cas)
        made = (change, organization, tuple(cas))
        alike = [one for one in await self._network.proposals() if (one.change, one.organization, one.cas) == made]
        return await self._voted(alike[-1])

    async def approve(self, number: int, by: str) -> pb.VoteReply:
        """Raises NoSuchProposal, and whatever carrying out the proposal raises."""
        known = await self._network.proposals()
        if not 0 < number <= len(known) or not known[number - 1].open:
            raise NoSuchProposal(number=number)
        await self._network.vote(number, by)
        return await self._voted((await self._network.proposals())[number - 1])

    async def withdraw(self, number: int, by: str) -> None:
        """Raises NoSuchProposal, ProposedByAnother."""
        await self._network.withdraw(number, by)

    async def expel(self, member: DirectoryMember, own: str, by: str) -> pb.VoteReply | None:
        """Expels a node of the ``own`` organization at once (returns None), any other by vote (returns the vote).

        Raises Expelled, LastSN, OrganizationNotHeld, TooManyProposals.
        """
        await self._network.expel(member.role, member.name, by)
        if member.organization == own:
            return None
        made = ("expel", member.role, member.name.partition("/")[0])
        alike = [one for one in await self._network.proposals() if (one.change, one.role, one.node) == made]
        return await self._voted(alike[-1])

    async def _voted(self, proposal: Proposal) -> pb.VoteReply:
        voting = _voting(await self._network.organizations())
        return pb.VoteReply(proposal=_message(proposal, voting), votes_needed=await self._network.votes_needed())


async def listed(network: NetworkGateway) -> pb.ListOrganizationsReply:
    """The organizations that the chain holds, and the proposals that are open."""
    organizations = await network.organizations()
    voting = _voting(organizations)
    return pb.ListOrganizationsReply(
        organizations=[pb.Organization(name=one.name, cas=one.cas, sns=one.sns) for one in organizations if one.held],
        proposals=[_message(one, voting) for one in await network.proposals() if one.open],
        votes_needed=await network.votes_needed(),
    )


def _voting(organizations: Sequence[OrganizationEntry]) -> set[str]:
    """The organizations whose votes count: those that the chain holds and that have an SN."""
    return {one.name for one in organizations if one.held and one.sns}


def _message(proposal: Proposal, voting: Set[str]) -> pb.Proposal:
    """An open proposal has only the votes that count now; one that is no longer open has all its votes."""
    votes = zip(proposal.voters, proposal.by, strict=True)
    return pb.Proposal(
        number=proposal.number,
        change=proposal.change,
        organization=proposal.organization,
        cas=proposal.cas,
        role=proposal.role if proposal.node else "",
        node=proposal.node,
        account=proposal.account if proposal.change == "admit-sn" else "",
        proposer=proposal.proposer,
        at=proposal.at,
        votes=[pb.Vote(organization=one, by=by) for one, by in votes if one in voting or not proposal.open],
        open=proposal.open,
    )
