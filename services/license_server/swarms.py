"""Which swarms lease here, as reported by their SNs. Kept only in memory: after a restart, SNs report again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.errors import WrongRole
from services.license_server.leases import LeaseHolder
from services.licensing.swarms import SAID_EVERY_S, LeasingSN, LeasingSwarm
from services.runtime import logs

KEPT_S = 3 * SAID_EVERY_S
MAX_SNS = 1024

_log = logs.get("license-server")


@dataclass(frozen=True)
class _Said:
    network: str
    address: str
    at: float


class SwarmRegistry:
    """``now``: seconds of a monotonic clock."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._said: dict[tuple[str, str], _Said] = {}  # by certificate and name; the last heard is at the end

    def hear(self, sn: LeaseHolder, network: str, address: str) -> None:
        """``network``: address of the directory contract, which no two swarms share. Raises WrongRole."""
        if sn.role != "sn":
            raise WrongRole(name=sn.name, role=sn.role, action="speaking for a swarm", needed="sn")
        before = self.all()
        who = sn.fingerprint, sn.name
        self._said.pop(who, None)
        self._said[who] = _Said(network, address, self._now())
        if len(self._said) > MAX_SNS:
            del self._said[next(iter(self._said))]
        if before and network not in {swarm.network for swarm in before}:
            there = [f"{known.name} at {known.address}" for swarm in before for known in swarm.sns[:1]]
            _log.warning(
                "another swarm uses this license server", sn=sn.name, address=address, beside=", ".join(there[:3])
            )

    def all(self) -> list[LeasingSwarm]:
        """Swarms with an SN that was heard recently, with their SNs in order of name."""
        since = self._now() - KEPT_S
        found: dict[str, list[LeasingSN]] = {}
        for (_, name), said in self._said.items():
            if said.at >= since:
                found.setdefault(said.network, []).append(LeasingSN(name=name, address=said.address))
        return [
            LeasingSwarm(network=network, sns=sorted(sns, key=lambda sn: sn.name)) for network, sns in found.items()
        ]
