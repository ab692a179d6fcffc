"""Segments of a stream in any order: nothing counts that is not what was expected."""

import hashlib
from pathlib import Path

import pytest

from services.sl.partials import Manifest, Partial, WrongSegment
from swarm_callback.digest import SEGMENT_BYTES

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
    first.close()
    again = partial(tmp_path, list(HASHES))
    again.recheck()
    assert [again.has(index) for index in range(3)] == [False, True, False]


@pytest.mark.parametrize(
    "change",
    [{"header_size": 7}, {"size": len(HEADER)}, {"segments": [HASHES[0].hex()]}, {"layout": "zz"}, {"size": "x"}],
)
def test_a_manifest_that_does_not_agree_with_itself_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    described = Manifest(len(HEADER) + len(BODY), len(HEADER), bytes(32), tuple(HASHES)).described()
    assert Manifest.read(described).described() == described
    with pytest.raises(ValueError):
        Manifest.read({**described, **change})
