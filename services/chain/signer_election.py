"""Who should seal, and the next vote that leads there. No I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Vote:
    """``authorize``: True lets ``account`` seal, False ends that."""

    account: str
    authorize: bool


def next_vote(
    signers: Sequence[str], live: Sequence[str], organizations: Mapping[str, str] | None = None
) -> Vote | None:
    """What all signers should vote for now; None if the signers are as they should be.

    ``live``: accounts of the SNs that are present, in the order of joining. Of one or two of them, one should seal;
    otherwise the largest odd number in which no organization has more than one signer more than any other that has an
    SN present. Signers stay as long as they are live. Signers that are gone are voted out before others are voted in,
    so the share of live signers never falls.

    ``organizations``: by account, for all SNs that may write; None: all belong to the same one.
    """
    if not live:
        return None
    gone = next((signer for signer in signers if signer not in live), None)
    if gone is not None:
        if len(signers) > 1:
            return Vote(gone, authorize=False)
        removed = organizations is not None and gone not in organizations
        return Vote(live[0], authorize=True) if removed else None  # before it goes, it votes another one in
    of = {account: (organizations or {}).get(account, "") for account in live}
    wanted = _wanted(signers, live, of)
    seats = Counter(of[signer] for signer in signers)
    leaving = [account for account in live if account in signers and account not in wanted]
    if leaving:
        return Vote(max(reversed(leaving), key=lambda account: seats[of[account]]), authorize=False)
    coming = [account for account in wanted if account not in signers]
    return Vote(min(coming, key=lambda account: seats[of[account]]), authorize=True) if coming else None


def _wanted(signers: Sequence[str], live: Sequence[str], of: Mapping[str, str]) -> list[str]:
    """Accounts, signers first. The organization with the fewest SNs present limits the signers of the others."""
    present = Counter(of.values())
    most = min(present.values()) + 1
    seats = {organization: min(count, most) for organization, count in present.items()}
    if sum(seats.values()) % 2 == 0:
        full = [organization for organization in seats if seats[organization] == max(seats.values())]
        sealing = Counter(of[signer] for signer in signers)
        # One that does not occupy that seat yet, and of these the one that joined last.
        gives_up = min(reversed(full), key=lambda organization: sealing[organization] >= seats[organization])
        seats[gives_up] -= 1
    by_seniority = [*(it for it in live if it in signers), *(it for it in live if it not in signers)]
    wanted = []
    for account in by_seniority:
        if seats[of[account]] > 0:
            seats[of[account]] -= 1
            wanted.append(account)
    return wanted
