"""Organizations that share a chain: they join, add SNs and leave by vote, and none seals more than another."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from org_network import OrgNetwork

from services.errors import Expelled, NotARegisteredSN, OrganizationNotHeld, ProposedByAnother, VotesForAnother
from services.rpc import swarm_pb2 as pb

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("geth")]

Begin = Callable[[str], OrgNetwork]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Begin]:
    started: list[OrgNetwork] = []

    def network(letters: str) -> OrgNetwork:
        started.append(OrgNetwork(tmp_path, letters))
        return started[0]

    yield network
    for one in started:
        await one.stop()


async def listed(network: OrgNetwork, sn: str) -> dict[str, int]:
    """The number of SNs of each organization."""
    found = await network.org(sn, "list", as_json=True)
    return {it["name"]: it["sns"] for it in found["organizations"]}


async def test_organizations_come_in_with_their_sns_and_go_by_the_votes_of_more_than_half(begin: Begin) -> None:
    network = begin("abc")
    trust = ("--trust", str(network.organizations.trust))
    await network.license_server()
    await network.sentinel("a-1")
    assert await listed(network, "a-1") == {"hospital-a": 1}
    async with network.client("a-1", "sl", "b-9") as stranger:
        with pytest.raises(OrganizationNotHeld, match="The swarm has no organization hospital-b"):
            await stranger.network.Register(pb.RegisterRequest(host="localhost", port=30305))

    assert "PROPOSAL 1 CARRIED OUT : admit hospital-b" in await network.org("a-1", "propose", "hospital-b", *trust)
    async with network.client("a-1", "sl", "b-9") as member:
        await member.network.Register(pb.RegisterRequest(host="localhost", port=30305))
    await network.joins("b-1", "a-1", "a-1")

    said = await network.org("a-1", "propose", "hospital-c", *trust)
    assert "FOR     : hospital-a (admin/a-ada)" in said
    assert "MISSING : 1 of 2 votes, from hospital-b" in said
    assert said.strip() in await network.org("b-1", "list")
    async with network.client("b-1", who="a-op") as of_a, network.client("b-1") as of_b:
        with pytest.raises(VotesForAnother, match="b-1 votes for hospital-b"):
            await of_a.admin.Approve(pb.ApproveRequest(number=3))
        with pytest.raises(ProposedByAnother, match="Proposal 3 is from hospital-a"):
            await of_b.admin.Withdraw(pb.WithdrawRequest(number=3))
    await network.org("b-1", "approve", "3")
    await network.joins("c-1", "b-1", "a-1", "b-1")
    assert await listed(network, "c-1") == {"hospital-a": 1, "hospital-b": 1, "hospital-c": 1}
    for name in ("a-1", "b-1", "c-1"):
        await network.said(name, "signers now  names=a-1, b-1, c-1")

    sl = await network.sl("b-8", "b-1")
    said = await network.org("a-1", "expel", "b-8")
    assert "PROPOSAL 5 : expel sl b-8 of hospital-b" in said
    assert "BY      : hospital-a, since " in said
    await network.said("b-1", "proposed  proposal=5 change=expel organization=hospital-b role=sl name=b-8")
    await network.org("a-1", "withdraw", "5")
    await network.said("b-1", "proposal withdrawn  proposal=5")
    await network.org("a-1", "expel", "b-8")
    await network.org("c-1", "approve", "6")
    assert await sl.wait() == Expelled.exit_code
    assert "b-8 was expelled from the swarm" in sl.tail()
    await network.said("ls", "a node was expelled from its swarm")

    await network.org("a-1", "remove", "hospital-b")
    await network.org("c-1", "approve", "7")
    for name in ("a-1", "c-1"):
        await network.until(lambda name=name: _says_alone(network, name), f"{name} does not end with one signer")
    await network.said("b-1", "The swarm has no organization hospital-b")
    await network.shows("c-1", "after", await network.create("a-1", "after"))
    assert await listed(network, "c-1") == {"hospital-a": 1, "hospital-c": 1}
    async with network.client("c-1", "sl", "b-9") as removed:
        with pytest.raises(OrganizationNotHeld):
            await removed.network.ListNodes(pb.ListNodesRequest())


async def _says_alone(network: OrgNetwork, name: str) -> bool:
    signers = [line.partition("names=")[2].strip() for line in network.log(name).splitlines() if "signers now" in line]
    return signers[-1] in ("a-1", "c-1")


async def test_an_organization_with_more_sns_has_one_signer_more_and_no_two(begin: Begin) -> None:
    network = begin("ab")
    await network.license_server()
    await network.sentinel("a-1")
    await network.join("a-2", "a-1")  # while there is one organization, its SNs need no vote
    await network.join("a-3", "a-1")
    await network.said("a-1", "signers now  names=a-1, a-2, a-3")
    await network.org("a-1", "propose", "hospital-b", "--trust", str(network.organizations.trust))
    await network.joins("b-1", "a-1", "a-1")
    for name in ("a-1", "a-3", "b-1"):
        await network.said(name, "signers now  names=a-1, a-2, b-1")
    await network.shows("b-1", "more", await network.create("a-3", "more"))

    assert "EXPELLED : sn a-2" in await network.org("a-1", "expel", "a-2")
    for name in ("a-1", "a-3", "b-1"):
        await network.said(name, "signers now  names=a-1, a-3, b-1")
    assert await network.running["a-2"].wait() == Expelled.exit_code
    assert "a-2 was expelled from the swarm" in network.log("a-2")
    back = network.refused("a-2", "--sentinel")  # as its service would restart it
    assert await back.wait()
    await network.shows("b-1", "without", await network.create("a-3", "without"))


async def test_the_only_signer_hands_over_before_its_organization_is_gone(begin: Begin) -> None:
    network = begin("ab")
    await network.license_server()
    await network.sentinel("a-1")
    await network.org("a-1", "propose", "hospital-b", "--trust", str(network.organizations.trust))
    await network.joins("b-1", "a-1", "a-1")
    await network.org("b-1", "remove", "hospital-a")
    await network.org("a-1", "approve", "3")

    await network.said("b-1", "signers now  names=b-1\n")
    assert await network.running["a-1"].wait() in (OrganizationNotHeld.exit_code, NotARegisteredSN.exit_code)
    assert await network.create("b-1", "alone")
    assert await listed(network, "b-1") == {"hospital-b": 1}
