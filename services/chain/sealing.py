"""When a signer seals: at once if it is its turn, later if the signer whose turn it is lets transactions wait.

By itself, every geth seals each transaction as soon as it hears of it: of 100 blocks, 28 had a rival that was later
dropped (three signers, one machine). So each SN lets its geth seal only when it is its turn. No I/O.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from services.chain.clique import in_turn, majority

# A live signer has sealed by then, even on a busy machine.
TAKE_OVER_AFTER_S = 0.5

# geth itself waits up to a second (three signers) before it seals out of turn.
NEXT_AFTER_S = 1.5


@dataclass(frozen=True)
class Seat:
    """``now``: seal what is there. Otherwise ``after_s``: seal once transactions have waited so long; None: never."""

    now: bool
    after_s: float | None = None


def seat(
    me: str, signers: Sequence[str], waiting: Set[str], number: int, connected: Set[str], *, caught_up: bool
) -> Seat:
    """What this node does about block ``number``.

    ``signers``: in order. ``waiting``: those that may not seal this block under Clique's rules. ``connected``: accounts
    of the SNs that are in touch, including this one. Unless most signers are in touch, it seals nothing.
    """
    if me not in signers or not caught_up:
        return Seat(now=False)
    if len(signers) == 1:
        return Seat(now=True)
    if sum(signer in connected for signer in signers) < majority(signers):
        return Seat(now=False)
    # Those whose turn has just passed stand in first: one whose turn comes next would lose that turn.
    turn = signers.index(in_turn(signers, number))
    order = [signers[turn - back] for back in range(len(signers))]
    able = [signer for signer in order if signer in connected and signer not in waiting]
    if me not in able:
        return Seat(now=False)
    rank = able.index(me)
    if rank == 0:
        return Seat(now=True)
    first = TAKE_OVER_AFTER_S if able[0] == order[0] else NEXT_AFTER_S
    return Seat(now=False, after_s=first + (rank - 1) * NEXT_AFTER_S)
