"""What the organizations of the swarm vote on: proposals on the chain, which this SN makes and votes for."""

from collections.abc import Sequence

from services.chain.network import NetworkGateway, Proposal
from services.errors import NoSuchProposal
from services.rpc import swarm_pb2 as pb
from services.runtime import logs

_log = logs.get("sn")


class Ballot:
    """The votes of this SN's organization. ``by``: role/name of its administrator, on whose word."""

    def __init__(self, network: NetworkGateway) -> None:
        self._network = network

    async def propose(self, change: str, organization: str, by: str, cas: Sequence[bytes] = ()) -> pb.VoteReply:
        """Raises NoOrganizations, OrganizationNotHeld, NoSNWouldBeLeft."""
        await self._network.propose(change, organization, by, cas)
        made = (change, organization, tuple(cas))
        alike = [one for one in await self._network.proposals() if (one.change, one.organization, one.cas) == made]
        return await self._voted(alike[-1], by)

    async def approve(self, number: int, by: str) -> pb.VoteReply:
        """Raises NoSuchProposal, and what carrying it out would."""
        known = await self._network.proposals()
        if not 0 < number <= len(known) or not known[number - 1].open:
            raise NoSuchProposal(number=number)
        await self._network.vote(number, by)
        return await self._voted((await self._network.proposals())[number - 1], by)

    async def _voted(self, proposal: Proposal, by: str) -> pb.VoteReply:
        state = "open" if proposal.open else "carried out"
        facts = {"number": proposal.number, "change": proposal.change, "organization": proposal.organization}
        _log.info("voted", **facts, by=by, proposal=state)
        return pb.VoteReply(proposal=_message(proposal), votes_needed=await self._network.votes_needed())


async def listed(network: NetworkGateway) -> pb.ListOrganizationsReply:
    """The organizations that the chain holds, and the proposals that are open."""
    return pb.ListOrganizationsReply(
        organizations=[
            pb.Organization(name=one.name, cas=one.cas, sns=one.sns)
            for one in await network.organizations()
            if one.held
        ],
        proposals=[_message(one) for one in await network.proposals() if one.open],
        votes_needed=await network.votes_needed(),
    )


def _message(proposal: Proposal) -> pb.Proposal:
    of_sn = proposal.change == "admit-sn"
    return pb.Proposal(
        number=proposal.number,
        change=proposal.change,
        organization=proposal.organization,
        cas=proposal.cas,
        sn=proposal.sn,
        account=proposal.account if of_sn else "",
        votes=[pb.Vote(organization=one, by=by) for one, by in zip(proposal.voters, proposal.by, strict=True)],
        open=proposal.open,
    )
