"""A node whose certificate is not for the address that it announces says so at its start."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.identity import hosts
from services.identity.certificates import read_chain
from services.identity.identity import Identity


@pytest.mark.parametrize(
    ("host", "is_for"),
    [
        ("sl-1.swarm", True), ("SL-1.swarm", True), ("x.hospital.example", True), ("10.1.2.3", True), ("::1", True),
        ("[::1]", True), ("x.y.hospital.example", False), ("sl-2.swarm", False), ("10.1.2.4", False),
    ],
)  # fmt: skip
def test_a_certificate_is_for_its_names_and_addresses(
    pki: Any, monkeypatch: pytest.MonkeyPatch, host: str, is_for: bool
) -> None:
    files = pki.issue("sl", "sl-1", hosts=["sl-1.swarm", "*.hospital.example", "10.1.2.3", "::1"])
    assert hosts.is_for(read_chain(files.cert)[0], host) is is_for
    said: list[dict[str, str]] = []
    monkeypatch.setattr(hosts, "_log", SimpleNamespace(warning=lambda _, **facts: said.append(facts)))
    hosts.warn_unless_for(Identity.load(cert=files.cert, key=files.key, cacert=files.cacert), host, host)
    known = "sl-1.swarm, *.hospital.example, 10.1.2.3, ::1"
    assert said == ([] if is_for else [{"announced": host, "certificate_is_for": known}])
