"""The status of a taskrunner fits into a message, however many peers there are and whatever they say."""

import pytest

from services.chain.runner import DESCRIPTION_LIMIT_BYTES
from services.chain.task_events import PeerState, RunnerState
from services.errors import RunnerFull, TooLong
from services.rpc import swarm_pb2 as pb
from services.rpc.client import MESSAGE_LIMIT_BYTES
from services.sn.runner_status import largest, runner_status
from services.sn.runner_view import AGENTS_LIMIT, Agent, Peer, RunnerView
from services.sn.task_requests import RUNNER_PEERS_LIMIT, check_room, report

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


def test_the_status_of_a_full_taskrunner_fits_whatever_swops_say_of_themselves() -> None:
    """Names as long as they may be, every SWOP ever seen, and all the peers that may take part."""
    group, swop = "é" * 128, "s" * 97
    view = RunnerView("r" * 128, "0x0", state=RunnerState.RUNNING, assignment=1)
    for number in range(3 * AGENTS_LIMIT):
        name = f"{number:04}{swop}"[:97]
        attends = number % 3 == 0
        if attends:
            check_room(view, name, RUNNER_PEERS_LIMIT // AGENTS_LIMIT)
        view.agents[name] = Agent(name, group, RUNNER_PEERS_LIMIT // AGENTS_LIMIT, bytes(32), attends=attends)
    attending = [agent.name for agent in view.agents.values() if agent.attends]
    for agent in attending:
        for index in range(RUNNER_PEERS_LIMIT // AGENTS_LIMIT):
            said = report(
                pb.ReportPeerRequest(index=index, name="n" * 97, state=pb.PEER_ERROR, description="x" * 9000), agent
            )
            view.peers[agent, index] = Peer(agent, index, said.peer, said.state, said.description, 1e9)
    status = runner_status(view, lambda _name: True, lambda _name: 1e9)
    assert status.ByteSize() < MESSAGE_LIMIT_BYTES * 0.8
    assert {agent.name for agent in status.agents} == set(attending)
    assert len(status.peers) == RUNNER_PEERS_LIMIT
    with pytest.raises(RunnerFull, match=rf"{AGENTS_LIMIT} SWOPs attend"):
        check_room(view, "one-more", 1)
    check_room(view, attending[0], 1)


def test_peers_of_a_swop_that_quit_count_as_long_as_its_task_is_there() -> None:
    view = RunnerView("runner", "0x0", state=RunnerState.RUNNING, assignment=7)
    view.agents["a"] = Agent("a", "g", 1, bytes(32), attends=False, enrolled_in=7, brought=RUNNER_PEERS_LIMIT)
    with pytest.raises(RunnerFull, match=f"{RUNNER_PEERS_LIMIT} SL peers"):
        check_room(view, "b", 1)
    view.assignment = 8
    check_room(view, "b", RUNNER_PEERS_LIMIT)


def test_the_name_of_a_peer_is_no_longer_than_a_node_s_may_be() -> None:
    with pytest.raises(TooLong):
        report(pb.ReportPeerRequest(name="n" * 98, state=pb.PEER_RUNNING), "swop-1")
