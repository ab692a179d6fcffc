"""Keys and certificates for libraries that want a path, in memory."""

import os

import pytest

from services.errors import StorageError
from services.identity import memory_files
from services.identity.memory_files import SHARED_MEMORY, InMemory


def forbidden(*arguments: object) -> int:
    raise PermissionError(1, "Operation not permitted")


def test_what_is_in_memory_is_read_by_its_path() -> None:
    file = InMemory(b"a key")
    assert file.path.read_bytes() == b"a key"


def test_where_a_sandbox_forbids_memfd_it_lies_without_a_name_in_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", forbidden)
    before = set(SHARED_MEMORY.iterdir())
    file = InMemory(b"a key")
    assert file.path.read_bytes() == b"a key"
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert str(file.path.readlink()).startswith(f"{SHARED_MEMORY}/")
    assert set(SHARED_MEMORY.iterdir()) == before


def test_where_there_is_no_place_in_memory_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", forbidden)
    monkeypatch.setattr(memory_files, "SHARED_MEMORY", SHARED_MEMORY / "nowhere")
    with pytest.raises(StorageError, match="nowhere"):
        InMemory(b"a key")
