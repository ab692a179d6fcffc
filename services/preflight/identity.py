"""Whether peers will accept the certificate of this node, for long enough, at the address that they use."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from services.errors import CertificateUnreadable, SwarmError
from services.identity.certificates import read_chain
from services.identity.hosts import hosts_in, is_for
from services.identity.identity import Identity
from services.identity.renewed_files import IdentityFiles
from services.preflight.report import Finding, failure
from services.preflight.settings import PreflightSettings

SOON = timedelta(days=30)


def load(settings: PreflightSettings, role: str | None) -> tuple[Identity | None, Finding]:
    """Checks chain, dates, key and role as a peer would."""
    subject = str(settings.socket_path or settings.cert or "--cert")
    try:
        if settings.socket_path is not None:
            from services.identity.workload import present_identity  # noqa: PLC0415  # gRPC, for those who use it

            identity = present_identity(
                settings.socket_path, cacert=settings.cacert, capath=settings.capath, expected_role=role
            )
        else:
            identity = IdentityFiles.of(settings).load(role)
    except SwarmError as error:
        return None, failure("certificate", subject, error)
    found = f"{identity.role} {identity.name}; chain, dates, key and role are in order"
    return identity, Finding("certificate", subject, "ok", found)


def look(settings: PreflightSettings, identity: Identity) -> Iterator[Finding]:
    """What would not prevent a start, but cause trouble later."""
    try:
        certificate = read_chain(identity.cert)[0]
    except CertificateUnreadable:  # it changed since it was loaded
        return
    if identity.renewal is None:
        yield _dates(identity.cert, certificate)
        yield _key_mode(identity.key)
    if settings.host_ip:
        yield _names(identity.cert, certificate, settings.host_ip)


def _dates(path: Path, certificate: x509.Certificate) -> Finding:
    until = certificate.not_valid_after_utc
    found = f"valid until {until:%Y-%m-%d %H:%M} UTC"
    if until - datetime.now(UTC) < SOON:
        return Finding("certificate dates", str(path), "warning", found, "Have a new one issued before then.")
    return Finding("certificate dates", str(path), "ok", found)


def _key_mode(path: Path) -> Finding:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("private key", str(path), "warning", f"mode {mode:04o}: others read it", f"chmod 600 {path}")
    return Finding("private key", str(path), "ok", f"mode {mode:04o}")


def _names(path: Path, certificate: x509.Certificate, host: str) -> Finding:
    if is_for(certificate, host):
        return Finding("certificate names", str(path), "ok", f"it is for {host}")
    found = f"it is for {', '.join(hosts_in(certificate)) or 'no host'}, not for {host}"
    return Finding("certificate names", str(path), "failed", found, f"Have one issued with the name {host}.")
