"""Replaces a member's key: by a signature of the old key, or by order of an administrator."""

from collections.abc import Sequence

from services.errors import NameTaken, NotAMember
from services.identity.handover import MAX_STEPS, Handover, newest
from services.sn.membership import Caller
from services.sn.trainings import Trainings

# How long the old key stays valid: its connections continue, and others hear of the new key meanwhile.
OVERLAP_S = 600


async def hand_over(who: Caller, spiffe_id: str, handovers: Sequence[bytes], trainings: Trainings) -> bytes:
    """The fingerprint by which the member is known from now on; empty if its name is not known yet.

    ``spiffe_id``: of the caller. Raises HandoverRefused, KeyWasReplaced; NameTaken if the handovers do not lead from
    the known key to the caller's, and the caller does not have the known key either.
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
    """Returns the names that had another key: the member and its slots. Their old keys are refused at once.

    Raises NotAMember, KeyWasReplaced.
    """
    members = trainings.membership.of_certificate(role, name)
    if not members:
        raise NotAMember(name=name)
    changed = [member for member in members if member.fingerprint != key]
    for member in changed:
        await trainings.replace_key(member, key, by, overlap_s=0)
    return [member.name for member in changed]
