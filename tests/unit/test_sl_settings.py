"""An SL's settings: the names users know, bounds, and words for what is wrong."""

from pathlib import Path
from typing import Any

import pytest

from services.errors import SettingsError, UnknownSetting
from services.sl.settings import SLSettings


def test_the_environment_that_users_know_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "THIS_NODE_IP": "10.0.0.7", "SN_NODE_IP": "10.0.0.1", "SN_API_SERVER_PORT": "40304", "SL_FS_PORT": "40305",
        "SL_MAKE_ME_ADMIN": "False", "SL_WAIT_FOR_FULL_QUORUM_SECONDS": "5", "SL_LEADER_FAILURE_BASE_TIMEOUT": "60",
        "SL_REQUEST_CHANNEL": "/pipes/a", "SL_RESPONSE_CHANNEL": "/pipes/b", "SL_LOG_LEVEL": "DEBUG",
    }  # fmt: skip
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    settings = SLSettings.load("sl", {})
    assert (settings.host_ip, settings.sn_ip, settings.sn_api_port) == ("10.0.0.7", "10.0.0.1", 40304)
    assert settings.sl_fs_port == 40305
    assert settings.channels == (Path("/pipes/a"), Path("/pipes/b"))
    assert settings.log_level == "DEBUG"
    rounds = settings.round_settings
    assert (rounds.may_lead, rounds.quorum_wait_s, rounds.leader_timeout_s) == (False, 5, 60)


def test_defaults_are_those_that_users_know() -> None:
    settings = SLSettings.load("sl", {"host_ip": "localhost"})
    assert (settings.sl_fs_port, settings.sn_api_port, settings.apls_port) == (30305, 30304, 5814)
    assert (settings.round_settings.may_lead, settings.round_settings.quorum_wait_s) == (True, 30)
    assert settings.round_settings.leader_timeout_s == 60
    assert settings.channels == (settings.data_dir / "request.channel", settings.data_dir / "response.channel")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({}, "give --host-ip"),
        ({"host_ip": "h", "sl_fs_port": -1}, "sl_fs_port is not usable"),
        ({"host_ip": "h", "sl_fs_port": 65536}, "sl_fs_port is not usable"),
        ({"host_ip": "h", "leader_timeout_s": 0}, "leader_timeout_s is not usable"),
        ({"host_ip": "h", "log_level": "LOUD"}, "log_level is not usable"),
    ],
)
def test_what_is_wrong_is_named(flags: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        SLSettings.load("sl", flags)


def test_a_mistyped_variable_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SL_MAKE_ME_ADMINN", "false")
    with pytest.raises(UnknownSetting, match="Did you mean SL_MAKE_ME_ADMIN"):
        SLSettings.load("sl", {"host_ip": "localhost"})
