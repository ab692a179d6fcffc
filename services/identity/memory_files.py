"""Files that no disk ever sees, for libraries that want a path."""

import os
import weakref
from pathlib import Path


class InMemory:
    """``path`` is good within this process, for as long as this object is there."""

    def __init__(self, content: bytes) -> None:
        descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        self.path = Path(f"/proc/self/fd/{descriptor}")
