"""Versions of a training's state, which every SN counts alike."""

# A version is the number of the training's events plus one, then the leader's signs of life and changes of address
# since the last event, which are not on the chain: those two count for one stream of one SN only.
TICK_BITS = 20


def version_of(events: int, ticks: int) -> int:
    """Never 0, which a watcher says that has seen nothing."""
    return (events + 1) << TICK_BITS | ticks


def events_in(version: int) -> int:
    """By this, states from different SNs can be put in order."""
    return version >> TICK_BITS
