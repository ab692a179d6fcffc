"""SwarmNetwork as Python: the members of the swarm, the accounts that may write, the contracts in use."""

from dataclasses import dataclass
from typing import Self

from services.chain.abi import checksummed
from services.chain.backend import ChainBackend
from services.chain.events import ROLES, NetworkEvent, network_event
from services.chain.gateway import Gateway
from services.chain.receipts import Log, Receipt

PAGE = 100
NOWHERE = "0x" + "00" * 20


@dataclass(frozen=True)
class Member:
    """A node of the swarm. ``fingerprint`` is the SHA-256 of its public key, 32 bytes.

    ``organization``: whose CA has named it, as its parent found; empty without a trust file.
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
    """A contract of the swarm and where it stands."""

    name: str
    kind: str
    location: str


class NetworkGateway(Gateway[NetworkEvent]):
    """Writes return after their receipt. Raises NotARegisteredSN where this node's account may not write."""

    contract = "SwarmNetwork"

    @classmethod
    async def deploy(cls, chain: ChainBackend) -> Self:
        """A new swarm, with this node's account as the first that may write."""
        return await cls._deploy(chain)

    async def add_sn_account(self, account: str, name: str) -> Receipt:
        """Lets another SN's account write; nothing changes where it may already."""
        return await self._send("addSNAccount", account, name)

    async def remove_sn_account(self, account: str) -> Receipt:
        """Raises LastSN where nobody else could write then."""
        return await self._send("removeSNAccount", account)

    async def is_sn(self, account: str) -> bool:
        return bool(await self._read("isSN", account))

    async def register_member(  # noqa: PLR0917 - in the order of the contract
        self, name: str, role: str, host: str, port: int, fingerprint: bytes, parent: str, organization: str = ""
    ) -> Receipt:
        """Registers a member or brings it back. Raises NameTaken where the name belongs to another key."""
        written = (name, ROLES.index(role), host, port, fingerprint, parent, organization)
        return await self._send("registerMember", *written)

    async def replace_key(  # noqa: PLR0917 - in the order of the contract
        self, role: str, name: str, before: bytes, key: bytes, by: str, at: int, overlap_s: int
    ) -> Receipt:
        """``by``: role/name. ``at``: ms since 1970, UTC. Raises NotAMember, NameTaken where ``before`` is not the key
        that is known, KeyWasReplaced.
        """
        return await self._send("replaceKey", ROLES.index(role), name, before, key, by, at, overlap_s)

    async def mark_member_left(self, role: str, name: str, reason: str) -> Receipt:
        """Raises NotAMember where nobody of that role has the name."""
        return await self._send("markMemberLeft", ROLES.index(role), name, reason)

    async def members(self) -> list[Member]:
        """All members ever, in the order of their first registration."""
        return [_member(row) for row in await self._read_pages("members", PAGE)]

    async def member_named(self, role: str, name: str) -> Member:
        """Raises NotAMember where there is none."""
        return _member(await self._read("memberNamed", ROLES.index(role), name))

    async def register_contract(self, name: str, kind: str, location: str) -> Receipt:
        """Raises ContractNameTaken; names are never given twice."""
        return await self._send("registerContract", name, kind, location)

    async def contracts(self) -> list[ContractEntry]:
        """All contracts, in the order of their registration."""
        rows = await self._read_pages("contracts", PAGE)
        return [ContractEntry(name, kind, checksummed(location)) for name, kind, location in rows]

    async def contract_named(self, name: str) -> str | None:
        """Its address; None where there is no contract of that name."""
        location = await self._read("contractNamed", name)
        return None if location == NOWHERE else checksummed(location)

    def _event(self, log: Log) -> NetworkEvent:
        return network_event(log)


def _member(row: tuple[str, int, str, int, bytes, str, bool, str]) -> Member:
    name, role, host, port, fingerprint, parent, present, organization = row
    return Member(name, ROLES[role], host, port, fingerprint, parent, present, organization)
