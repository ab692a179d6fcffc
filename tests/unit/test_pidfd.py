"""Where a sandbox forbids to watch processes, whoever starts them says so."""

import errno
import os

import pytest

from services.errors import ProcessesNotWatched
from services.runtime.pidfd import open_pid


def test_a_descriptor_is_that_of_the_process() -> None:
    os.close(open_pid(os.getpid()))
    with pytest.raises(ProcessLookupError):
        open_pid(2**22 - 1)


def test_what_is_forbidden_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", forbidden)
    with pytest.raises(ProcessesNotWatched, match=r"pidfd_open is forbidden \(Operation not permitted\)\. Allow it"):
        open_pid(os.getpid())
