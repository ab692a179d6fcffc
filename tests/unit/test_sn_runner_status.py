"""The status of a taskrunner fits into a message, however many peers there are and whatever they say."""

from services.chain.runner import DESCRIPTION_LIMIT_BYTES
from services.chain.task_events import PeerState
from services.rpc.client import MESSAGE_LIMIT_BYTES
from services.sn.runner_status import largest, runner_status
from services.sn.runner_view import Agent, Peer, RunnerView

PEERS = 1000
WORDS = "ErrörLog"  # a character of two bytes may be cut through


def status_of(*descriptions: str):
    agents = {f"swop-{number}": Agent(f"swop-{number}", "hospital", PEERS, bytes(32)) for number in range(20)}
    peers = {
        ("swop-0", index): Peer("swop-0", index, f"sl-{index}", PeerState.ERROR, text, 1.0)
        for index, text in enumerate(descriptions)
    }
    view = RunnerView("runner", "0x0", agents=agents, peers=peers)
    return runner_status(view, lambda _name: True, lambda _name: 1.0)


def test_long_descriptions_of_many_peers_lose_their_middle_and_short_ones_nothing() -> None:
    long = "Exit code 1\n" + WORDS * (DESCRIPTION_LIMIT_BYTES // 9 - 10) + "\nKeyError: 'label'"
    status = status_of(*[long] * (PEERS - 1), "Created containers")
    assert MESSAGE_LIMIT_BYTES // 2 < status.ByteSize() < MESSAGE_LIMIT_BYTES * 0.8
    assert status.peers[-1].description == "Created containers"
    for peer in status.peers[:-1]:
        assert peer.description.startswith("Exit code 1\nErrör")
        assert peer.description.endswith("KeyError: 'label'")


def test_what_fits_is_whole() -> None:
    long = "x" * DESCRIPTION_LIMIT_BYTES
    assert {peer.description for peer in status_of(*[long] * 300).peers} == {long}


def test_a_budget_is_shared_by_the_large_ones() -> None:
    assert largest([], 10) == 0
    assert largest([1, 2, 3], 6) == 3
    assert largest([1, 9, 9], 11) == 5
    assert largest([4, 4], 0) == 0
