"""What a container sees of a trust file: its directory, so that a revocation list that is moved into it is seen too.

Python 3.9 reads this, for the scripts of hosts without anything installed.
"""

from __future__ import annotations

from pathlib import Path

MOST_FILES = 1000
_LOOKED_AT_BYTES = 1024 * 1024
_KEY = b"PRIVATE KEY-----"


def reason_not_to_mount(directory: Path) -> str:
    """Why the directory of a trust file should not be shown to a container; "" where nothing speaks against it."""
    for number, path in enumerate(directory.rglob("*"), start=1):
        if number > MOST_FILES:
            return f"{directory} holds more than {MOST_FILES:,} files; give the trust file a directory of its own"
        if holds_a_key(path):
            return (
                f"{path} is a private key; give the trust file a directory of its own, with the CAs and lists it names"
            )
    return ""


def holds_a_key(path: Path) -> bool:
    """Whether a file holds a private key, as far as that can be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _KEY in file.read(_LOOKED_AT_BYTES)
    except OSError:  # a container of this user could not read it either
        return False
