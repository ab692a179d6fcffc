"""Whose members an SN accepts: those of organizations on the chain, with CAs that were voted in."""

from dataclasses import replace
from pathlib import Path

import pytest
from sn_swarm import config, running_sn, scripted_sl
from two_organizations import TwoOrganizations

from services.errors import CANotVotedIn, NoOrganizations, OrganizationNotHeld, TakesNoPart, VotesForAnother, WrongRole
from services.identity.authority import Authority, IssuedFiles
from services.identity.certificates import key_fingerprint
from services.identity.identity import Identity
from services.identity.peers import read_trust
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.founding import founding
from services.sn.node import RunningSN

ADDRESS = pb.RegisterRequest(host="localhost", port=30305)


def loaded(two: TwoOrganizations, files: IssuedFiles) -> Identity:
    return Identity.load(cert=files.cert, key=files.key, trust=two.trust)


def of_a(two: TwoOrganizations, role: str, name: str, authority: Authority | None = None) -> Identity:
    return loaded(two, two.files(authority or two.a, role, name))


def client(sn: RunningSN, identity: Identity) -> SNClient:
    return SNClient(f"localhost:{sn.port}", identity)


def cas_of(two: TwoOrganizations, name: str) -> list[bytes]:
    organizations = read_trust(None, None, two.trust).organizations
    assert organizations is not None
    return [bytes.fromhex(key_fingerprint(ca)) for one in organizations.members if one.name == name for ca in one.cas]


@pytest.fixture
def two(tmp_path: Path) -> TwoOrganizations:
    return TwoOrganizations.create(tmp_path / "two")


async def test_a_member_of_an_organization_that_is_not_voted_in_is_refused(
    two: TwoOrganizations, tmp_path: Path
) -> None:
    async with (
        running_sn(two.identity("sn", "b-0"), tmp_path / "sn", found_with="own") as sn,
        client(sn, two.identity("sl", "a-1")) as member,
        client(sn, two.identity("admin", "b-9")) as admin,
    ):
        for call in (member.network.Register(ADDRESS), member.network.ListNodes(pb.ListNodesRequest())):
            with pytest.raises(OrganizationNotHeld, match="The swarm has no organization hospital-a"):
                await call

        request = pb.ProposeOrganizationRequest(name="hospital-a", cas=cas_of(two, "hospital-a"))
        reply = await admin.admin.ProposeOrganization(request)

        assert not reply.proposal.open
        assert [(vote.organization, vote.by) for vote in reply.proposal.votes] == [("hospital-b", "admin/b-9")]
        assert (await member.network.Register(ADDRESS)).organization == "hospital-a"


async def test_a_ca_that_is_not_voted_in_names_nobody(two: TwoOrganizations, tmp_path: Path) -> None:
    newer = Authority.create(two.directory / "newer", "Hospital a", "a.example")
    files = two.files(two.b, "sn", "b-0")
    async with running_sn(loaded(two, files), tmp_path / "sn"):
        two.write(cas=["a/ca-cert.pem", "newer/ca-cert.pem"])
    # Now the trust file has it, but the chain does not.
    async with (
        running_sn(loaded(two, files), tmp_path / "sn") as sn,
        client(sn, of_a(two, "sl", "a-1")) as known,
        client(sn, of_a(two, "sl", "a-2", newer)) as member,
        client(sn, two.identity("admin", "b-9")) as admin,
    ):
        await known.network.Register(ADDRESS)
        with pytest.raises(CANotVotedIn, match=r"of sl a-2 is from the CA [0-9a-f]{16} of hospital-a, which the swarm"):
            await member.network.Register(ADDRESS)

        request = pb.ProposeOrganizationRequest(name="hospital-a", cas=cas_of(two, "hospital-a"))
        await admin.admin.ProposeOrganization(request)
        await member.network.Register(ADDRESS)


