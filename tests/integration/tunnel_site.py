"""A site behind a tunnel: a network namespace with one link to this machine, which can be cut, and another address."""

import contextlib
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TunnelSite:
    """``here``: this machine's address for the site, also named localhost there. ``there``, ``later``: the site's
    addresses.
    """

    mark: str
    subnet: str
    hosts: Path

    @property
    def here(self) -> str:
        return f"{self.subnet}.1"

    @property
    def there(self) -> str:
        return f"{self.subnet}.2"

    @property
    def later(self) -> str:
        return f"{self.subnet}.3"

    def on(self, *argv: str) -> tuple[str, ...]:
        """The command line that runs ``argv`` at the site."""
        bound = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return ("ip", "netns", "exec", self.mark, "sh", "-c", bound, str(self.hosts), *argv)

    def cut(self) -> None:
        """Lets nothing through, without telling anybody."""
        _ip("link", "set", self.mark, "down")

    def heal(self) -> None:
        _ip("link", "set", self.mark, "up")

    def slow(self, mbit: int) -> None:
        """Limits the rate in each direction from now on."""
        shape = ("root", "tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "100ms")
        _run("tc", "qdisc", "add", "dev", self.mark, *shape)
        _run("tc", "-n", self.mark, "qdisc", "add", "dev", "eth0", *shape)

    @property
    def came_bytes(self) -> int:
        """The number of bytes received from the site so far."""
        return int(Path(f"/sys/class/net/{self.mark}/statistics/rx_bytes").read_text())

    def break_connections(self) -> None:
        """Breaks all open connections; both ends notice."""
        _run("ss", "-K", "-t", "dst", self.there)

    def move(self) -> None:
        """Changes the site's address, as when a tunnel is reopened."""
        _ip("-n", self.mark, "addr", "del", f"{self.there}/24", "dev", "eth0")
        _ip("-n", self.mark, "addr", "add", f"{self.later}/24", "dev", "eth0")


@contextlib.contextmanager
def tunnel_site(directory: Path) -> Iterator[TunnelSite]:
    subnet = f"10.{secrets.choice(range(64, 128))}.{secrets.choice(range(250))}"
    site = TunnelSite(f"ts{secrets.token_hex(3)}", subnet, directory / "hosts")
    site.hosts.write_text(f"{site.here} localhost\n")
    _ip("netns", "add", site.mark)
    try:
        _ip("link", "add", site.mark, "type", "veth", "peer", "name", "eth0", "netns", site.mark)
        _ip("addr", "add", f"{site.here}/24", "dev", site.mark)
        _ip("link", "set", site.mark, "up")
        _ip("-n", site.mark, "addr", "add", f"{site.there}/24", "dev", "eth0")
        for link in ("eth0", "lo"):
            _ip("-n", site.mark, "link", "set", link, "up")
        yield site
    finally:
        _ip("netns", "del", site.mark)  # this removes its link too


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
