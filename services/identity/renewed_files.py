"""Certificate files that may be replaced while the node runs: they are read again when they change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from services.errors import NetworkError, SwarmError
from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.identity.renewal import Credentials, Renewal
from services.runtime import logs
from services.runtime.background import Background
from services.runtime.settings import IdentitySettings

LOOK_EVERY_S = 2.0

_log = logs.get("identity")


@dataclass(frozen=True)
class IdentityFiles:
    """The files named in the settings."""

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
        """A value that changes when one of the files does; None if one is missing at the moment."""
        with contextlib.suppress(OSError):
            paths = [path for path in (self.cert, self.key, self.cacert, self.trust) if path is not None]
            paths += sorted(self.capath.iterdir()) if self.capath else []
            return [(path, found.st_ino, found.st_mtime_ns, found.st_size) for path in paths if (found := path.stat())]
        return None


@contextlib.asynccontextmanager
async def renewed_files(
    files: Callable[[], IdentityFiles],
    role: str,
    slot: str = "",
    pause: Callable[[float], Awaitable[object]] | None = None,
    *,
    known_by_id: bool = False,
) -> AsyncIterator[Identity]:
    """The identity in the files; follows their replacements once these are complete. Raises what Identity.load raises.

    ``known_by_id``: others know this node by its SPIFFE ID, so a new key need not be announced.
    """
    stamp = files().stamp()
    first = files().load(role, slot)
    renewal = Renewal(first.copied)
    watch = _FilesWatch(files, first, renewal, stamp, known_by_id=known_by_id)
    background = Background("identity")
    background.keep(lambda: watch.run(pause or asyncio.sleep), "reading certificate files again")
    try:
        yield first.renewed_by(renewal, known_by_id=known_by_id)
    finally:
        await background.close()


class _FilesWatch:
    """Watches the files. Certificate and key are two files, so they are read only when two looks in a row agree."""

    def __init__(
        self, files: Callable[[], IdentityFiles], first: Identity, renewal: Renewal, stamp: object, *, known_by_id: bool
    ) -> None:
        self._files = files
        self._first = first
        self._renewal = renewal
        self._known_by_id = known_by_id
        self._taken = self._seen = stamp
        self._announced = renewal.current.key_fingerprint
        self._told: object = None

    async def run(self, pause: Callable[[float], Awaitable[object]]) -> None:
        """Runs until cancelled."""
        while True:
            await pause(LOOK_EVERY_S)
            before, self._seen = self._seen, self._files().stamp()
            if self._seen is None or self._seen != before or self._seen == self._taken:
                continue
            try:
                await self._take()
            except SwarmError as error:
                self._say(str(error))

    async def _take(self) -> None:
        """Takes what is in the files. A new key is used one look after its announcement, to let the news spread."""
        newest = self._files().load(self._first.role, self._first.slot)
        if newest.name != self._first.name:
            self._say(f"they are of another node, {newest.name}")
            return
        credentials = newest.copied
        if self._files().stamp() != self._seen:
            return
        if not self._known_by_id and self._renewal.directories and credentials.key_fingerprint != self._announced:
            await self._announce(credentials)
            self._announced = credentials.key_fingerprint
            return
        self._taken = self._seen
        self._renewal.take(credentials)
        ends = min(one.not_valid_after_utc for one in read_chain(credentials.cert))
        _log.info("loaded new certificate files", ends=f"{ends:%Y-%m-%d %H:%M} UTC")

    async def _announce(self, newest: Credentials) -> None:
        """Returns once an SN knows this node by the newest key. If none does, raises the reason.

        All directories are told, as an SWCI may work with several swarms.
        """
        telling = [directory.take_key(newest) for directory in self._renewal.directories]
        answers = await asyncio.gather(*telling, return_exceptions=True)
        failures = [answer for answer in answers if answer is not None]
        if len(failures) == len(answers):
            raise min(failures, key=lambda failure: isinstance(failure, NetworkError))

    def _say(self, why: str) -> None:
        """Logs once per state of the files. They are tried again, as the cause may be elsewhere."""
        if self._told != (self._seen, why):
            self._told = (self._seen, why)
            _log.error("the changed certificate files cannot be used; keeping the previous ones", why=why)
