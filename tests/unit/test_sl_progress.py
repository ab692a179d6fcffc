"""For how long a leader is believed that says that it makes progress."""

from typing import Any

import pytest

from services.rpc.swarm_pb2 import RoundState
from services.sl.round.progress import SLOWEST_BYTES_PER_S, longest_merge_s
from services.sl.view import CheckInEntry, Config, View


def merging(method: str, sizes: list[int]) -> View:
    entries: Any = tuple(CheckInEntry(f"sl-{n}", "aa", size, 1, False) for n, size in enumerate(sizes))
    return View(RoundState.MERGE, 1, 1, "sl-0", Config(2, 16, method), "", "", (), entries, None)


@pytest.mark.parametrize(("method", "readings"), [("mean", 2 * 3 + 1), ("geomedian", 3 * 3 + 1)])
def test_a_leader_has_as_long_as_an_honest_one_may_need(method: str, readings: int) -> None:
    """Each byte is fetched and read, and the result handed out; what a liar announces makes it no longer."""
    size = 100 * SLOWEST_BYTES_PER_S
    assert longest_merge_s(merging(method, [size, size, 2**40]), size, 60.0) == 600 + 100 * readings
