"""Who acts for an SN that is gone: all SNs come to the same answer. No I/O."""

from collections.abc import Collection, Sequence

# An SN that should act has so long before the next one does.
NEXT_AFTER_S = 3.0


def stands_in_after_s(me: str, order: Sequence[str], alive: Collection[str]) -> float | None:
    """How long this SN waits before it acts; None if it is not among those that can.

    ``order``: names of the SNs that are present, in the order of joining. ``alive``: those connected with this SN,
    itself included.
    """
    able = [name for name in order if name in alive]
    return able.index(me) * NEXT_AFTER_S if me in able else None


def looks_after(me: str, parent: str | None, present: Sequence[str]) -> bool:
    """Whether this SN watches over a node registered with ``parent``: ``parent`` does, or the first SN if it is absent.

    ``present``: names of the SNs that are present, in the order of joining.
    """
    if parent == me:
        return True
    return parent is not None and parent not in present and bool(present) and present[0] == me
