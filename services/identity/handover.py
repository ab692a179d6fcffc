"""A new key replaces a node's old one: a statement signed by the old key, in the file of the new key."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from services.errors import HandoverRefused
from services.identity.signatures import UnsupportedKey, sign, verify

LABEL = "swarm key handover, version 1"
MAX_BYTES = 4096
MAX_STEPS = 16
"""Of one node that was away while its key changed again and again."""

_BEGIN, _END = "-----BEGIN SWARM KEY HANDOVER-----", "-----END SWARM KEY HANDOVER-----"
_BLOCK = re.compile(f"{_BEGIN}(.*?){_END}".encode(), re.DOTALL)
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Handover:
    """``old_key``: SubjectPublicKeyInfo in DER form. ``new``: hex SHA-256 of the new one. ``date``: UTC, ISO 8601."""

    spiffe_id: str
    old_key: bytes
    new: str
    date: str
    signature: bytes = b""

    @classmethod
    def sign(cls, spiffe_id: str, old: PrivateKeyTypes, new: str) -> Self:
        """Signs with an elliptic curve or RSA key. Raises HandoverRefused for another kind of key."""
        public = old.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        unsigned = cls(spiffe_id, public, new, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
        try:
            return cls(spiffe_id, public, new, unsigned.date, sign(old, unsigned._signed))
        except UnsupportedKey:
            raise HandoverRefused(problem="the old key is neither on a curve nor of RSA") from None

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Reads a handover and checks its signature, but not whose key it is. Raises HandoverRefused."""
        try:
            found = cls._read(content[: MAX_BYTES + 1])
            found._verify()
        except (ValueError, TypeError, KeyError, RecursionError, InvalidSignature, UnsupportedAlgorithm) as error:
            problem = "the old key has not signed it" if isinstance(error, InvalidSignature) else "it is damaged"
            raise HandoverRefused(problem=problem) from None
        return found

    @classmethod
    def _read(cls, content: bytes) -> Self:
        if len(content) > MAX_BYTES:
            raise ValueError("too long")
        said = json.loads(content)
        words = [said[field] for field in ("id", "old_key", "new", "date", "signature")]
        if not all(isinstance(word, str) for word in words) or not _HASH.fullmatch(words[2]):
            raise ValueError("of another form")
        spiffe_id, old_key, new, date, signature = words
        return cls(spiffe_id, _decoded(old_key), new, date, _decoded(signature))

    @property
    def old(self) -> str:
        """Hex SHA-256 of the old public key."""
        return hashlib.sha256(self.old_key).hexdigest()

    @property
    def content(self) -> bytes:
        """As it is sent and stored."""
        said = {"id": self.spiffe_id, "old_key": _encoded(self.old_key), "new": self.new, "date": self.date}
        return json.dumps({**said, "signature": _encoded(self.signature)}).encode("ascii")

    @property
    def _signed(self) -> bytes:
        return "\n".join((LABEL, self.spiffe_id, self.old, self.new, self.date)).encode()

    def _verify(self) -> None:
        verify(load_der_public_key(self.old_key), self.signature, self._signed)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _decoded(text: str | bytes) -> bytes:
    """Raises ValueError."""
    return base64.b64decode(text, validate=True)


def newest(handovers: Sequence[Handover], spiffe_id: str, known: str) -> str:
    """The fingerprint to which the handovers lead from ``known``; ``known`` itself if none begins there."""
    steps = {one.old: one.new for one in handovers if one.spiffe_id == spiffe_id}
    for _ in range(len(steps)):  # bounded, in case they form a circle
        known = steps.pop(known, known)
    return known


def handovers_in(content: bytes) -> tuple[bytes, ...]:
    """The last handovers in a key's file, oldest first. Raises HandoverRefused."""
    found = []
    for block in _BLOCK.findall(content)[-MAX_STEPS:]:
        try:
            found.append(_decoded(b"".join(block.split())))
        except ValueError:
            raise HandoverRefused(problem="it is damaged") from None
    return tuple(found)


def to_pem(handovers: Sequence[bytes]) -> bytes:
    """The handovers as text to append to the file of the new key."""
    lines = [_BEGIN + "\n" + base64.encodebytes(one).decode("ascii") + _END + "\n" for one in handovers[-MAX_STEPS:]]
    return "".join(lines).encode("ascii")
