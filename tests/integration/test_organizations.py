"""Each CA is accepted only for what its organization may issue, by every server and every client."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from doors import DOORS, file_server, license_server, read_bulk, read_line, read_manifest, sn
from two_organizations import BEYOND, TwoOrganizations, below_an_intermediate

from services.cli.main import main
from services.errors import NotOfOrganization
from services.identity.identity import Identity
from services.identity.peer_context import judge
from services.runtime.metrics import Meter, served


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> TwoOrganizations:
    return TwoOrganizations.create(tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("door", DOORS)
async def test_a_ca_names_nobody_beyond_its_organization(two: TwoOrganizations, tmp_path: Path, door: str) -> None:
    """Refused callers are told why; others with the same CA are let in."""
    opened, role, welcome = DOORS[door]
    async with opened(two.identity(role, "b-0"), tmp_path) as ask:
        assert await ask(two.identity(*welcome)) == ""
        for says, words in BEYOND.values():
            assert words in await ask(two.beyond(*says))


@pytest.mark.parametrize("door", ["API of an SN", "parameters", "parameters in bulk", "license server"])
async def test_a_chain_through_an_intermediate_ca_ends_in_its_organization(tmp_path: Path, door: str) -> None:
    two = TwoOrganizations.create(tmp_path / "two")
    files = below_an_intermediate(two, "sl", "a-1")
    two.write(cas=["root.pem"])
    caller = Identity.load(cert=files.cert, key=files.key, trust=two.trust)
    opened, role, _ = DOORS[door]
    async with opened(two.identity(role, "b-0"), tmp_path) as ask:
        assert await ask(caller) == ""


async def test_metrics_end_the_handshake_with_whom_the_trust_file_has_not(two: TwoOrganizations) -> None:
    def tls() -> Any:
        return two.identity("sn", "b-0").server_context(strict=True)

    async with served(Meter(on=True), "sn", "0.0.0.0", 0, tls, judge=judge) as facts:  # noqa: S104  # on loopback it needs no TLS
        url = f"https://localhost:{facts['metrics_port']}/metrics"
        async with aiohttp.ClientSession() as session:
            async with session.get(url, ssl=two.identity("sl", "a-9").client_context()) as answer:
                assert answer.status == 200
            for says, _ in BEYOND.values():
                with pytest.raises((aiohttp.ClientError, OSError)):
                    await session.get(url, ssl=two.beyond(*says).client_context())


# --- the clients -------------------------------------------------------------------------------------------------


async def test_a_client_says_nothing_to_a_server_that_its_organization_may_not_name(
    two: TwoOrganizations, tmp_path: Path
) -> None:
    """For parameters, lines and licenses: a server with the right role and name, from the wrong CA."""
    (domain, role, name), words = ("a.example", "license", "b-0"), "is not accepted from hospital-a: it may not issue"
    async with license_server(two.beyond(domain, role, name), tmp_path) as ask:
        assert words in await ask(two.identity("sl", "a-9"))
    for number, read in enumerate((read_manifest, read_bulk, read_line)):
        (domain, role, name), words = BEYOND["name"]
        async with file_server(two.beyond(domain, role, name), tmp_path / str(number), read) as ask:
            assert words in await ask(two.identity("sl", "b-9"))


async def test_the_api_of_an_sn_is_called_at_those_alone_whose_organization_may_issue_sns(
    two: TwoOrganizations, tmp_path: Path
) -> None:
    two.write(issues={"sl": ["a-*"], "sn": ["a-1"]})
    async with sn(two.beyond("a.example", "sn", "a-0"), tmp_path) as ask:
        told = await ask(two.identity("sl", "b-9"))
        assert "it may not give this name; of the role sn it may give a-1" in told
    two.write()
    async with sn(two.identity("sl", "b-8"), tmp_path) as ask:
        assert "its certificate is that of sl b-8, not of sn" in await ask(two.identity("sl", "b-9"))
    async with sn(two.beyond("a.example", "sn", "a-0"), tmp_path) as ask:
        assert "of sn a-0 is not accepted from hospital-a: it may not issue the role sn" in await ask(
            two.identity("sl", "b-9")
        )


def test_a_node_does_not_start_with_a_certificate_that_its_own_trust_file_has_not(
    two: TwoOrganizations, capsys: pytest.CaptureFixture[str]
) -> None:
    files = two.files(two.a, "sl", "b-7")
    with pytest.raises(NotOfOrganization, match="it may not give this name"):
        Identity.load(cert=files.cert, key=files.key, trust=two.trust)
    identity = ["--cert", str(files.cert), "--key", str(files.key), "--trust", str(two.trust)]
    assert (
        main(["sl", "--host-ip", "localhost", "--data-dir", str(two.directory / "sl"), *identity])
        == NotOfOrganization.exit_code
    )
    said = capsys.readouterr().err
    assert said.startswith("ERROR: ")
    assert "it may not give this name" in said
    assert said.count("\n") == 1
