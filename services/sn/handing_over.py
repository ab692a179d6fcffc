"""A new key takes the place of a member's: by the old one's signature, or by an administrator."""

from collections.abc import Sequence

from services.errors import NameTaken, NotAMember
from services.identity.handover import MAX_STEPS, Handover, newest
from services.sn.membership import Caller
from services.sn.trainings import Trainings

# Connections that were made with the key before go on for so long, and others hear of the new one meanwhile.
OVERLAP_S = 600


async def hand_over(who: Caller, spiffe_id: str, handovers: Sequence[bytes], trainings: Trainings) -> bytes:
    """The fingerprint that the member is known by now; empty where its name is not known yet.

    ``spiffe_id``: of the caller. Raises HandoverRefused, KeyWasReplaced, NameTaken where they do not lead from the key
    that is known to the caller's, or from the caller's to a new one.
    """
    member = trainings.membership.members.get((who.role, who.name))
    if member is None:
        return b""
    steps = [Handover.parse(one) for one in handovers[-MAX_STEPS:]]
    key = bytes.fromhex(newest(steps, spiffe_id, member.fingerprint.hex()))
    if not member.has_key(who.fingerprint) and who.fingerprint != key:
        raise NameTaken(name=who.name, enrolledFingerprint=member.fingerprint.hex())
    if key != member.fingerprint:
        await trainings.replace_key(member, key, f"{who.role}/{who.name}", OVERLAP_S)
    return key


async def replace_key(role: str, name: str, key: bytes, by: str, trainings: Trainings) -> list[str]:
    """Names of those that had another one: the member, and its slots. What had the key before is refused at once.

    Raises NotAMember, KeyWasReplaced.
    """
    members = trainings.membership.of_certificate(role, name)
    if not members:
        raise NotAMember(name=name)
    changed = [member for member in members if member.fingerprint != key]
    for member in changed:
        await trainings.replace_key(member, key, by, overlap_s=0)
    return [member.name for member in changed]
