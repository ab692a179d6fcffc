"""SwarmNetwork in Python: the swarm's organizations and members, the accounts that may write, the contracts in use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from services.chain.abi import checksummed
from services.chain.backend import ChainBackend
from services.chain.events import CHANGES, ROLES, NetworkEvent, network_event
from services.chain.gateway import Gateway
from services.chain.receipts import Log, Receipt

PAGE = 100
NOWHERE = "0x" + "00" * 20


@dataclass(frozen=True)
class Member:
    """A node of the swarm. ``fingerprint`` is the SHA-256 of its public key, 32 bytes.

    ``organization``: whose CA issued its certificate, as its parent determined; empty without a trust file.
    """

    name: str
    role: str
    host: str
    port: int
    fingerprint: bytes
    parent: str
    present: bool
    organization: str = ""


@dataclass(frozen=True)
class ContractEntry:
    """A contract of the swarm and its address. ``organizations``: those that may take part; empty: all."""

    name: str
    kind: str
    location: str
    organizations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Founding:
    """An organization that a swarm begins with. ``cas``: SHA-256 of the public keys of its CAs, 32 bytes each.

    ``sns``: names of its SNs that need no vote to join.
    """

    name: str
    cas: tuple[bytes, ...]
    sns: tuple[str, ...] = ()


ONE_ORGANIZATION = (Founding("", ()),)  # without a trust file


@dataclass(frozen=True)
class OrganizationEntry:
    """``sns``: number of its SN accounts that may write. ``held``: False once the organization was removed."""

    name: str
    cas: tuple[bytes, ...]
    sns: int
    held: bool


@dataclass(frozen=True)
class Proposal:
    """A change that organizations vote on. ``change``: admit, admit-sn, remove or expel.

    ``organization``: which one it concerns. ``proposer``: the organization that may withdraw it. ``at``: time of its
    block, seconds since 1970, UTC. ``cas``: for admit, all CAs that the organization will have. ``node``: for admit-sn,
    with its ``account``, and for expel, with its ``role``. ``voters``: organizations that voted for it; ``by``: for
    each vote, the administrator who ordered it, role/name.
    """

    number: int
    change: str
    organization: str
    proposer: str
    at: int
    cas: tuple[bytes, ...]
    role: str
    node: str
    account: str
    voters: tuple[str, ...]
    by: tuple[str, ...]
    open: bool


class NetworkGateway(Gateway[NetworkEvent]):
    """Writes return after their receipt. They raise NotARegisteredSN if this node's account may not write."""

    contract = "SwarmNetwork"

    @classmethod
    async def deploy(
        cls, chain: ChainBackend, sn: str = "sn-1", organizations: Sequence[Founding] = ONE_ORGANIZATION
    ) -> Self:
        """A new swarm; this node's account is the first that may write. ``sn``: the name of this SN."""
        columns = zip(*((one.name, one.cas, one.sns) for one in organizations), strict=True)
        return await cls._deploy(chain, sn, *columns)

    async def add_sn_account(self, account: str, name: str, organization: str = "") -> Receipt:
        """Lets another SN's account write; changes nothing if it already may. Raises OrganizationNotHeld,
        SNNotVotedIn, Expelled.
        """
        return await self._send("addSNAccount", account, name, organization)

    async def needs_votes(self, name: str, organization: str) -> bool:
        """Whether an SN of this name may write only after a vote. Raises OrganizationNotHeld."""
        return bool(await self._read("needsVotes", name, organization))

    async def remove_sn_account(self, account: str) -> Receipt:
        """Raises LastSN if no other account may write, AnotherOrganization if the account belongs to another one."""
        return await self._send("removeSNAccount", account)

    async def propose(  # noqa: PLR0917 - in the order of the contract
        self, change: str, organization: str, by: str, cas: Sequence[bytes] = (), sn: str = "", account: str = NOWHERE
    ) -> Receipt:
        """Proposes a change and votes for it on behalf of this SN's organization. ``by``: role/name of the
        administrator who ordered it; empty if an SN asks to join, which is not a vote yet.

        Raises NoOrganizations, OrganizationNotHeld, NoSNWouldBeLeft, TooManyProposals, Expelled, MalformedCall.
        """
        return await self._send("propose", CHANGES.index(change), organization, cas, sn, account, by)

    async def expel(self, role: str, name: str, by: str) -> Receipt:
        """Expels a node of this SN's organization from the swarm, or proposes to expel one of another organization.
        ``name``: its registered name. Raises NotAMember, Expelled, LastSN, OrganizationNotHeld, TooManyProposals.
        """
        return await self._send("expel", ROLES.index(role), name, by)

    async def withdraw(self, number: int, by: str) -> Receipt:
        """Raises NoSuchProposal, ProposedByAnother."""
        return await self._send("withdraw", number, by)

    async def vote(self, number: int, by: str) -> Receipt:
        """Raises NoSuchProposal, and whatever carrying out the proposal raises."""
        return await self._send("vote", number, by)

    async def request_of(self, organization: str, sn: str, account: str) -> int:
        """The number of the open proposal of an SN that asks to join; 0 if there is none."""
        return int(await self._read("requestOf", organization, sn, account))

    async def votes_needed(self) -> int:
        """More than half of the organizations that have an SN."""
        return int(await self._read("votesNeeded"))

    async def organizations(self) -> list[OrganizationEntry]:
        """All that were ever admitted, in the order of admission."""
        return [OrganizationEntry(*row) for row in await self._read_pages("organizations", PAGE)]

    async def proposals(self) -> list[Proposal]:
        """All that were ever made, oldest first."""
        return [_proposal(row) for row in await self._read_pages("proposals", PAGE)]

    async def is_sn(self, account: str) -> bool:
        return bool(await self._read("isSN", account))

    async def register_member(  # noqa: PLR0917 - in the order of the contract
        self, name: str, role: str, host: str, port: int, fingerprint: bytes, parent: str, organization: str = ""
    ) -> Receipt:
        """Registers a member or brings it back. Raises NameTaken if the name belongs to another key,
        OrganizationNotHeld, Expelled.
        """
        written = (name, ROLES.index(role), host, port, fingerprint, parent, organization)
        return await self._send("registerMember", *written)

    async def replace_key(  # noqa: PLR0917 - in the order of the contract
        self, role: str, name: str, before: bytes, key: bytes, by: str, at: int, overlap_s: int
    ) -> Receipt:
        """``by``: role/name. ``at``: ms since 1970, UTC. Raises NotAMember, NameTaken if ``before`` is not the
        registered key, KeyWasReplaced, Expelled.
        """
        return await self._send("replaceKey", ROLES.index(role), name, before, key, by, at, overlap_s)

    async def mark_member_left(self, role: str, name: str, reason: str) -> Receipt:
        """Raises NotAMember if no member of that role has the name."""
        return await self._send("markMemberLeft", ROLES.index(role), name, reason)

    async def members(self) -> list[Member]:
        """All members ever, in the order of their first registration."""
        return [_member(row) for row in await self._read_pages("members", PAGE)]

    async def member_named(self, role: str, name: str) -> Member:
        """Raises NotAMember if there is none."""
        return _member(await self._read("memberNamed", ROLES.index(role), name))

    async def register_contract(
        self, name: str, kind: str, location: str, organizations: Sequence[str] = ()
    ) -> Receipt:
        """Raises ContractNameTaken, since no name is ever used twice; OrganizationNotHeld."""
        return await self._send("registerContract", name, kind, location, organizations)

    async def contracts(self) -> list[ContractEntry]:
        """All contracts, in the order of their registration."""
        rows = await self._read_pages("contracts", PAGE)
        return [ContractEntry(name, kind, checksummed(location), only) for name, kind, location, only in rows]

    async def contract_named(self, name: str) -> str | None:
        """Its address; None if there is no contract of that name."""
        location = await self._read("contractNamed", name)
        return None if location == NOWHERE else checksummed(location)

    def _event(self, log: Log) -> NetworkEvent:
        return network_event(log)


def _member(row: tuple[str, int, str, int, bytes, str, bool, str]) -> Member:
    name, role, host, port, fingerprint, parent, present, organization = row
    return Member(name, ROLES[role], host, port, fingerprint, parent, present, organization)


def _proposal(
    row: tuple[int, int, str, str, int, tuple[bytes, ...], int, str, str, tuple[str, ...], tuple[str, ...], bool],
) -> Proposal:
    number, change, organization, proposer, at, cas, role, node, account, voters, by, is_open = row
    return Proposal(
        number=number,
        change=CHANGES[change],
        organization=organization,
        proposer=proposer,
        at=at,
        cas=cas,
        role=ROLES[role],
        node=node,
        account=checksummed(account),
        voters=voters,
        by=by,
        open=is_open,
    )
