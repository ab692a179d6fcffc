"""Certificates that change while a node runs: the current credentials, and TLS contexts that follow them."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

from services.identity.peers import TrustBundle


@dataclass(frozen=True)
class Credentials:
    """What TLS shows and trusts at one moment. ``kept``: objects that keep the files alive, if these are in memory.

    ``key_fingerprint``: hex SHA-256 of the public key. ``handovers``: of the earlier keys, oldest first.
    """

    cert: Path
    key: Path
    trust: TrustBundle
    key_fingerprint: str
    handovers: tuple[bytes, ...] = ()
    kept: object = None


class Follower(Protocol):
    """Is told of each change, in the event loop of the node."""

    def renewed(self) -> None: ...


class Directory(Protocol):
    """An SN, which knows this node by its key."""

    async def take_key(self, newest: Credentials) -> None:
        """Makes the key of ``newest`` known to the SN. Raises NameTaken if it knows another key, NetworkError, and
        whatever else it answers.
        """


class Renewal:
    """The newest credentials of a node; ``number`` counts the renewals. Followers are held weakly.

    ``directories``: must know a new key before it is shown to anybody; held weakly too.
    """

    def __init__(self, first: Credentials) -> None:
        self.first = self.current = first
        self.number = 0
        self.followers: WeakSet[Follower] = WeakSet()
        self.directories: WeakSet[Directory] = WeakSet()

    def take(self, newest: Credentials) -> None:
        """Uses ``newest`` for all new connections; existing ones stay. Expulsions remain in force."""
        expulsions = self.first.trust.expulsions
        self.current = replace(newest, trust=replace(newest.trust, expulsions=expulsions))
        self.number += 1
        for follower in list(self.followers):
            follower.renewed()


class FollowingContext(ssl.SSLContext):
    """Stands for a series of contexts: each connection gets the one with the newest credentials.

    Replacing the certificate inside one context would break handshakes in other threads.
    """

    _renewal: Renewal
    _make: Callable[[], ssl.SSLContext]
    _made: tuple[int, ssl.SSLContext]
    _protocols: Sequence[str] = ()

    def follow(self, renewal: Renewal, make: Callable[[], ssl.SSLContext]) -> None:
        self._renewal, self._make = renewal, make
        self._made = (renewal.number, make())

    def set_alpn_protocols(self, alpn_protocols: Sequence[str]) -> None:  # type: ignore[override]
        self._protocols = tuple(alpn_protocols)
        self._made[1].set_alpn_protocols(self._protocols)

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        return self._newest().wrap_socket(*args, **options)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return self._newest().wrap_bio(*args, **options)

    def _newest(self) -> ssl.SSLContext:
        number = self._renewal.number
        if self._made[0] != number:
            made = self._make()
            if self._protocols:
                made.set_alpn_protocols(self._protocols)
            self._made = (number, made)
        return self._made[1]
