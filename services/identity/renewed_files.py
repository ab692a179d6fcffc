"""Certificate files that something else replaces while the node runs: read again when they have changed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from services.errors import SwarmError
from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.identity.memory_files import InMemory
from services.identity.renewal import Credentials, Renewal
from services.runtime import logs
from services.runtime.background import Background
from services.runtime.settings import IdentitySettings

LOOK_EVERY_S = 5.0

_log = logs.get("identity")


@dataclass(frozen=True)
class IdentityFiles:
    """What the settings name."""

    cert: Path | None
    key: Path | None
    cacert: Path | None
    capath: Path | None
    trust: Path | None = None
    key_passphrase_file: Path | None = None

    @classmethod
    def of(cls, settings: IdentitySettings) -> "IdentityFiles":
        return cls(
            settings.cert,
            settings.key,
            settings.cacert,
            settings.capath,
            settings.trust,
            settings.key_passphrase_file,
        )

    def load(self, role: str | None = None, slot: str = "") -> Identity:
        """Raises what Identity.load raises."""
        return Identity.load(
            cert=self.cert,
            key=self.key,
            key_passphrase_file=self.key_passphrase_file,
            cacert=self.cacert,
            capath=self.capath,
            trust=self.trust,
            expected_role=role,
            slot=slot,
        )

    def stamp(self) -> object:
        """Changes when one of them does; None where one is missing for a moment."""
        with contextlib.suppress(OSError):
            paths = [path for path in (self.cert, self.key, self.cacert, self.trust) if path is not None]
            paths += sorted(self.capath.iterdir()) if self.capath else []
            return [(path, found.st_ino, found.st_mtime_ns, found.st_size) for path in paths if (found := path.stat())]
        return None


@contextlib.asynccontextmanager
async def renewed_files(
    files: IdentityFiles, role: str, slot: str = "", pause: Callable[[float], Awaitable[object]] | None = None
) -> AsyncIterator[Identity]:
    """The identity in the files, and what takes their place once it is whole. Raises what Identity.load raises."""
    stamp = files.stamp()
    first = files.load(role, slot)
    renewal = Renewal(_credentials(first))
    background = Background("identity")
    background.keep(lambda: _watch(files, first, renewal, stamp, pause or _pause), "reading certificate files again")
    try:
        yield first.renewed_by(renewal)
    finally:
        await background.close()


async def _watch(
    files: IdentityFiles, first: Identity, renewal: Renewal, stamp: object, pause: Callable[[float], Awaitable[object]]
) -> None:
    """Certificate and key are two files: they are read when nothing has changed between two looks."""
    taken = seen = stamp
    while True:
        await pause(LOOK_EVERY_S)
        before, seen = seen, files.stamp()
        if seen is None or seen != before or seen == taken:
            continue
        taken = seen
        try:
            newest = files.load(first.role, first.slot)
            if newest.name != first.name:
                _log.error("other certificate files are of another node, and are not used", name=newest.name)
                continue
            renewal.take(_credentials(newest))
        except SwarmError as error:
            _log.error("the certificate files have changed and cannot be used", why=str(error))
            continue
        ends = min(one.not_valid_after_utc for one in read_chain(newest.cert))
        _log.info("took new certificate files", ends=f"{ends:%Y-%m-%d %H:%M} UTC")


def _credentials(identity: Identity) -> Credentials:
    """A copy: the files may be replaced at any moment, one after the other."""
    cert, key = InMemory(identity.cert.read_bytes()), InMemory(identity.credentials.key.read_bytes())
    return Credentials(cert.path, key.path, identity.trust, kept=(cert, key))


async def _pause(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
