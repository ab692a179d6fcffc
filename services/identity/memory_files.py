"""Files that never reach a disk, for libraries that need a path."""

import os
import weakref
from pathlib import Path
from typing import Final

from services.errors import StorageError

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a file system of memory, and the file in it has no name


class InMemory:
    """``path`` is valid in this process as long as this object exists.

    Raises StorageError if the host has no place for it.
    """

    def __init__(self, content: bytes) -> None:
        descriptor = _unnamed_file()
        weakref.finalize(self, os.close, descriptor)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        self.path = Path(f"/proc/self/fd/{descriptor}")


def _unnamed_file() -> int:
    try:
        return os.memfd_create("identity", os.MFD_CLOEXEC)
    except OSError:  # some sandboxes forbid the call
        pass
    try:
        return os.open(SHARED_MEMORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(path=SHARED_MEMORY, problem=error.strerror or str(error)) from None
