"""The store: only complete streams, by digest, and nothing half written on a full disk."""

import hashlib
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from services.errors import DiskFull, StorageError, StreamDamaged
from services.sl.transfer.partials import Manifest, Partial, PartialEnded
from services.sl.transfer.store import Store, Stored
from swarm_callback.digest import digest_of_file
from swarm_callback.params import encode


def stream(*values: float) -> bytes:
    header, data = encode({"w": np.array(values, np.float32)})
    return b"".join([header, *data])


def put(store: Store, data: bytes) -> Stored:
    with store.incoming("sl-1", len(data)) as incoming:
        for start in range(0, len(data), 7):
            incoming.write(data[start : start + 7])
        return incoming.commit()


def files(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.iterdir())


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    mounted = tmp_path / "tiny"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mounted)], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_a_stream_is_found_by_its_digest_with_its_segments(tmp_path: Path) -> None:
    store = Store(tmp_path / "fs")
    data = stream(1, 2, 3)
    stored = put(store, data)
    assert stored.path.read_bytes() == data
    assert stored.model.digest == digest_of_file(stored.path).digest().hex()
    assert stored.path.name == f"{stored.model.digest}.safetensors"
    assert store.get(stored.model.digest) == stored
    assert [spec.name for spec in stored.specs()] == ["w"]
    assert store.get("0" * 64) is None


def test_it_is_still_there_after_a_restart_and_half_written_files_are_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "fs")
    stored = put(store, stream(1))
    lost = put(store, stream(2))
    lost.path.write_bytes(b"cut")
    (store.root / "1-1.partial").write_bytes(b"half")
    (store.root / "other.json").write_text("{}")
    again = Store(store.root)
    assert again.get(stored.model.digest) == stored
    assert again.get(lost.model.digest) is None
    assert files(again) == [f"{stored.model.digest}.json", f"{stored.model.digest}.safetensors"]


def test_an_interrupted_stream_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "fs")
    with store.incoming("sl-1", 100) as incoming:
        incoming.write(stream(1)[:20])
    assert files(store) == []


@pytest.mark.parametrize(
    ("data", "announced", "problem"),
    [
        (stream(1), len(stream(1)) + 1, "it ends after"),
        (stream(1) + b"x", len(stream(1)), "more than"),
        (stream(1) + b"x", len(stream(1)) + 1, "its header describes"),
        (b"\xff" * 64, 64, "its header claims"),
        ((64).to_bytes(8, "little") + b"{" + b" " * 63, 72, "not JSON"),
        ((64).to_bytes(8, "little") + b"{" * 64, 72, "nested deeper"),
    ],
)
def test_a_damaged_stream_is_refused_and_leaves_nothing(
    tmp_path: Path, data: bytes, announced: int, problem: str
) -> None:
    store = Store(tmp_path / "fs")
    with pytest.raises(StreamDamaged, match=problem), store.incoming("sl-9", announced) as incoming:
        incoming.write(data)
        incoming.commit()
    assert files(store) == []


def test_keep_only_forgets_the_others_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "fs")
    kept, gone = put(store, stream(1)), put(store, stream(2))
    (trash,) = store.keep_only(frozenset({kept.model.digest}))
    assert store.get(gone.model.digest) is None
    assert not gone.path.exists()
    again = put(store, stream(2))
    trash.unlink()
    assert again.path.exists()


def test_the_same_parameters_twice_are_one_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "fs")
    assert put(store, stream(1)) == put(store, stream(1))
    assert len(files(store)) == 2


def test_a_stream_larger_than_the_disk_is_refused_before_its_first_byte(tiny_disk: Path) -> None:
    store = Store(tiny_disk / "fs")
    with pytest.raises(DiskFull, match=r"The disk of .* is full: 1000000000 bytes are needed"):
        store.incoming("sl-1", 10**9)
    assert files(store) == []


def test_a_disk_that_fills_up_leaves_nothing_half_written(tiny_disk: Path) -> None:
    store = Store(tiny_disk / "fs")
    header, data = encode({"w": np.zeros(40_000, np.float32)})
    with pytest.raises(DiskFull), store.incoming("sl-1", len(header) + 160_000) as incoming:
        (tiny_disk / "another program").write_bytes(bytes(150_000))
        incoming.write(header)
        incoming.write(data[0])
    assert files(store) == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/fs cannot be written: not a directory"):
        Store(tmp_path / "file" / "fs")


