"""Makes, hashes and compares passwords, one-time codes and tokens."""

import base64
import hashlib
import hmac
import secrets
import struct
from functools import cache
from typing import Any
from urllib.parse import quote

from services.errors import AdminError

MIN_PASSWORD = 12
MAX_PASSWORD = 256
TOTP_STEP_S = 30
TOTP_DIGITS = 6
TOTP_ISSUER = "Swarm license server"


def new_token() -> str:
    """256 random bits as URL-safe text."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored of a token. As tokens have 256 random bits, a fast hash is safe."""
    return hashlib.sha256(token.encode()).hexdigest()


def hash_password(password: str) -> str:
    """Raises AdminError for a password that is too short, too long, or has fewer than five different characters."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise AdminError(problem=f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    if len(set(password)) < 5:
        raise AdminError(problem="This password repeats itself; take one that nobody guesses")
    return str(_hasher().hash(password))


def password_fits(stored: str, password: str) -> bool:
    """Takes as long for a wrong password as for a right one."""
    from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415

    try:
        return bool(_hasher().verify(stored, password[: MAX_PASSWORD + 1]))
    except (VerificationError, InvalidHashError):
        return False


@cache
def decoy() -> str:
    """A hash to compare with if there is no such user, so that the answer takes equally long."""
    return str(_hasher().hash(secrets.token_hex(16)))


def new_totp_secret() -> str:
    return base64.b32encode(secrets.token_bytes(20)).decode()


def totp_address(name: str, secret: str) -> str:
    """The otpauth:// address for authenticator apps, for use as a QR code too."""
    label = quote(f"{TOTP_ISSUER}:{name}")
    return f"otpauth://totp/{label}?secret={secret}&issuer={quote(TOTP_ISSUER)}"


def totp_code(secret: str, step: int) -> str:
    """RFC 6238, SHA-1, six digits."""
    mac = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    offset = mac[-1] & 15
    number = struct.unpack(">I", mac[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**TOTP_DIGITS:0{TOTP_DIGITS}d}"


def totp_step_of(secret: str, code: str, now: float, after_step: int) -> int | None:
    """The time step of a code: the current one, the one before or the one after. None if it fits none of these, or only
    steps up to ``after_step``, so that a code is accepted only once.
    """
    current = int(now // TOTP_STEP_S)
    for step in (current, current - 1, current + 1):
        if step > after_step and hmac.compare_digest(totp_code(secret, step), code.strip()):
            return step
    return None


@cache
def _hasher() -> Any:
    """OWASP's parameters for argon2id: 19 MiB, two passes, one lane."""
    from argon2 import PasswordHasher  # noqa: PLC0415

    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
