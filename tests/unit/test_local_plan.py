"""What a local swarm consists of."""

from pathlib import Path

import pytest

from services.errors import SettingsError
from services.identity.authority import IssuedFiles
from services.local.plan import Ports, SwarmPlan
from services.local.swarm import how_to_attach

FILES = IssuedFiles(Path("/d/certs/x-cert.pem"), Path("/d/certs/x-key.pem"), Path("/d/ca/ca-cert.pem"))


def plan(**changes: object) -> SwarmPlan:
    return SwarmPlan(**{"directory": Path("/d"), "sl_count": 3, **changes})  # type: ignore[arg-type]


def option(argv: tuple[str, ...], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_every_node_has_a_certificate_of_its_own_and_there_is_one_administrator() -> None:
    assert plan().identities == [
        ("license", "license-1"),
        ("sn", "sn-1"),
        ("sl", "sl-1"),
        ("sl", "sl-2"),
        ("sl", "sl-3"),
        ("admin", "admin"),
    ]


def test_ports_are_free_ones_unless_given() -> None:
    assert option(plan().sn(0, FILES, license_port=5).argv, "--sn-api-port") == "0"
    assert option(plan().sl(2, FILES, 5, 6).argv, "--sl-fs-port") == "0"
    given = plan(ports=Ports(license_server=5814, sn_api=30304, sn_p2p=30303, sl_fs=30305))
    assert option(given.license_server(FILES).argv, "--port") == "5814"
    assert option(given.sn(0, FILES, license_port=5814).argv, "--sn-api-port") == "30304"
    assert option(given.sl(2, FILES, 5814, 30304).argv, "--sl-fs-port") == "30307"


def test_an_sl_is_told_where_the_ports_that_others_got_are() -> None:
    argv = plan().sl(0, FILES, 4001, 4002).argv
    assert option(argv, "--apls-port") == "4001"
    assert option(argv, "--sn-api-port") == "4002"
    assert option(argv, "--data-dir") == "/d/sl-1"


def test_a_node_that_needs_ports_not_known_yet_is_held_until_it_is_told() -> None:
    sl, sn = plan().sl(0, FILES), plan().sn(0, FILES)
    assert sl.held and sn.held
    assert not {"--apls-port", "--sn-api-port"} & set(sl.argv)
    assert "--apls-port" not in sn.argv
    assert not plan().sl(0, FILES, 4001, 4002).held
    assert not plan().license_server(FILES).held


def test_an_sn_is_the_sentinel_or_joins_it() -> None:
    swarm = plan(sn_count=3, ports=Ports(sn_api=30304, sn_p2p=30400))
    assert swarm.sns == ["sn-1", "sn-2", "sn-3"]
    assert {("sn", name) for name in swarm.sns} < set(swarm.identities)
    sentinel = swarm.sn(0, FILES, license_port=1)
    joining = swarm.sn(2, FILES, license_port=1, sentinel_port=30304)
    assert "--sentinel" in sentinel.argv and "--sentinel-ip" not in sentinel.argv
    assert "--sentinel" not in joining.argv and option(joining.argv, "--sentinel-api-port") == "30304"
    assert option(joining.argv, "--sn-api-port") == "30306" and option(joining.argv, "--sn-p2p-port") == "30402"
    assert option(joining.argv, "--chain") == option(sentinel.argv, "--chain") == "geth"
    assert not sentinel.held and not joining.held
    assert swarm.sn(1, FILES, license_port=1).held


def test_sl_and_program_share_their_pipes() -> None:
    swarm = plan(command=("python", "train.py"))
    sl, program = swarm.sl(1, FILES, 1, 2), swarm.program(1)
    for variable in ("SL_REQUEST_CHANNEL", "SL_RESPONSE_CHANNEL"):
        assert sl.environment[variable] == program.environment[variable]
    assert program.environment["SWARM_NODE_INDEX"] == "1"
    assert program.environment["SWARM_NODE_COUNT"] == "3"
    assert program.argv == ("python", "train.py")
    assert program.cwd is None


def test_settings_of_the_shell_reach_the_nodes_that_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SL_WAIT_FOR_FULL_QUORUM_SECONDS", "5")
    monkeypatch.setenv("SN_LOST_AFTER_SECONDS", "9")
    monkeypatch.setenv("SL_REQUEST_CHANNEL", "/elsewhere")
    sl, sn = plan().sl(0, FILES, 1, 2).environment, plan().sn(0, FILES, license_port=1).environment
    assert sl["SL_WAIT_FOR_FULL_QUORUM_SECONDS"] == "5"
    assert sl["SL_REQUEST_CHANNEL"] == "/d/sl-1/request.channel"
    assert sn["SN_LOST_AFTER_SECONDS"] == "9"
    assert "SL_WAIT_FOR_FULL_QUORUM_SECONDS" not in sn
    assert "SN_LOST_AFTER_SECONDS" not in sl


def test_no_command_line_holds_a_secret() -> None:
    for launch in (plan().license_server(FILES), plan().sn(0, FILES, license_port=1), plan().sl(0, FILES, 1, 2)):
        assert not any("PRIVATE KEY" in word for word in launch.argv)
        assert option(launch.argv, "--key") == str(FILES.key)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sl_count": 0}, "--sl is not usable: a swarm needs at least one SL"),
        ({"sl_count": -1}, "--sl is not usable"),
        ({"sn_count": 0}, "--sn is not usable: a swarm needs at least one SN"),
        ({"sn_count": 3, "chain": "embedded"}, "the embedded chain serves one SN; say --chain geth"),
        ({"sn_count": 3, "ports": Ports(sn_api=4000, sn_p2p=4002)}, "port 4002 is already taken by --sn-api-port"),
        ({"chain": "bitcoin"}, "--chain is not usable: it is 'bitcoin', and must be one of auto, geth, embedded"),
        ({"ports": Ports(sn_api=70000)}, "--sn-api-port is not usable: 70000 is not a port"),
        (
            {"ports": Ports(sl_fs=65534)},
            "--sl-fs-port is not usable: 3 nodes need a port each, and the last one is 65535",
        ),
        ({"sl_count": 70_000}, "70000 nodes need a port each"),
        ({"ports": Ports(license_server=-1)}, "--apls-port is not usable"),
        ({"ports": Ports(sn_p2p=4000, sl_fs=3999)}, "port 4000 is already taken by --sn-p2p-port"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_the_name_of_its_option(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        plan(**changes).check()
    assert words in str(refusal.value)


def test_a_plan_with_ports_apart_is_accepted() -> None:
    plan(ports=Ports(license_server=5814, sn_api=30304, sn_p2p=30303, sl_fs=30305)).check()


def test_attaching_is_shown_with_the_variables_of_each_sl() -> None:
    text = how_to_attach(plan(directory=Path("/with space")))
    for name in ("sl-1", "sl-2", "sl-3"):
        assert f"SL_REQUEST_CHANNEL='/with space/{name}/request.channel'" in text
    assert "SWARM_NODE_INDEX=2 SWARM_NODE_COUNT=3" in text