def test_a_disk_that_may_not_be_written_is_named(tiny_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(StorageError, match="tiny/fs cannot be written: read-only file system"):
        Store(tiny_disk / "fs")


# --- segments, and steps in threads that meet each other --------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_no_other_user_may_read_parameters_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    root = tmp_path / "fs"
    root.mkdir(mode=0o755)  # as an earlier version left it
    before = os.umask(mask)
    try:
        store = Store(root)
        stored = put(store, stream(1.0, 2.0))
        draft, _ = drafted(store, stream(*range(9)))
    finally:
        os.umask(before)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(draft.path.stat().st_mode) == 0o600


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fs").mkdir()
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(StorageError, match=f"it belongs to the user with the number {me}, .* runs as {me + 1}"):
        Store(tmp_path / "fs")


def manifest_of(data: bytes) -> tuple[Manifest, bytes, memoryview]:
    """A manifest of the header and a body of one segment."""
    size = 8 + int.from_bytes(data[:8], "little")
    header, body = data[:size], data[size:]
    hashes = (hashlib.sha256(body).digest(),)
    return Manifest(len(data), size, hashlib.sha256(header).digest(), hashes), header, memoryview(body)


def drafted(store: Store, data: bytes, name: str = "1-1-1") -> tuple[Partial, memoryview]:
    manifest, header, body = manifest_of(data)
    return store.draft(name, manifest.size, header, 1), body


def test_a_draft_becomes_the_stream_that_it_holds(tmp_path: Path) -> None:
    store = Store(tmp_path / "fs")
    draft, body = drafted(store, stream(1, 2))
    draft.make(0, body)
    stored = store.complete(draft)
    assert store.result("1-1-1") == store.get(stored.model.digest) == stored
    assert stored.path.read_bytes() == stream(1, 2)
    assert store.partial("1-1-1") is None
    assert files(store) == [f"{stored.model.digest}.json", f"{stored.model.digest}.safetensors"]
    with pytest.raises(PartialEnded):
        draft.make(0, body)


def test_whoever_works_with_a_stream_that_another_completes_goes_on_reading(tmp_path: Path) -> None:
    store = Store(tmp_path / "fs")
    manifest, header, body = manifest_of(stream(1, 2))
    partial = store.begin(manifest, header)
    partial.hold()
    partial.put(0, body)
    store.complete(partial)
    store.keep_only(frozenset())
    assert bytes(partial.view(0, 8)) == bytes(body)
    partial.release()


def test_a_draft_that_is_given_up_while_it_is_stored_becomes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like when a merge restarts just as its result is complete: one step is in a thread, the other in the loop."""
    store = Store(tmp_path / "fs")
    draft, body = drafted(store, stream(1, 2))
    draft.make(0, body)
    reached, go_on = threading.Event(), threading.Event()

    def slow(*_given: object) -> object:
        reached.set()
        assert go_on.wait(10)
        return []

    monkeypatch.setattr("services.sl.transfer.store.parse_header", slow)
    with ThreadPoolExecutor(1) as pool:
        storing = pool.submit(store.complete, draft)
        assert reached.wait(10)
        store.forget(draft)
        go_on.set()
        with pytest.raises(PartialEnded):
            storing.result(10)
    assert files(store) == []
    assert store.result("1-1-1") is None


def test_a_draft_that_somebody_works_on_is_not_taken_for_a_stream_that_begins(tmp_path: Path) -> None:
    store = Store(tmp_path / "fs")
    draft, body = drafted(store, stream(1, 2))
    manifest, header, _ = manifest_of(stream(1, 2))
    assert store.begin(manifest, header) is not draft
    draft.make(0, body)
    draft.release()
    assert store.complete(draft).model.digest == manifest.digest


def test_two_that_begin_the_same_stream_at_once_work_on_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "fs")
    manifest, header, _ = manifest_of(stream(1, 2))
    make_room = store.make_room
    reached, go_on = threading.Event(), threading.Event()

    def slow(size: int) -> None:
        reached.set()
        assert go_on.wait(10)
        make_room(size)

    monkeypatch.setattr(store, "make_room", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.begin, manifest, header)
        assert reached.wait(10)
        second = pool.submit(store.begin, manifest, header)
        go_on.set()
        assert first.result(10) is second.result(10)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stream_that_begins_with_a_draft_goes_on_when_its_merge_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Like when a merge restarts just as somebody's parameters are requested: one step is in the loop, the other in a
    thread.
    """
    store = Store(tmp_path / "fs")
    draft, _ = drafted(store, stream(1, 2))
    draft.release()
    manifest, header, _ = manifest_of(stream(3, 4))
    make_room, reached, go_on = store.make_room, threading.Event(), threading.Event()

    def slow(size: int) -> None:
        reached.set()
        assert go_on.wait(10)
        make_room(size)

    monkeypatch.setattr(store, "make_room", slow)
    with ThreadPoolExecutor(1) as pool:
        beginning = pool.submit(store.begin, manifest, header)
        assert reached.wait(10)
        if when == "before":
            store.give_up("1-1-1")
        go_on.set()
        partial = beginning.result(10)
    store.give_up("1-1-1")
    assert partial.has(0) is False
    partial.put(0, manifest_of(stream(3, 4))[2])
    stored = store.complete(partial)
    assert stored.path.read_bytes() == stream(3, 4)
    assert store.partial("1-1-1") is None
