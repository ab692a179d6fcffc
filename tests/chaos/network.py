"""A network of its own for a run's SLs: each in a namespace, on a bridge, with a link that can be cut or made slow.

The bridge stands in a namespace too: what crosses it does not pass the host's firewall, which Docker and others set to
forward nothing of strangers, not even between two ports of a bridge.
"""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import Self

TOOLS = ("ip", "tc")
BURST_BYTES = 32 * 1024
PLACES_OF_SLS = 8
PLACES_OF_SNS = 3
PLACES = PLACES_OF_SLS + PLACES_OF_SNS
BRIDGE = "bridge"
TO_HOST = "host"


class NetworkFailed(Exception):
    """A command that sets the network up was refused."""


def missing() -> str:
    """Why there can be no such network here; empty where there can."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"{' and '.join(lacking)} of iproute2 are not on the PATH"
    return "" if os.geteuid() == 0 else "only root may make network namespaces"


@dataclass
class Network:
    """``host``: where the namespaces reach this machine. Places count from 0: those of SLs, then those of SNs."""

    mark: str
    subnet: str
    undo: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"{self.subnet}.1"

    @classmethod
    async def open(cls) -> Self:
        """Raises NetworkFailed."""
        network = cls(f"ch{secrets.token_hex(3)}", f"10.{secrets.choice(range(128, 250))}.{secrets.choice(range(250))}")
        try:
            await network._make_bridge()
            for place in range(PLACES):
                await network._make(place)
        except BaseException:
            await network.close()
            raise
        return network

    @property
    def hub(self) -> str:
        """The namespace of the bridge, and of the far ends of all links."""
        return f"{self.mark}-hub"

    def namespace(self, place: int) -> str:
        return f"{self.mark}-{place}"

    def address(self, place: int) -> str:
        return f"{self.subnet}.{place + 10}"

    def _link(self, place: int) -> str:
        return f"{self.mark}v{place}"

    async def cut(self, place: int) -> None:
        """Nothing comes through, and nobody is told."""
        await _run("ip", "-n", self.hub, "link", "set", self._link(place), "down")

    async def heal(self, place: int) -> None:
        await _run("ip", "-n", self.hub, "link", "set", self._link(place), "up")

    async def slow(self, place: int, bytes_per_s: int, queue_s: float = 0.4) -> None:
        """In both directions; so long may a packet wait in the link's queue before it is dropped."""
        shape = [
            "root",
            "tbf",
            "rate",
            f"{8 * bytes_per_s}bit",
            "burst",
            str(BURST_BYTES),
            "latency",
            f"{queue_s * 1000:g}ms",
        ]
        await _run("tc", "-n", self.hub, "qdisc", "replace", "dev", self._link(place), *shape)
        await _run("tc", "-n", self.namespace(place), "qdisc", "replace", "dev", "eth0", *shape)

    async def restore(self, place: int) -> None:
        await _run("tc", "-n", self.hub, "qdisc", "del", "dev", self._link(place), "root")
        await _run("tc", "-n", self.namespace(place), "qdisc", "del", "dev", "eth0", "root")

    def moved(self, place: int) -> tuple[int, int]:
        """Bytes that have come out of it and gone into it, with the headers of packets."""
        command = ["ip", "-n", self.hub, "-json", "-statistics", "link", "show", "dev", self._link(place)]
        (link,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return int(link["stats64"]["rx"]["bytes"]), int(link["stats64"]["tx"]["bytes"])

    async def close(self) -> None:
        """The links go with their namespaces."""
        while self.undo:
            await _run(*self.undo.pop())

    async def _make_bridge(self) -> None:
        await _run("ip", "netns", "add", self.hub)
        self.undo.append(("ip", "netns", "del", self.hub))
        inside = ["ip", "-n", self.hub]
        await _run(*inside, "link", "add", BRIDGE, "type", "bridge")
        await _run(*inside, "link", "set", BRIDGE, "up")
        near = f"{self.mark}h"
        await _run("ip", "link", "add", near, "type", "veth", "peer", "name", TO_HOST, "netns", self.hub)
        await _run(*inside, "link", "set", TO_HOST, "master", BRIDGE, "up")
        await _run("ip", "addr", "add", f"{self.host}/24", "dev", near)
        await _run("ip", "link", "set", near, "up")

    async def _make(self, place: int) -> None:
        space, link = self.namespace(place), self._link(place)
        await _run("ip", "netns", "add", space)
        self.undo.append(("ip", "netns", "del", space))
        ends = ["name", link, "netns", self.hub, "type", "veth", "peer", "name", "eth0", "netns", space]
        await _run("ip", "link", "add", *ends)
        await _run("ip", "-n", self.hub, "link", "set", link, "master", BRIDGE, "up")
        inside = ["ip", "-n", space]
        await _run(*inside, "addr", "add", f"{self.address(place)}/24", "dev", "eth0")
        await _run(*inside, "link", "set", "eth0", "up")
        await _run(*inside, "link", "set", "lo", "up")


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise NetworkFailed(f"{' '.join(command)}: {output.decode().strip()}")
