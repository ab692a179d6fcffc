"""Hosts around a reverse proxy: network namespaces, each with a single link, to the proxy's namespace."""

import contextlib
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROXY = "192.0.2.1"


@dataclass(frozen=True)
class ProxiedHosts:
    """``hosts``: the file that each host sees as its /etc/hosts."""

    mark: str
    hosts: Path

    def on(self, host: str, *argv: str) -> tuple[str, ...]:
        """The command line that runs ``argv`` on the host of this name, or on ``"proxy"``."""
        bound = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return ("ip", "netns", "exec", self._space(host), "sh", "-c", bound, str(self.hosts), *argv)

    def _space(self, host: str) -> str:
        return f"{self.mark}-{host}"

    def _make(self, addresses: Mapping[str, str]) -> None:
        _ip(f"netns add {self._space('proxy')}", *(f"netns add {self._space(host)}" for host in addresses))
        _ip("link set lo up", f"addr add {PROXY}/32 dev lo", within=self._space("proxy"))
        for number, (host, address) in enumerate(addresses.items()):
            space, link = self._space(host), f"to-{number}"
            _ip(
                f"link add {link} type veth peer name eth0 netns {space}", f"link set {link} up",
                f"route add {address} dev {link}", within=self._space("proxy"),
            )  # fmt: skip
            _ip(
                "link set lo up", f"addr add {address}/32 dev eth0", "link set eth0 up", f"route add {PROXY} dev eth0",
                within=space,
            )  # fmt: skip

    def _remove(self, hosts: Mapping[str, str]) -> None:
        for host in ("proxy", *hosts):
            subprocess.run(["ip", "netns", "del", self._space(host)], capture_output=True, check=False)


@contextlib.contextmanager
def proxied_hosts(directory: Path, addresses: Mapping[str, str], names: list[str]) -> Iterator[ProxiedHosts]:
    """``addresses``: the hosts' addresses by name. ``names``: names that lead to the proxy."""
    file = directory / "hosts"
    file.write_text(f"127.0.0.1 localhost\n{PROXY} {' '.join(names)}\n")
    hosts = ProxiedHosts(f"rp{secrets.token_hex(3)}", file)
    try:
        hosts._make(addresses)
        yield hosts
    finally:
        hosts._remove(addresses)


def _ip(*commands: str, within: str = "") -> None:
    argv = ["ip", *(["-n", within] if within else []), "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(commands), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{commands}: {done.stderr}"
