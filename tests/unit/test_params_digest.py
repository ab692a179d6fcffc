"""The digest: known answers computed by hand, and independence of how the stream is cut."""

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_callback.digest import SEGMENT_BYTES, StreamDigest, combine, digest_of_file
from swarm_callback.errors import StreamError

HEADER = b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "
# Computed with coreutils: { printf HEADER | sha256sum -b | xxd -r -p; printf abc | sha256sum | xxd -r -p; } | sha256sum
LAYOUT = "9bbcbf73561f6bc5d0a17ea6a2081feed2d1304e87602d8c502d9a5c4bd85576"
DIGEST_OF_HEADER = "3c5b064ffa58c42b035ed902933431a1e97f2bdb147d3b3bb9618068965d7a17"
DIGEST_OF_ABC = "43ba956da7fa951ede7b060bb26c149b6b524d226efa816acb260e774c1e0790"
BODY = "d"
BODY = bytes(range(256)) * (SEGMENT_BYTES // 256) * 2 + b"rest"


def taken(*pieces: bytes) -> StreamDigest:
    digest = StreamDigest()
    for piece in pieces:
        digest.update(piece)
    return digest


def test_a_stream_without_a_body_has_its_known_digest():
    found = taken(HEADER)
    assert found.segments == []
    assert found.layout.hex() == LAYOUT
    assert found.digest().hex() == DIGEST_OF_HEADER


def test_a_short_body_has_its_known_digest():
    assert taken(HEADER, b"abc").digest().hex() == DIGEST_OF_ABC


def test_the_body_is_hashed_in_segments():
    found = taken(HEADER + BODY)
    cuts = [BODY[:SEGMENT_BYTES], BODY[SEGMENT_BYTES : 2 * SEGMENT_BYTES], b"rest"]
    assert found.segments == [sha256(cut).digest() for cut in cuts]
    assert found.digest() == combine(sha256(HEADER).digest(), [sha256(cut).digest() for cut in cuts])
    assert found.size == len(HEADER) + len(BODY)


def test_a_body_of_whole_segments_has_no_empty_last_one():
    assert len(taken(HEADER + BODY[: 2 * SEGMENT_BYTES]).segments) == 2


@given(st.lists(st.integers(0, len(HEADER) + len(BODY)), max_size=4))
def test_it_does_not_matter_how_the_stream_is_cut(cuts):
    whole = HEADER + BODY
    edges = [0, *sorted(cuts), len(whole)]
    pieces = [whole[start:stop] for start, stop in pairwise(edges)]
    assert taken(*pieces).digest() == taken(whole).digest()


@given(st.lists(st.binary(max_size=5)))
def test_it_does_not_matter_how_the_header_is_cut(pieces):
    whole = HEADER + b"".join(pieces)
    digest = StreamDigest()
    for byte in whole:
        digest.update(bytes([byte]))
    assert digest.digest() == taken(whole).digest()


def test_each_byte_counts():
    assert len({taken(HEADER + body).digest() for body in (b"", b"a", b"b", b"ab", b"ba")}) == 5


def test_a_file_has_the_digest_of_its_bytes(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(HEADER + BODY)
    assert digest_of_file(path).digest() == taken(HEADER + BODY).digest()


def test_a_stream_that_ends_in_its_header_has_no_digest():
    with pytest.raises(StreamError, match="inside its header"):
        taken(HEADER[:-1]).digest()


def test_a_header_that_claims_too_much_is_refused_at_once():
    with pytest.raises(StreamError, match="claims"):
        taken(b"\xff" * 8)
