"""Who belongs to the swarm, and whether a caller is the member that is registered under its name."""

import time
from dataclasses import dataclass, field, replace

from services.errors import NameTaken, NotAMember, TooManySlots
from services.identity.expulsions import Expulsions
from services.identity.peers import PeerIdentity

# Roles in the directory on the chain, in its order. An administrator is a person, not a member.
MEMBER_ROLES = ("sn", "sl", "swop", "swci")

# Names that one key can ever be entered under: its own and its slots. A host has fewer SLs.
SLOTS_LIMIT = 256


@dataclass(frozen=True)
class Caller:
    """Who calls, according to its certificate; ``fingerprint`` is the SHA-256 of the public key, 32 bytes.

    ``name``: with the slot in which it acts, if it gave one. ``organization``: whose CA issued its certificate; empty
    without a trust file.
    """

    role: str
    name: str
    fingerprint: bytes
    organization: str = field(default="", compare=False)

    @property
    def named_by(self) -> dict[str, str]:
        """For the log: its organization, if known."""
        return {"organization": self.organization} if self.organization else {}


@dataclass(frozen=True)
class DirectoryMember:
    """``parent`` is the SN that it registered through; ``present`` is False once it has left or was lost.

    ``organization``: whose CA issued its certificate, as its parent found; empty without a trust file.
    ``previous``: a replaced key, still valid until ``previous_until``, seconds since 1970, UTC.
    """

    role: str
    name: str
    host: str
    port: int
    fingerprint: bytes
    parent: str
    present: bool = True
    organization: str = ""
    previous: bytes = b""
    previous_until: float = 0.0

    def has_key(self, fingerprint: bytes, now: float | None = None) -> bool:
        """Whether this is its key, or a replaced one that is still valid."""
        if fingerprint == self.fingerprint:
            return True
        return fingerprint == self.previous and (time.time() if now is None else now) < self.previous_until

    @property
    def keys(self) -> tuple[str, ...]:
        """Its valid keys, in hex."""
        return tuple(key.hex() for key in (self.fingerprint, self.previous) if key and self.has_key(key))


@dataclass
class Membership:
    """The members by role and name, with the times (seconds since 1970, UTC) when this SN last heard from each and when
    its certificate ends.

    A certificate that is renewed automatically has no end here.
    """

    members: dict[tuple[str, str], DirectoryMember] = field(default_factory=dict)
    last_heard: dict[tuple[str, str], float] = field(default_factory=dict)
    certificate_ends: dict[tuple[str, str], float] = field(default_factory=dict)
    expulsions: Expulsions = field(default_factory=Expulsions)

    def put(self, member: DirectoryMember) -> None:
        self.members[member.role, member.name] = member

    def left(self, role: str, name: str) -> None:
        known = self.members.get((role, name))
        if known is not None:
            self.put(replace(known, present=False))

    def of_certificate(self, role: str, name: str) -> list[DirectoryMember]:
        """The member of this name, and those in its slots."""
        return [
            member
            for (its_role, its_name), member in self.members.items()
            if its_role == role and (its_name == name or its_name.startswith(f"{name}/"))
        ]

    def expelled(self, role: str, name: str) -> None:
        self.expulsions.put((role, name))
        for member in self.of_certificate(role, name):
            self.left(role, member.name)

    def parent(self, role: str, name: str) -> str | None:
        """The SN that looks after a member."""
        known = self.members.get((role, name))
        return known.parent if known else None

    def knows(self, caller: Caller) -> bool:
        known = self.members.get((caller.role, caller.name))
        return known is not None and known.has_key(caller.fingerprint)

    def admit(self, caller: Caller) -> DirectoryMember:
        """The member that calls. Raises NotAMember if it is not registered, NameTaken if the name is another's."""
        known = self.members.get((caller.role, caller.name))
        if known is None:
            raise NotAMember(name=caller.name)
        self._same_key(known, caller)
        if not known.present:
            raise NotAMember(name=caller.name)
        return known

    def check_key(self, caller: Caller) -> None:
        """Raises NameTaken if the name belongs to another key."""
        known = self.members.get((caller.role, caller.name))
        if known is not None:
            self._same_key(known, caller)

    def recognizes(self, peer: PeerIdentity) -> bool:
        """Whether its name is unknown, or known by a key or ID of its certificate. Safe in any thread."""
        known = self.members.get((peer.role, peer.name))
        return known is None or any(map(known.has_key, map(bytes.fromhex, (peer.fingerprint, peer.id_fingerprint))))

    def sns(self) -> list[DirectoryMember]:
        """Every SN that ever registered."""
        return [member for (role, _), member in self.members.items() if role == "sn"]

    def present(self, role: str, name: str) -> bool:
        known = self.members.get((role, name))
        return known is not None and known.present

    def registration(self, caller: Caller, host: str, port: int, parent: str) -> DirectoryMember | None:
        """What to write so that the caller is registered at this address; None if nothing would change.

        Raises NameTaken if the name belongs to another key, TooManySlots.
        """
        organization = caller.organization
        wanted = DirectoryMember(
            caller.role, caller.name, host, port, caller.fingerprint, parent, organization=organization
        )
        known = self.members.get((caller.role, caller.name))
        if known is not None:
            self._same_key(known, caller)
            wanted = replace(known, host=host, port=port, parent=parent, present=True, organization=organization)
        elif sum(member.fingerprint == caller.fingerprint for member in self.members.values()) >= SLOTS_LIMIT:
            raise TooManySlots(name=caller.name, limit=SLOTS_LIMIT)
        return None if known == wanted else wanted

    def replace_key(self, role: str, name: str, key: bytes, previous: bytes, until: float) -> DirectoryMember | None:
        """The member with a new key; None if no such member has the ``previous`` one."""
        known = self.members.get((role, name))
        if known is None or known.fingerprint != previous:
            return None
        return replace(known, fingerprint=key, previous=previous, previous_until=until)

    def heard(self, caller: Caller, now: float) -> None:
        self.last_heard[caller.role, caller.name] = now

    def _same_key(self, known: DirectoryMember, caller: Caller) -> None:
        if not known.has_key(caller.fingerprint):
            raise NameTaken(name=caller.name, enrolledFingerprint=known.fingerprint.hex())
