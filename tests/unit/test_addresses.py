"""Addresses as people write them, and what is announced of a node behind a port mapping or a reverse proxy."""

from typing import Any

import pytest

from services.errors import SettingsError
from services.runtime.addresses import join_address, split_address
from services.sl.settings import SLSettings
from services.sn.settings import SNSettings


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("10.0.0.1", ("10.0.0.1", 443)),
        ("10.0.0.1:30304", ("10.0.0.1", 30304)),
        ("fs.sl-1.swarm", ("fs.sl-1.swarm", 443)),
        ("fs.sl-1.swarm:65535", ("fs.sl-1.swarm", 65535)),
        ("::1", ("::1", 443)),
        ("[fd00::7]", ("fd00::7", 443)),
        ("[fd00::7]:1", ("fd00::7", 1)),
    ],
)
def test_an_address_has_a_host_and_perhaps_a_port(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text, 443) == parts
    assert split_address(join_address(*parts), 1) == parts


@pytest.mark.parametrize("host", ["fd00::7", "[fd00::7]"])
def test_an_address_has_the_brackets_that_it_needs_once(host: str) -> None:
    assert join_address(host, 1) == "[fd00::7]:1"


@pytest.mark.parametrize(
    "text", ["", " ", ":1", "h:", "h:0", "h:65536", "h:http", "[::1", "[::1]x", "[::1]:", "a b", "https://h", "h/x:1"]
)
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an address|has no port between"):
        split_address(text, 443)


@pytest.mark.parametrize(
    ("flags", "listens_on", "announced"),
    [
        ({"host_ip": "h"}, 30305, ("h", 30305)),
        ({"host_ip": "h", "sl_fs_port": 0}, 0, ("h", 7)),
        ({"host_ip": "h", "sl_fs_port": 16000, "bind_port": 30305}, 30305, ("h", 16000)),
        ({"sl_fs_service": "fs.sl-1.swarm"}, 30305, ("fs.sl-1.swarm", 443)),
        ({"sl_fs_service": "fs.sl-1.swarm:8443", "bind_port": 0}, 0, ("fs.sl-1.swarm", 8443)),
    ],
)
def test_what_an_sl_binds_and_what_it_announces_are_separate(
    flags: dict[str, Any], listens_on: int, announced: tuple[str, int]
) -> None:
    settings = SLSettings.load("sl", flags)
    assert (settings.listens_on, settings.announced(7)) == (listens_on, announced)


def test_what_an_sn_binds_and_what_it_announces_are_separate() -> None:
    mapped = SNSettings.load(
        "sn",
        {
            "sentinel": True, "host_ip": "h", "sn_api_port": 16004, "bind_port": 30304,
            "sn_p2p_port": 16003, "p2p_bind_port": 30303,
        },
    )  # fmt: skip
    assert (mapped.listens_on, mapped.api) == (30304, ("h", 16004))
    assert (mapped.p2p_listens_on, mapped.p2p) == (30303, ("h", 16003))
    proxied = SNSettings.load(
        "sn",
        {
            "sentinel_api_service": "api.sn-1.swarm", "sn_api_service": "api.sn-2.swarm",
            "sn_p2p_service": "p2p.sn-2.swarm:443",
        },
    )  # fmt: skip
    assert (proxied.through, proxied.api, proxied.p2p) == (
        "api.sn-1.swarm:443", ("api.sn-2.swarm", 443), ("p2p.sn-2.swarm", 443),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["sn_api_service", "sn_p2p_service", "sentinel_api_service"])
def test_a_service_that_is_no_address_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is not usable: 'a b' is not an address"):
        SNSettings.load("sn", {"sentinel": True, "host_ip": "h", name: "a b"})


def test_an_sn_behind_a_proxy_for_its_api_alone_says_where_its_chain_is_reached() -> None:
    with pytest.raises(SettingsError, match="host_ip is not usable: give --host-ip"):
        SNSettings.load("sn", {"sentinel": True, "sn_api_service": "api.sn-1.swarm"})


@pytest.mark.parametrize("service", [None, "api.sn-1.swarm", "api.sn-1.swarm:8443"])
def test_an_sl_reaches_its_sn_by_address_or_by_service(service: str | None) -> None:
    settings = SLSettings.load("sl", {"host_ip": "h", "sn_ip": "::1", "sn_api_service": service})
    assert settings.sn_address == {
        None: "[::1]:30304", "api.sn-1.swarm": "api.sn-1.swarm:443", "api.sn-1.swarm:8443": "api.sn-1.swarm:8443",
    }[service]  # fmt: skip
