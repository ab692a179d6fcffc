"""Variables that Kubernetes and Docker links inject neither stop nor misconfigure a node."""

import pytest

from services.audit.settings import AuditSettings
from services.errors import SettingsError, UnknownSetting
from services.license_server.settings import LicenseServerSettings
from services.runtime.settings import NodeSettings, is_injected
from services.sl.settings import SLSettings
from services.sn.settings import SNSettings

INJECTED = {
    "SN_SERVICE_HOST": "10.0.0.1", "SN_SERVICE_PORT": "30304", "SN_SERVICE_PORT_API": "30304",
    "SN_PORT": "tcp://10.0.0.1:30304", "SN_PORT_30304_TCP": "tcp://10.0.0.1:30304",
    "SN_PORT_30304_TCP_ADDR": "10.0.0.1", "SN_PORT_30304_TCP_PORT": "30304", "SN_PORT_30304_TCP_PROTO": "tcp",
    "SN_API_SERVER_PORT": "tcp://10.0.0.1:30304", "SN_API_SERVICE_HOST": "10.0.0.1",
    "SL_FS_PORT": "tcp://10.0.0.1:30305", "SL_FS_SERVICE_HOST": "10.0.0.1", "SL_1_PORT_30305_UDP": "udp://10.0.0.1:1",
    "SWARM_LICENSE_PORT": "tcp://10.0.0.1:5814", "SWARM_LICENSE_SERVICE_HOST": "10.0.0.1",
    "SWARM_PORT_80_TCP_START": "80", "SWARM_NAME": "/web/swarm", "SWARM_ENV_PATH": "/bin",
    "SWCI_WEB_PORT": "tcp://10.0.0.1:30306", "SWCI_SERVICE_HOST": "10.0.0.1", "SWOP_PORT": "tcp://10.0.0.1:1",
}  # fmt: skip
NODES: list[tuple[type[NodeSettings], str, dict[str, object]]] = [
    (SNSettings, "sn", {"sentinel": True, "host_ip": "h"}),
    (SLSettings, "sl", {"host_ip": "h"}),
    (LicenseServerSettings, "license-server", {}),
    (AuditSettings, "audit", {}),
]


@pytest.mark.parametrize(("settings", "command", "flags"), NODES)
def test_injected_variables_change_nothing(
    settings: type[NodeSettings], command: str, flags: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = settings.load(command, flags)
    for name, value in INJECTED.items():
        monkeypatch.setenv(name, value)
    assert settings.load(command, flags) == plain


@pytest.mark.parametrize("name", ["SN_PORT", "SL_FS_PRT", "SN_API_SERVER", "SWARM_ID_CERTS", "SWCI_NAME", "SWOP_HOST"])
def test_a_mistyped_variable_is_still_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "30304")
    with pytest.raises(UnknownSetting, match=name):
        SLSettings.load("sl", {"host_ip": "h"})


def test_a_port_that_is_no_number_is_still_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SL_FS_PORT", "10.0.0.1:30305")
    with pytest.raises(SettingsError, match="SL_FS_PORT is not usable"):
        SLSettings.load("sl", {"host_ip": "h"})


def test_no_setting_of_ours_looks_injected() -> None:
    for settings, _, _ in NODES:
        assert not [name for name in settings.variables() if is_injected(name, "30304")]
