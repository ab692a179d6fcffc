"""The server's certificate: shows it, and replaces it while the server runs."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from services.errors import AdminError, IdentityError, NoSuchThing, StorageError
from services.license_server.actor import Actor
from services.license_server.audit_log import record
from services.license_server.database import Database

if TYPE_CHECKING:
    from services.identity.renewal import Credentials

DIRECTORY = "tls"
EXPIRING_D = 30


@dataclass(frozen=True)
class CertificateView:
    subject: str
    issuer: str
    names: tuple[str, ...]
    valid_from: datetime
    valid_until: datetime
    fingerprint: str
    state: Literal["valid", "expiring", "expired"]


class Tls:
    """Has no certificate before ``serve`` is called."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._directory: Path | None = None
        self._cert: Path | None = None
        self._trust: dict[str, Path | None] = {}
        self._take: Callable[[Credentials], object] | None = None

    def serve(
        self,
        data_dir: Path,
        cert: Path,
        take: "Callable[[Credentials], object]",
        *,
        cacert: Path | None,
        capath: Path | None,
        trust: Path | None = None,
    ) -> None:
        """Sets the server's certificate, what new ones are checked against, and ``take``, which puts one into use (from
        any thread).
        """
        self._directory, self._cert, self._take = data_dir / DIRECTORY, cert, take
        self._trust = {"cacert": cacert, "capath": capath, "trust": trust}

    def current(self) -> CertificateView:
        """Raises NoSuchThing if no server runs."""
        if self._cert is None:
            raise NoSuchThing(what="certificate of", name="this server")
        return _view(self._cert)

    def replace(self, actor: Actor, certificate_pem: bytes, key_pem: bytes) -> CertificateView:
        """Installs a certificate for new connections and later starts. Raises AdminError if it is not suitable."""
        actor.require("settings:write")
        from services.identity.identity import Identity  # noqa: PLC0415

        if self._directory is None or self._take is None:
            raise NoSuchThing(what="certificate of", name="this server")
        fresh = _written(self._directory / "new", certificate_pem, key_pem)
        try:
            files = {"cert": fresh[0], "key": fresh[1], **self._trust}
            identity = Identity.load(**files, expected_role="license")  # type: ignore[arg-type]
        except IdentityError as error:
            for path in fresh:
                path.unlink(missing_ok=True)
            raise AdminError(problem=str(error)) from None
        credentials = identity.copied
        kept = stored(self._directory.parent, must_exist=False)
        with self._database.write() as transaction:
            record(transaction, actor, "certificate replaced", identity.name, {"fingerprint": identity.fingerprint})
            for new, old in zip(fresh, kept, strict=True):
                new.replace(old)
        self._take(credentials)
        self._cert = kept[0]
        return _view(self._cert)


def stored(data_dir: Path, *, must_exist: bool = True) -> tuple[Path, Path]:
    """Certificate and key that an administrator installed. Raises NoSuchThing if there are none."""
    found = data_dir / DIRECTORY / "cert.pem", data_dir / DIRECTORY / "key.pem"
    if must_exist and not all(path.exists() for path in found):
        raise NoSuchThing(what="certificate in", name=data_dir)
    return found


def _written(stem: Path, certificate_pem: bytes, key_pem: bytes) -> tuple[Path, Path]:
    found = stem.with_suffix(".cert.pem"), stem.with_suffix(".key.pem")
    try:
        stem.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path, content in zip(found, (certificate_pem, key_pem), strict=True):
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
    except OSError as error:
        raise StorageError(path=stem.parent, problem=error.strerror) from None
    return found


def _view(path: Path) -> CertificateView:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415

    from services.identity.certificates import read_chain  # noqa: PLC0415

    found = read_chain(path)[0]
    names: tuple[str, ...] = ()
    with contextlib.suppress(x509.ExtensionNotFound):
        listed = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(str(name.value) for name in listed)
    now, until = datetime.now(UTC), found.not_valid_after_utc
    state: Literal["valid", "expiring", "expired"] = "valid"
    if now >= until:
        state = "expired"
    elif until - now < timedelta(days=EXPIRING_D):
        state = "expiring"
    digest = found.fingerprint(hashes.SHA256()).hex()
    return CertificateView(
        found.subject.rfc4514_string(),
        found.issuer.rfc4514_string(),
        names,
        found.not_valid_before_utc,
        until,
        digest,
        state,
    )
