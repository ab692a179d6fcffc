"""Finds the geth program."""

import os
import shutil
from pathlib import Path

from services.errors import GethNotFound, GethNotPossible

BUILT_HERE = Path(__file__).parents[2] / ".tools" / "bin" / "geth"  # by `make setup`


def find_geth() -> Path | None:
    """geth on the PATH, otherwise the one built in this checkout, otherwise None."""
    found = shutil.which("geth") or shutil.which(BUILT_HERE)
    return Path(found) if found else None


def require_geth() -> Path:
    """As ``find_geth``; raises GethNotFound, and GethNotPossible if a sandbox forbids what geth needs."""
    found = find_geth()
    if found is None:
        raise GethNotFound
    try:
        os.close(os.eventfd(0))
    except OSError as error:  # Go's runtime would end with a trace that tells a user nothing
        raise GethNotPossible(call="eventfd", problem=error.strerror or str(error)) from None
    return found
