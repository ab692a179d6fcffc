"""Commands about the organizations of the swarm and their votes."""

from typing import ClassVar

from services.errors import CommandError, NotAMember
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.wording import change_in_words, moment_utc
from services.swci import translation
from services.swci.grammar.command import Command, Group, Say
from services.swci.grammar.kinds import (
    KEYS,
    MEMBER_ROLE,
    MEMBER_ROLES,
    ORGANIZATION_NAME,
    PROPOSAL,
    argument,
    name_of,
)
from services.swci.session import CommandSession
from services.swci.wording import clean, table
from swarmlearning.swci import models

NAMELESS = "-"


class OrganizationCommand(Command):
    group = Group.ORGANIZATION


class ListOrganizations(OrganizationCommand):
    """List the organizations of the swarm, and open proposals with their votes and the missing ones."""

    syntax: ClassVar[str] = "LIST ORGANIZATIONS"

    async def run(self, session: CommandSession, say: Say) -> models.Organizations:
        return await _listed(await session.sn())

    def show(self, result: models.Organizations) -> list[str]:
        rows = [(it.name or NAMELESS, it.sns, " ".join(ca[:16] for ca in it.cas) or "-") for it in result.organizations]
        lines = table(("ORGANIZATION", "SNS", "CAS"), rows)
        if not result.proposals:
            return lines
        return [*lines, "", *(line for it in result.proposals for line in _lines(it))]


class _Voting(OrganizationCommand):
    """A command that shows a vote."""

    def show(self, result: models.Proposal) -> list[str]:
        return _lines(result)


class ProposeOrganization(_Voting):
    """Propose an organization with its CAs, or other CAs for one that the swarm has; the SN votes for it at once.

    The fingerprints are the "public key" that `swarm certs show` tells of each CA certificate, all that it is to have.
    An SN votes for its own organization, on the word of an administrator of it.
    """

    syntax: ClassVar[str] = "PROPOSE ORGANIZATION <name> <fingerprints>"

    name: str = argument(ORGANIZATION_NAME)
    fingerprints: str = argument(KEYS)

    async def run(self, session: CommandSession, say: Say) -> models.Proposal:
        client = await session.sn()
        cas = [bytes.fromhex(word) for word in self.fingerprints.split()]
        request = pb.ProposeOrganizationRequest(name=self.name, cas=cas)
        return await _voted(client, await client.admin.ProposeOrganization(request))


class ApproveProposal(_Voting):
    """Make the SN vote for an open proposal, on behalf of its organization. LIST ORGANIZATIONS shows the numbers."""

    syntax: ClassVar[str] = "APPROVE PROPOSAL <number>"

    number: int = argument(PROPOSAL)

    async def run(self, session: CommandSession, say: Say) -> models.Proposal:
        client = await session.sn()
        return await _voted(client, await client.admin.Approve(pb.ApproveRequest(number=self.number)))


class RemoveOrganization(_Voting):
    """Propose to remove an organization with all its nodes; the SN votes for it at once."""

    syntax: ClassVar[str] = "REMOVE ORGANIZATION <name>"

    name: str = argument(ORGANIZATION_NAME)

    async def run(self, session: CommandSession, say: Say) -> models.Proposal:
        client = await session.sn()
        return await _voted(client, await client.admin.ProposeRemoval(pb.ProposeRemovalRequest(name=self.name)))


class WithdrawProposal(OrganizationCommand):
    """Withdraw an open proposal that the SN's organization has made. LIST ORGANIZATIONS shows whose each is."""

    syntax: ClassVar[str] = "WITHDRAW PROPOSAL <number>"

    number: int = argument(PROPOSAL)

    async def run(self, session: CommandSession, say: Say) -> models.Message:
        client = await session.sn()
        await client.admin.Withdraw(pb.WithdrawRequest(number=self.number))
        return models.Message(f"PROPOSAL {self.number} WITHDRAWN")

    def show(self, result: models.Message) -> list[str]:
        return [result.text]


class ExpelNode(OrganizationCommand):
    """Expel a node from the swarm for good: at once if it is of the SN's organization, otherwise by vote.

    All nodes that share its certificate are meant. The SN proposes the expulsion of another organization's node, and
    votes for it at once.
    """

    syntax: ClassVar[str] = "EXPEL NODE <node> [role]"

    node: str = argument(name_of("node"))
    role: str | None = argument(MEMBER_ROLE, default=None)

    async def run(self, session: CommandSession, say: Say) -> models.Expulsion:
        client = await session.sn()
        role = self.role or await self._only_role(client)
        reply = await client.admin.Expel(pb.ExpelRequest(role=role, name=self.node))
        voted = await _voted(client, reply.vote) if reply.HasField("vote") else None
        return models.Expulsion(role, self.node, voted if voted is not None and voted.open else None)

    async def _only_role(self, client: SNClient) -> str:
        """Raises NotAMember, or CommandError if nodes of several roles have the name."""
        nodes = (await client.network.ListNodes(pb.ListNodesRequest())).nodes
        roles = {it.role for it in nodes if it.name.partition("/")[0] == self.node and it.role in MEMBER_ROLES}
        if not roles:
            raise NotAMember(name=self.node)
        if len(roles) > 1:
            problem = f"{self.node} is the name of nodes of the roles {', '.join(sorted(roles))}"
            raise CommandError(problem=problem, usage=f"EXPEL NODE {self.node} <role>")
        return roles.pop()

    def show(self, result: models.Expulsion) -> list[str]:
        if result.proposal is not None:
            return _lines(result.proposal)
        return [clean(f"EXPELLED : {result.role} {result.node}")]


async def _listed(client: SNClient) -> models.Organizations:
    return translation.organizations(await client.network.ListOrganizations(pb.ListOrganizationsRequest()))


async def _voted(client: SNClient, reply: pb.VoteReply) -> models.Proposal:
    voting = [it.name for it in (await _listed(client)).organizations if it.sns] if reply.proposal.open else []
    return translation.proposal(reply.proposal, reply.votes_needed, voting)


def _lines(it: models.Proposal) -> list[str]:
    votes = ", ".join(f"{vote.organization} ({vote.by})" for vote in it.votes) or "nobody"
    if not it.open:
        return [clean(f"PROPOSAL {it.number} CARRIED OUT : {_change(it)}"), clean(f"  FOR     : {votes}")]
    return [
        clean(f"PROPOSAL {it.number} : {_change(it)}"),
        clean(f"  BY      : {it.proposer}, since {moment_utc(it.at)}"),
        clean(f"  FOR     : {votes}"),
        clean(
            f"  MISSING : {it.votes_needed - len(it.votes)} of {it.votes_needed} votes, from {', '.join(it.missing)}"
        ),
    ]


def _change(it: models.Proposal) -> str:
    cas = f", CAs {' '.join(ca[:16] for ca in it.cas)}" if it.cas else ""
    account = f", account {it.account}" if it.account else ""
    return f"{change_in_words(it)}{cas}{account}"