async def test_an_administrator_votes_through_an_sn_of_the_own_organization_alone(
    two: TwoOrganizations, tmp_path: Path
) -> None:
    two.write(issues={"admin": ["a-*"]})
    words = "b-0 votes for hospital-b, but this is an administrator of hospital-a"
    async with (
        running_sn(two.identity("sn", "b-0"), tmp_path / "sn") as sn,
        client(sn, of_a(two, "admin", "a-1")) as admin,
    ):
        for call in (
            admin.admin.ProposeRemoval(pb.ProposeRemovalRequest(name="hospital-b")),
            admin.admin.Withdraw(pb.WithdrawRequest(number=1)),
            admin.admin.Expel(pb.ExpelRequest(role="sn", name="b-0")),
        ):
            with pytest.raises(VotesForAnother, match=words):
                await call


@pytest.mark.parametrize("role", ["sl", "swop"])
async def test_nobody_but_an_administrator_votes(two: TwoOrganizations, tmp_path: Path, role: str) -> None:
    async with (
        running_sn(two.identity("sn", "b-0"), tmp_path / "sn") as sn,
        client(sn, two.identity(role, "b-1")) as member,
    ):
        for call in (
            member.admin.ProposeRemoval(pb.ProposeRemovalRequest(name="hospital-a")),
            member.admin.ProposeOrganization(pb.ProposeOrganizationRequest(name="hospital-a", cas=[bytes(32)])),
            member.admin.Approve(pb.ApproveRequest(number=1)),
            member.admin.Withdraw(pb.WithdrawRequest(number=1)),
            member.admin.Expel(pb.ExpelRequest(role="sn", name="b-0")),
        ):
            with pytest.raises(WrongRole):
                await call


async def test_a_training_takes_sls_of_the_organizations_it_is_for(two: TwoOrganizations, tmp_path: Path) -> None:
    files = two.files(two.b, "sn", "b-0")
    async with (
        running_sn(loaded(two, files), tmp_path / "sn") as sn,
        client(sn, two.identity("admin", "b-9")) as admin,
    ):
        await admin.admin.CreateContract(pb.CreateContractRequest(name="ours", organizations=["hospital-a"]))
        with pytest.raises(OrganizationNotHeld):
            await admin.admin.CreateContract(pb.CreateContractRequest(name="theirs", organizations=["hospital-c"]))
        entries = (await admin.network.ListContracts(pb.ListContractsRequest())).contracts
        assert {it.name: list(it.organizations) for it in entries}["ours"] == ["hospital-a"]
    async with running_sn(loaded(two, files), tmp_path / "sn") as sn:  # it is on the chain
        async with scripted_sl(two.identity("sl", "a-1"), sn.port, contract="ours") as member:
            await member.enrol(config())
        async with scripted_sl(two.identity("sl", "b-1"), sn.port, contract="ours") as other:
            with pytest.raises(TakesNoPart, match="The training ours is for hospital-a, and b-1 is of hospital-b"):
                await other.enrol(config())


async def test_without_a_trust_file_there_is_one_organization_and_no_vote(
    two: TwoOrganizations, tmp_path: Path
) -> None:
    sn, admin = (
        replace(it, trust=replace(it.trust, organizations=None), organization="")
        for it in (two.identity("sn", "b-0"), two.identity("admin", "b-9"))
    )
    assert [it.name for it in founding(sn, "own")] == [""]
    async with running_sn(sn, tmp_path / "sn") as running, client(running, admin) as administrator:
        listed = await administrator.network.ListOrganizations(pb.ListOrganizationsRequest())
        assert [(it.name, it.sns) for it in listed.organizations] == [("", 1)]
        with pytest.raises(NoOrganizations):
            request = pb.ProposeOrganizationRequest(name="hospital-a", cas=[bytes(32)])
            await administrator.admin.ProposeOrganization(request)


def test_a_swarm_begins_with_the_own_organization_or_with_all_of_the_trust_file(two: TwoOrganizations) -> None:
    two.write(issues={"sl": ["a-*"], "sn": ["a-1", "a-*"]})
    sn = two.identity("sn", "b-0")
    assert [it.name for it in founding(sn, "own")] == ["hospital-b"]
    own, other = founding(sn, "trust-file")
    assert (own.name, other.name, other.sns) == ("hospital-b", "hospital-a", ("a-1",))
    assert list(other.cas) == cas_of(two, "hospital-a")
