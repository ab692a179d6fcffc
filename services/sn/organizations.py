"""The organizations that the chain holds, and whether a caller belongs to one of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.errors import CANotVotedIn, OrganizationNotHeld
from services.identity.peers import PeerIdentity

NAMELESS = "without a name, and the SN that was asked knows no other: it has no trust file"


@dataclass
class HeldOrganizations:
    """``cas``: fingerprints of the CAs' public keys by organization, hexadecimal."""

    cas: dict[str, frozenset[str]] = field(default_factory=dict)

    def admitted(self, name: str, cas: Sequence[bytes]) -> None:
        self.cas[name] = frozenset(ca.hex() for ca in cas)

    def removed(self, name: str) -> None:
        self.cas.pop(name, None)

    def holds(self, name: str) -> bool:
        return name in self.cas

    def require(self, name: str) -> None:
        """Raises OrganizationNotHeld."""
        if name not in self.cas:
            raise OrganizationNotHeld(organization=name or NAMELESS)

    def check(self, peer: PeerIdentity) -> None:
        """Raises OrganizationNotHeld, CANotVotedIn."""
        self.require(peer.organization)
        if peer.organization and peer.ca not in self.cas[peer.organization]:
            facts = {"role": peer.role, "name": peer.name, "organization": peer.organization}
            raise CANotVotedIn(**facts, ca=peer.ca[:16])
