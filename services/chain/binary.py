"""Finds the geth program."""

import shutil
from pathlib import Path

from services.errors import GethNotFound

BUILT_HERE = Path(__file__).parents[2] / ".tools" / "bin" / "geth"  # by `make setup`


def find_geth() -> Path | None:
    """geth on the PATH, else the one built in this checkout, else None."""
    found = shutil.which("geth") or shutil.which(BUILT_HERE)
    return Path(found) if found else None


def require_geth() -> Path:
    """As ``find_geth``; raises GethNotFound."""
    found = find_geth()
    if found is None:
        raise GethNotFound
    return found
