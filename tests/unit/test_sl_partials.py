"""Segments of a stream in any order: nothing counts that is not what was expected."""

import hashlib
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from services.sl.transfer.partials import Manifest, Partial, PartialEnded, WrongSegment
from swarm_callback.digest import SEGMENT_BYTES
from tests.held_files import deleted_but_held_below

HEADER = (8).to_bytes(8, "little") + b"{}      "
BODY = bytes(range(256)) * (SEGMENT_BYTES // 256) * 2 + b"rest"
CUT = [BODY[start : start + SEGMENT_BYTES] for start in range(0, len(BODY), SEGMENT_BYTES)]
HASHES = [hashlib.sha256(piece).digest() for piece in CUT]


def partial(directory: Path, expected: list[bytes | None]) -> Partial:
    return Partial(directory / "x.part", len(HEADER) + len(BODY), HEADER, expected)


def test_segments_come_in_any_order_and_are_served_as_they_are_there(tmp_path: Path) -> None:
    made = partial(tmp_path, list(HASHES))
    whole = len(HEADER) + len(BODY)
    made.put(2, memoryview(CUT[2]))
    made.put(0, memoryview(CUT[0]))
    assert made.there_until(0, whole) == len(HEADER) + SEGMENT_BYTES
    assert made.there_until(made.start_of(1), whole) == made.start_of(1)
    assert not made.complete
    made.put(1, memoryview(CUT[1]))
    assert made.complete
    assert made.there_until(3, whole) == whole
    assert made.path.read_bytes() == HEADER + BODY
    assert bytes(made.view(SEGMENT_BYTES - 2, SEGMENT_BYTES + 2)) == BODY[SEGMENT_BYTES - 2 : SEGMENT_BYTES + 2]


def test_bytes_that_are_not_those_expected_do_not_count(tmp_path: Path) -> None:
    made = partial(tmp_path, list(HASHES))
    with pytest.raises(WrongSegment):
        made.put(0, memoryview(CUT[1])[1:])
    assert not made.has(0)


def test_what_was_believed_is_dropped_when_its_hash_becomes_known(tmp_path: Path) -> None:
    made = partial(tmp_path, [None] * 3)
    for index, piece in enumerate((CUT[0], bytes(SEGMENT_BYTES), CUT[2])):
        made.put(index, memoryview(piece))
    assert made.complete
    assert [made.know(index, found) for index, found in enumerate(HASHES)] == [True, False, True]
    assert not made.complete
    made.put(1, memoryview(CUT[1]))
    assert made.manifest() == Manifest(len(HEADER) + len(BODY), len(HEADER), made.layout, tuple(HASHES))


def test_a_draft_becomes_another_stream_without_what_does_not_belong_to_it(tmp_path: Path) -> None:
    made = partial(tmp_path, [None] * 3)
    made.put(0, memoryview(CUT[0]))
    made.put(2, memoryview(b"best"))
    assert made.expect(Manifest(made.size, made.header_size, made.layout, tuple(HASHES)))
    assert [made.has(index) for index in range(3)] == [True, False, False]
    assert not made.expect(Manifest(made.size + 1, made.header_size, made.layout, tuple(HASHES)))


def test_only_sound_segments_of_an_earlier_start_are_taken_over(tmp_path: Path) -> None:
    first = partial(tmp_path, list(HASHES))
    first.put(1, memoryview(CUT[1]))
    first.end()
    again = partial(tmp_path, list(HASHES))
    again.recheck()
    assert [again.has(index) for index in range(3)] == [False, True, False]


def test_what_has_ended_takes_nothing_and_gives_only_what_was_asked_before(tmp_path: Path) -> None:
    made = partial(tmp_path, list(HASHES))
    made.put(0, memoryview(CUT[0]))
    before = made.view(0, 4)
    made.end()
    assert bytes(before) == BODY[:4]
    for step in (
        lambda: made.put(1, memoryview(CUT[1])),
        lambda: made.make(1, memoryview(CUT[1])),
        lambda: made.view(4, 8),
        made.duplicate,
    ):
        with pytest.raises(PartialEnded):
            step()
    (tmp_path / "other").mkdir()
    never_read = partial(tmp_path / "other", list(HASHES))
    never_read.end()
    with pytest.raises(PartialEnded):  # and not zeros
        never_read.view(0, 4)


def test_once_nobody_works_with_it_it_holds_no_file_that_may_be_deleted(tmp_path: Path) -> None:
    made = partial(tmp_path, list(HASHES))
    made.put(0, memoryview(CUT[0]))
    made.view(0, 4).release()
    made.end()
    made.path.unlink()
    assert not deleted_but_held_below(tmp_path)


def test_its_file_stays_open_for_those_who_work_with_it(tmp_path: Path) -> None:
    made = partial(tmp_path, list(HASHES))
    made.hold()
    made.put(0, memoryview(CUT[0]))
    made.end()
    os.close(made.duplicate())
    assert bytes(made.view(0, 4)) == BODY[:4]
    with pytest.raises(PartialEnded):
        made.put(1, memoryview(CUT[1]))
    made.release()
    with pytest.raises(PartialEnded):
        made.duplicate()


class Slow:
    """``os.pwrite`` that stands still in the middle of its first call until it is let go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.first = True
        pwrite = os.pwrite

        def slow(file: int, data: memoryview, position: int) -> int:
            if self.first:
                self.first = False
                self.reached.set()
                assert self.go_on.wait(10)
            return pwrite(file, data, position)

        monkeypatch.setattr(os, "pwrite", slow)


def in_a_thread(step: Callable[[], object]) -> "Future[object]":
    done: Future[object] = Future()

    def run() -> None:
        try:
            done.set_result(step())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


def test_a_segment_does_not_count_whose_hash_changes_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = partial(tmp_path, [None] * 3)
    slow = Slow(monkeypatch)
    writing = in_a_thread(lambda: made.put(0, memoryview(bytes(SEGMENT_BYTES))))
    assert slow.reached.wait(10)
    made.know(0, HASHES[0])
    slow.go_on.set()
    with pytest.raises(WrongSegment):
        writing.result(10)
    assert not made.has(0)
    made.put(0, memoryview(CUT[0]))
    assert bytes(made.view(0, 4)) == BODY[:4]


def test_what_this_node_makes_itself_counts_also_while_another_one_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = partial(tmp_path, [None] * 3)
    slow = Slow(monkeypatch)
    writing = in_a_thread(lambda: made.put(0, memoryview(bytes(SEGMENT_BYTES))))
    assert slow.reached.wait(10)
    making = in_a_thread(lambda: made.make(0, memoryview(CUT[0])))
    slow.go_on.set()
    writing.result(10)
    assert making.result(10) == HASHES[0]
    assert made.expected[0] == HASHES[0]
    assert bytes(made.view(0, SEGMENT_BYTES)) == CUT[0]


def test_it_is_not_closed_under_a_step_that_is_using_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of a descriptor is given to the next file that is opened: bytes would land in that one."""
    made = partial(tmp_path, list(HASHES))
    slow = Slow(monkeypatch)
    writing = in_a_thread(lambda: made.put(0, memoryview(CUT[0])))
    assert slow.reached.wait(10)
    made.end()
    with (tmp_path / "another").open("wb") as another:
        slow.go_on.set()
        writing.result(10)
        assert another.tell() == 0
    assert (tmp_path / "another").read_bytes() == b""
    assert made.has(0)


@pytest.mark.parametrize(
    "change",
    [
        {"header_size": 7},
        {"size": len(HEADER)},
        {"segments": [HASHES[0].hex()]},
        {"layout": "zz"},
        {"size": "x"},
        {"size": str(len(HEADER) + len(BODY))},
        {"size": float(len(HEADER) + len(BODY))},
        {"size": 2**70},
        {"size": None},
        {"segments": [5, 6, 7]},
        {"segments": ["00", "00", "00"]},
        {"segments": "000"},
        {"layout": "00"},
        {"more": 1},
        {"segments": [HASHES[0].hex() + HASHES[1].hex(), "", HASHES[2].hex()]},
    ],
)
def test_a_manifest_that_does_not_agree_with_itself_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    described = Manifest(len(HEADER) + len(BODY), len(HEADER), bytes(32), tuple(HASHES)).described()
    assert Manifest.read(json.dumps(described).encode()).described() == described
    with pytest.raises(ValueError):
        Manifest.read(json.dumps({**described, **change}).encode())
