"""Versions of a training's state, counted alike by every SN."""

# A version is the number of the training's events plus one, followed by a count of what changed since the last event
# and is not on the chain (the leader's signs of life, new addresses). That count is valid only within one stream of one
# SN.
TICK_BITS = 20


def version_of(events: int, ticks: int) -> int:
    """The version. It is never 0: that is what a watcher sends that has seen nothing."""
    return (events + 1) << TICK_BITS | ticks


def events_in(version: int) -> int:
    """The number of events plus one, by which states from different SNs can be ordered."""
    return version >> TICK_BITS
