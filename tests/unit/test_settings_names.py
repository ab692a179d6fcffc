"""Nodes share a host and its environment: no node refuses a variable that is meant for another."""

import pytest

from services.license_server.settings import LicenseServerSettings
from services.runtime.settings import KNOWN_ELSEWHERE, PREFIXES, NodeSettings
from services.sl.settings import SLSettings
from services.sn.settings import SNSettings
from services.swci.settings import SWCISettings


@pytest.mark.parametrize("settings", [SNSettings, SLSettings, SWCISettings, LicenseServerSettings])
def test_variables_of_a_node_are_known_to_the_others(settings: type[NodeSettings]) -> None:
    ours = {name for name in settings.variables() if name.startswith(PREFIXES)}
    assert ours
    assert ours <= KNOWN_ELSEWHERE
