"""A signed license file: JSON, signed with Ed25519 over its canonical form.

``{"format": "swarm-license/1", "license": {...}, "signature": {"algorithm": "Ed25519", "key_id": ..., "value": ...}}``

Canonical form of the license: JSON in UTF-8 with sorted keys and no spaces; only text and whole numbers. The signature
covers the format's name, a line feed, and this form. So only white space and the order of keys in the file may change.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from services.errors import LicenseForged, LicenseUnreadable
from services.licensing.features import FEATURES

FORMAT = "swarm-license/1"
ALGORITHM = "Ed25519"
MAX_BYTES = 64 * 1024
MAX_TEXT = 200
MAX_SEATS = 1_000_000
MAX_GRANTS = 64

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Grant:
    """``capacity`` seats of a feature, from ``valid_from`` to before ``valid_until`` (None: forever)."""

    feature: str
    capacity: int
    valid_from: datetime
    valid_until: datetime | None


@dataclass(frozen=True)
class License:
    """The content of a license file. ``lock_code``: of the only server that may install it; None: any."""

    id: str
    issuer: str
    licensee: str
    issued: datetime
    lock_code: str | None
    grants: tuple[Grant, ...]


@dataclass(frozen=True)
class SignedLicense:
    license: License
    key_id: str
    signature: bytes
    signed: bytes  # the signed bytes


def key_id(key: Ed25519PublicKey) -> str:
    """Hex SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def read_public_key(pem: bytes) -> Ed25519PublicKey:
    """Raises LicenseUnreadable."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise LicenseUnreadable(problem="this is not a public key in PEM form") from None
    if not isinstance(key, Ed25519PublicKey):
        raise LicenseUnreadable(problem="this public key is not an Ed25519 key")
    return key


def read_private_key(pem: bytes) -> Ed25519PrivateKey:
    """Raises LicenseUnreadable."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise LicenseUnreadable(problem="this is not an unencrypted private key in PEM form") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise LicenseUnreadable(problem="this private key is not an Ed25519 key")
    return key


