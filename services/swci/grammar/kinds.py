"""Kinds of arguments: what words are valid, and which live names complete them."""

import contextlib
import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from services.runtime.addresses import HTTPS_PORT, MAX_PORT, split_address

NAME_LIMIT_CHARACTERS = 128  # as in SNs
HOST_LIMIT_CHARACTERS = 253
TEXT_LIMIT_BYTES = 64 * 1024
RETRIES_LIMIT = 100_000
SECONDS_LIMIT = 7 * 24 * 3600.0
SHOWN_CHARACTERS = 40  # of a word quoted in an error

MEMBER_ROLES = ("sn", "sl", "swop")  # roles that SNs know by their keys
ORGANIZATION = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"  # as in trust files

_KIND = "kind"


@dataclass(frozen=True)
class ParameterKind:
    """``read`` turns a word into a value, ``check`` checks a value; both raise ValueError with a message for people.

    ``live``: the names that complete it, such as ``tasks``. ``whole_rest``: it takes the rest of the line, unchanged.
    """

    read: Callable[[str], Any]
    check: Callable[[Any], None]
    live: str = ""
    choices: tuple[str, ...] = ()
    whole_rest: bool = False


def argument(kind: ParameterKind, **default: Any) -> Any:
    """A field of a command; optional if it has ``default=``."""
    return field(metadata={_KIND: kind}, **default)


def kind_of(of: "Field[Any]") -> ParameterKind:
    kind: ParameterKind = of.metadata[_KIND]
    return kind


def check_arguments(command: Any) -> None:
    """Checks all arguments of a command, however it was built. Raises ValueError with a message for people."""
    for each in fields(command):
        value = getattr(command, each.name)
        if value is not None:
            kind_of(each).check(value)


def shown(text: str) -> str:
    """A word in quotes, cut if it is long."""
    cut = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."
    return f"'{cut}'"


def _text(text: str) -> str:
    return text


def name_of(what: str, live: str = "", limit: int = NAME_LIMIT_CHARACTERS) -> ParameterKind:
    """A name of ``what``: printable and no longer than the limit."""

    def check(value: str) -> None:
        if not value:
            raise ValueError(f"the name of a {what} is empty")
        if len(value) > limit:
            problem = f"the name of a {what} has {len(value)} characters, and {limit} are allowed"
            raise ValueError(f"{shown(value)} is too long: {problem}")
        if not value.isprintable():
            raise ValueError(f"{shown(value)} is not the name of a {what}: it holds control characters")

    return ParameterKind(_text, check, live)


def number(what: str, least: int, most: int) -> ParameterKind:
    def check(value: int) -> None:
        if not least <= value <= most:
            raise ValueError(f"{value} is not {what} ({least} to {most})")

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 12):
            raise ValueError(f"{shown(text)} is not {what} ({least} to {most})")
        return int(text)

    return ParameterKind(read, check)


def one_of(*choices: str) -> ParameterKind:
    """One of a few words, in any case."""

    def read(text: str) -> str:
        return text.upper()

    def check(value: str) -> None:
        if value not in choices:
            raise ValueError(f"{shown(value)} is none of {', '.join(choices)}")

    return ParameterKind(read, check, choices=choices)


def _is_host(text: str) -> bool:
    """Whether it is a host name or an IP address."""
    if ":" in text:
        with contextlib.suppress(ValueError):
            return bool(ipaddress.IPv6Address(text))
        return False
    return len(text) <= HOST_LIMIT_CHARACTERS and text.isascii() and text.isprintable()


def _check_host(value: str) -> None:
    host, port = split_address(value, 0)
    if port or not _is_host(host):
        raise ValueError(f"{shown(value)} is not an IP address or the name of a host")


def _check_service(value: str) -> None:
    host, _ = split_address(value, HTTPS_PORT)
    if not _is_host(host):
        raise ValueError(f"{shown(value)} is not a service (FQDN or FQDN:PORT)")


def _check_role(value: str) -> None:
    if value not in MEMBER_ROLES:
        raise ValueError(f"{shown(value)} is none of {', '.join(MEMBER_ROLES)}")


def _check_key(value: str) -> None:
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{shown(value)} is not the fingerprint of a public key (64 hexadecimal digits)")


def _read_seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a number of seconds") from None


def _check_seconds(value: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= SECONDS_LIMIT):
        raise ValueError(f"{value} is not a number of seconds (0 to {SECONDS_LIMIT:.0f})")


def _check_organization(value: str) -> None:
    if not re.fullmatch(ORGANIZATION, value):
        raise ValueError(f"{shown(value)} is not the name of an organization (1 to 63 letters, digits, '.', '-', '_')")


def _check_organizations(value: str) -> None:
    for name in value.split(","):
        _check_organization(name.strip())


def _check_keys(value: str) -> None:
    words = value.split()
    if not words:
        raise ValueError("no fingerprint is given")
    for word in words:
        _check_key(word)


def _check_text(value: str) -> None:
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > TEXT_LIMIT_BYTES:
        raise ValueError(f"the text has {size} bytes, and {TEXT_LIMIT_BYTES} are allowed")
    if "\x00" in value or "\n" in value or "\r" in value:
        raise ValueError("the text holds control characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the text is not Unicode") from None


def _check_word(value: str) -> None:
    if not value:
        raise ValueError("an argument is empty")
    _check_text(value)


PORT = number("a port", 1, MAX_PORT)
RETRIES = number("a number of retries", 1, RETRIES_LIMIT)
PEERS = number("a number of peers", 1, 100_000)
LINE_NUMBER = number("the number of a line", 1, 100_000)
HOST = ParameterKind(_text, _check_host)
KEY = ParameterKind(str.lower, _check_key)
KEYS = ParameterKind(str.lower, _check_keys, whole_rest=True)
ORGANIZATION_NAME = ParameterKind(_text, _check_organization)
ORGANIZATION_NAMES = ParameterKind(_text, _check_organizations, whole_rest=True)
PROPOSAL = number("the number of a proposal", 1, 1_000_000)
MEMBER_ROLE = ParameterKind(str.lower, _check_role, choices=MEMBER_ROLES)
SERVICE = ParameterKind(_text, _check_service)
SECONDS = ParameterKind(_read_seconds, _check_seconds)
PATH = ParameterKind(_text, _check_word, live="files")
TEXT = ParameterKind(_text, _check_text)
LINE = ParameterKind(_text, _check_text, whole_rest=True)
SWITCH = one_of("ON", "OFF")
CONTEXT = name_of("context", "contexts")
VARIABLE = name_of("variable", "variables")
CONTRACT = name_of("contract", "contracts")
TASK = name_of("task", "tasks")
TASKRUNNER = name_of("taskrunner", "taskrunners")
SWOP = name_of("SWOP", "swops")
PEER = name_of("peer", "peers")
