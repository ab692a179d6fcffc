"""Who should seal, and the next vote on the way there. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Vote:
    """``authorize``: let ``account`` seal; else let it seal no longer."""

    account: str
    authorize: bool


def next_vote(signers: Sequence[str], live: Sequence[str]) -> Vote | None:
    """What all signers should vote for now; None where the signers are as they should be.

    ``live``: accounts of the SNs that are present, in the order of their joining: one of one or two of them should
    seal, else the largest odd number. Those who seal stay, as long as they live. Whoever is gone is voted out
    before anybody is voted in, so that the share of the living among the signers never falls.
    """
    if not live:
        return None
    for signer in signers:
        if signer not in live:
            return Vote(signer, authorize=False) if len(signers) > 1 else None
    staying = [account for account in live if account in signers]
    coming = [account for account in live if account not in signers]
    size = len(live) - (len(live) + 1) % 2
    wanted = [*staying, *coming][:size]
    for account in reversed(staying):
        if account not in wanted:
            return Vote(account, authorize=False)
    return next((Vote(account, authorize=True) for account in wanted if account not in signers), None)
