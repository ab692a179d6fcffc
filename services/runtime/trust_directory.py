"""Containers see the directory of a trust file, so that they also see revocation lists that are moved into it later.

Must run on Python 3.9, for scripts on hosts without anything installed.
"""

from __future__ import annotations

from pathlib import Path

MOST_FILES = 1000
_LOOKED_AT_BYTES = 1024 * 1024
_KEY = b"PRIVATE KEY-----"


def reason_not_to_mount(directory: Path) -> str:
    """Why the directory of a trust file should not be shown to a container; "" if nothing is wrong with it."""
    for number, path in enumerate(directory.rglob("*"), start=1):
        if number > MOST_FILES:
            return f"{directory} holds more than {MOST_FILES:,} files; give the trust file a directory of its own"
        if holds_a_key(path):
            return (
                f"{path} is a private key; give the trust file a directory of its own, with the CAs and lists it names"
            )
    return ""


def holds_a_key(path: Path) -> bool:
    """Whether a file holds a private key, as far as it can be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _KEY in file.read(_LOOKED_AT_BYTES)
    except OSError:  # then a container of this user could not read it either
        return False