def public_pem(key: Ed25519PublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def issue(license: License, key: Ed25519PrivateKey) -> bytes:
    """The signed file. Raises LicenseUnreadable if the license could not be read back."""
    content = _as_json(license)
    _license(content)
    public = key.public_key()
    signature = {
        "algorithm": ALGORITHM,
        "key_id": key_id(public),
        "value": base64.b64encode(key.sign(_signed(content))).decode(),
    }
    return json.dumps({"format": FORMAT, "license": content, "signature": signature}, indent=2).encode() + b"\n"


def read(file: bytes) -> SignedLicense:
    """The content of a file; its signature is not checked yet. Raises LicenseUnreadable."""
    if len(file) > MAX_BYTES:
        raise LicenseUnreadable(problem=f"it has {len(file)} bytes, and {MAX_BYTES} are the most")
    try:
        content = json.loads(
            file.decode(), object_pairs_hook=_object, parse_float=_no_number, parse_constant=_no_number
        )
    except (ValueError, RecursionError):  # also for a number with more digits than Python reads
        raise LicenseUnreadable(problem="it is not JSON") from None
    whole = _fields(content, "the file", {"format", "license", "signature"})
    if whole["format"] != FORMAT:
        raise LicenseUnreadable(problem=f"its format is not {FORMAT}")
    signature = _fields(whole["signature"], "signature", {"algorithm", "key_id", "value"})
    if signature["algorithm"] != ALGORITHM:
        raise LicenseUnreadable(problem=f"its signature is not {ALGORITHM}")
    try:
        value = base64.b64decode(_text(signature, "value", "signature"), validate=True)
    except (binascii.Error, ValueError):
        raise LicenseUnreadable(problem="signature.value is not base64") from None
    license = _license(whole["license"])
    return SignedLicense(license, _text(signature, "key_id", "signature"), value, _signed(whole["license"]))


def verify(signed: SignedLicense, trusted: Mapping[str, str]) -> None:
    """``trusted``: key id -> public key (PEM). Raises LicenseForged."""
    pem = trusted.get(signed.key_id)
    if pem is None:
        problem = f"the key {signed.key_id[:16]} that made it is not trusted here"
        raise LicenseForged(license=signed.license.id, problem=problem)
    try:
        read_public_key(pem.encode()).verify(signed.signature, signed.signed)
    except InvalidSignature:
        raise LicenseForged(license=signed.license.id, problem="the file was changed after it was signed") from None


def _signed(content: Mapping[str, Any]) -> bytes:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{FORMAT}\n{canonical}".encode()


def _as_json(license: License) -> dict[str, Any]:
    return {
        "id": license.id,
        "issuer": license.issuer,
        "licensee": license.licensee,
        "issued": license.issued.astimezone(UTC).strftime(_TIME),
        "lock_code": license.lock_code,
        "grants": [
            {
                "feature": grant.feature,
                "capacity": grant.capacity,
                "valid_from": grant.valid_from.astimezone(UTC).strftime(_TIME),
                "valid_until": grant.valid_until and grant.valid_until.astimezone(UTC).strftime(_TIME),
            }
            for grant in license.grants
        ],
    }


def _license(content: Any) -> License:
    fields = _fields(content, "license", {"id", "issuer", "licensee", "issued", "lock_code", "grants"})
    identifier = _text(fields, "id", "license")
    if not _ID.fullmatch(identifier):
        raise LicenseUnreadable(problem="license.id is not 1 to 64 letters, digits, '.', '_' or '-'")
    grants = fields["grants"]
    if not isinstance(grants, list) or not 1 <= len(grants) <= MAX_GRANTS:
        raise LicenseUnreadable(problem=f"license.grants is not a list of 1 to {MAX_GRANTS}")
    return License(
        id=identifier,
        issuer=_text(fields, "issuer", "license"),
        licensee=_text(fields, "licensee", "license"),
        issued=_time(fields, "issued", "license"),
        lock_code=None if fields["lock_code"] is None else _text(fields, "lock_code", "license"),
        grants=tuple(_grant(grant, f"license.grants[{number}]") for number, grant in enumerate(grants)),
    )


def _grant(content: Any, where: str) -> Grant:
    fields = _fields(content, where, {"feature", "capacity", "valid_from", "valid_until"})
    feature, capacity = fields["feature"], fields["capacity"]
    if feature not in FEATURES:
        raise LicenseUnreadable(problem=f"{where}.feature is not one of {', '.join(FEATURES)}")
    if isinstance(capacity, bool) or not isinstance(capacity, int) or not 0 <= capacity <= MAX_SEATS:
        raise LicenseUnreadable(problem=f"{where}.capacity is not a number of seats up to {MAX_SEATS}")
    begin = _time(fields, "valid_from", where)
    end = None if fields["valid_until"] is None else _time(fields, "valid_until", where)
    if end is not None and end <= begin:
        raise LicenseUnreadable(problem=f"{where} ends before it begins")
    return Grant(feature, capacity, begin, end)


def _fields(content: Any, where: str, names: set[str]) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise LicenseUnreadable(problem=f"{where} is not an object")
    if set(content) != names:
        wrong = ", ".join(sorted(str(name)[:40] for name in set(content) ^ names)[:8])
        raise LicenseUnreadable(problem=f"{where} lacks fields, or has some that do not belong there: {wrong}")
    return content


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or not value.isprintable():
        raise LicenseUnreadable(problem=f"{where}.{name} is not printable text of 1 to {MAX_TEXT} characters")
    return value


def _time(fields: Mapping[str, Any], name: str, where: str) -> datetime:
    try:
        return datetime.strptime(_text(fields, name, where), _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise LicenseUnreadable(problem=f"{where}.{name} is not a time such as 2027-01-31T00:00:00Z") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise LicenseUnreadable(problem="a field occurs twice")
    return found


def _no_number(_text: str) -> None:
    raise LicenseUnreadable(problem="it has a number that is not whole")
